// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>

#include <magr/kernels/multiply_add.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/preprocess/layer_problem.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

inline constexpr index_t energy_block = 192;  ///< inputs at a time in `row_energies`

/// energy_r = x_r^T H x_r / lambda_max for every row of X, by block rows of the lower triangle of H: half the multiplications of X H.
///
/// @param product  energy_block * rows elements
/// @param scratch  product_blocks<S>::scratch elements
template <compute_scalar S, class Gram>
void row_energies(const layer_problem<Gram>& problem, matrix_view<const S> X, double* energy, S* product, S* scratch) {
    const index_t rows = X.rows();
    std::fill(energy, energy + rows, 0.0);
    for (index_t first = 0; first < problem.cols(); first += energy_block) {
        const index_t size = (std::min)(energy_block, problem.cols() - first);
        const matrix_view<S> block(product, size, rows);
        std::fill(product, product + size * rows, S(0));
        if (first > 0)
            kernels::multiply_add(block, 2 * problem.scale, problem.H.block(first, 0, size, first), X.block(0, 0, rows, first).transposed(),
                                  scratch);
        kernels::multiply_add(block, problem.scale, problem.H.block(first, first, size, size), X.block(0, first, rows, size).transposed(),
                              scratch);
        for (index_t k = 0; k < size; ++k)
            for (index_t r = 0; r < rows; ++r) energy[r] += static_cast<double>(X(r, first + k)) * static_cast<double>(block(k, r));
    }
    for (index_t r = 0; r < rows; ++r) energy[r] *= problem.unit;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
