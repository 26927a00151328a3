// SPDX-License-Identifier: MIT
#pragma once

#include <span>

#include <magr/matrix/matrix_view.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

/// Rounds the weights of one column in some rows: a function object of (column, first row, weights, rounded).
///
/// It reads `weights` and writes what it rounds them to into `rounded`; element i of both is row `first_row + i`. If it has a member
/// `prepare(column, window)`, that is called before each column, with a `sequential_window` of the same rows. With an executor it is called
/// by several threads at once, each time for other rows.
template <class Q, class Scalar>
concept column_quantizer = requires(Q& quantizer, index_t column, index_t first_row, std::span<const Scalar> weights,
                                    std::span<Scalar> rounded) { quantizer(column, first_row, weights, rounded); };

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
