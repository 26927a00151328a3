// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>

#include <magr/kernels/multiply_add.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/solver/layer_problem.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

inline constexpr index_t energy_block = 192;  ///< inputs at a time in `row_energies`

/// Elements of working memory that `row_energies` needs, for products and a block of H.
template <compute_scalar S>
inline constexpr index_t energy_scratch =
    (3 * kernels::product_blocks<S, simd::default_arch>::rows + energy_block) * kernels::product_blocks<S, simd::default_arch>::depth;

/// energy_r = x_r^T H x_r / lambda_max for every row of X, by block rows of the lower triangle of H: half the multiplications of X H.
///
/// @param product  energy_block * rows elements
/// @param scratch  energy_scratch<S> elements
/// @pre            at most 2 * product_blocks<S>::rows rows
template <compute_scalar S>
void row_energies(const layer_problem& problem, matrix_view<const S> X, double* energy, S* product, S* scratch) {
    using blocks = kernels::product_blocks<S, simd::default_arch>;
    const index_t rows = X.rows();
    // product <- product + factor * a block of H * X^T
    const auto add_product = [&](matrix_view<S> to, double factor, index_t first, index_t size, index_t begin, index_t depth) {
        const auto right = [&](index_t k, index_t d) { return X.block(0, k, rows, d).transposed(); };
        if (problem.H.holds<S>())
            return kernels::multiply_add(to, factor, problem.H.as<S>().block(first, begin, size, depth), right(begin, depth), scratch);
        S* const converted = scratch + 3 * blocks::rows * blocks::depth;
        for (index_t k = begin; k < begin + depth; k += blocks::depth) {
            const index_t d = (std::min)(blocks::depth, begin + depth - k);
            double column[static_cast<std::size_t>(energy_block)];
            for (index_t j = 0; j < d; ++j) {
                problem.H.load_column(first, k + j, size, column);
                for (index_t i = 0; i < size; ++i) converted[j * size + i] = static_cast<S>(factor * column[i]);
            }
            kernels::multiply_add(to, 1.0, matrix_view<const S>(converted, size, d, size, matrix_layout::col_major), right(k, d), scratch);
        }
    };
    std::fill(energy, energy + rows, 0.0);
    for (index_t first = 0; first < problem.cols(); first += energy_block) {
        const index_t size = (std::min)(energy_block, problem.cols() - first);
        const matrix_view<S> block(product, size, rows);
        std::fill(product, product + size * rows, S(0));
        if (first > 0) add_product(block, 2 * problem.scale, first, size, 0, first);
        add_product(block, problem.scale, first, size, first, size);
        for (index_t k = 0; k < size; ++k)
            for (index_t r = 0; r < rows; ++r) energy[r] += static_cast<double>(X(r, first + k)) * static_cast<double>(block(k, r));
    }
    for (index_t r = 0; r < rows; ++r) energy[r] *= problem.unit;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
