// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include <magr/config.hpp>
#include <magr/grid/weight_grids.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr {

/// A quantized weight matrix: integer codes and the grids that give them meaning.
///
/// Columns are in the order of the matrix that was quantized, whatever the order of processing.
///
/// @tparam Scalar type of scales and of the dequantized weights
template <compute_scalar Scalar>
struct quantized_matrix : weight_grids<Scalar> {
    matrix<std::uint8_t> codes;  ///< rows x cols

    /// The weights that the codes represent, rows x cols.
    /// @par Numerics  with integer zero points code - zero is exact, so each weight is rounded once; otherwise twice. The same bits for
    ///                every executor
    /// @par Cost      O(rows * cols), allocates the result
    [[nodiscard]] MAGR_ALWAYS_INLINE matrix<Scalar> dequantize(executor_ref exec = {}) const;
};

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar Scalar>
[[nodiscard]] matrix<Scalar> dequantize(const quantized_matrix<Scalar>& q, executor_ref exec);

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

// inlined into every caller: this type may cross translation units, so it must leave no symbol that depends on the instruction set
template <compute_scalar Scalar>
MAGR_ALWAYS_INLINE matrix<Scalar> quantized_matrix<Scalar>::dequantize(executor_ref exec) const {
    return detail::dequantize(*this, exec);
}

}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/grid/quantized_matrix_impl.hpp>
#endif
