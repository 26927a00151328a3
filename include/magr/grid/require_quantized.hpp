// SPDX-License-Identifier: MIT
#pragma once

#include <magr/detail/contract.hpp>
#include <magr/detail/text.hpp>
#include <magr/error.hpp>
#include <magr/grid/grid.hpp>
#include <magr/grid/quantized_matrix.hpp>
#include <magr/grid/weight_grids.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/matrix/scalar.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

/// Refuses what is not a quantized rows x cols matrix, such as codes that a program has read from a file of its own.
/// @par Errors    shape_error; those of `require_grids`; value_error if a code is outside of its grid
template <compute_scalar Scalar>
void require_quantized(const char* function, const quantized_matrix<Scalar>& q, index_t rows, index_t cols) {
    detail::require_shape(function, "Q.codes", q.codes.view(), rows, cols);
    require_grids(function, q, rows, cols);
    const int largest = q.levels.empty() ? largest_code(q.bits) : static_cast<int>(q.levels.size()) - 1;
    for (index_t i = 0; i < rows; ++i)
        for (index_t j = 0; j < cols; ++j)
            if (q.codes(i, j) > largest)
                detail::raise<value_error>(detail::concat(function, ": Q.codes must be in 0..", largest, ", entry (row ", i, ", column ", j,
                                                          ") is ", static_cast<int>(q.codes(i, j))));
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
