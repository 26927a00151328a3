// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>

#include <magr/detail/aligned_buffer.hpp>
#include <magr/kernels/packed_product.hpp>
#include <magr/solver/packed_matrix.hpp>
#include <magr/solver/row_energies.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// The working memory of one worker: rows that are solved together, so that they stay in cache while a matrix of H's size passes by.
template <compute_scalar S>
class row_tile {
public:
    static constexpr index_t capacity = 96;
    static_assert(capacity % packed_matrix<S>::tile::rows == 0);

    row_tile(index_t cols, index_t groups)
        : cols_(cols), stride_(packed_matrix<S>::stride_for(cols) + packed_matrix<S>::tile::cols), memory_(elements(cols, groups)) {}

    /// Number of elements that a tile allocates.
    [[nodiscard]] static index_t elements(index_t cols, index_t groups) {
        const index_t stride = packed_matrix<S>::stride_for(cols) + packed_matrix<S>::tile::cols;
        return (4 * capacity + 2) * stride + capacity * cols + capacity * groups + energy_block * capacity + energy_scratch<S>;
    }

    // for each row: its weights, its point, and its dual variable (before the prox: the argument of the prox); for each slot: a product
    [[nodiscard]] S* w0(index_t r) const noexcept { return memory_.data() + r * stride_; }
    [[nodiscard]] S* z(index_t r) const noexcept { return w0(capacity + r); }
    [[nodiscard]] S* u(index_t r) const noexcept { return w0(2 * capacity + r); }
    [[nodiscard]] S* product(index_t slot) const noexcept { return w0(3 * capacity + slot); }
    // of the current row: a direction whose product with H is known, and that product
    [[nodiscard]] S* y() const noexcept { return w0(4 * capacity); }
    [[nodiscard]] S* g() const noexcept { return w0(4 * capacity + 1); }
    // the packed rows of a product; at other times scratch for two rows
    [[nodiscard]] S* left() const noexcept { return w0(4 * capacity + 2); }
    [[nodiscard]] S* thresholds(index_t r, index_t groups) const noexcept { return left() + capacity * cols_ + r * groups; }

    /// product <- (its current rows) * matrix
    void multiply(const packed_matrix<S>& matrix, index_t count) const noexcept {
        constexpr index_t step = packed_matrix<S>::tile::rows;
        const index_t rows = kernels::round_up(count, step);
        for (index_t r = 0; r < count; r += step)
            kernels::pack_left(matrix_view<const S>(product(r), (std::min)(step, count - r), cols_, stride_), rows, r, left());
        matrix.multiply(rows, left(), product(0), stride_);
    }

    /// energy_r = x_r^T H x_r / lambda_max for the first `count` rows of `product`
    void measure(const layer_problem& problem, index_t count, double* energy) const {
        S* const block = thresholds(capacity, problem.groups());
        row_energies(problem, matrix_view<const S>(product(0), count, cols_, stride_), energy, block, block + energy_block * capacity);
    }

private:
    index_t cols_, stride_;
    aligned_buffer<S> memory_;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
