// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cstddef>
#include <utility>

#include <magr/detail/aligned_buffer.hpp>
#include <magr/kernels/packed_product.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/solver/layer_problem.hpp>

/// The matrix of an iteration: builds the matrix that rows are multiplied by from the layer's H.
namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// A symmetric matrix, in x in, packed for multiplication with many rows.
template <compute_scalar S>
class packed_matrix {
public:
    using tile = kernels::register_tile<S, simd::default_arch>;

    /// Distance between the rows of a matrix to be packed, or of a product: whole panels.
    [[nodiscard]] static constexpr index_t stride_for(index_t n) noexcept { return kernels::round_up(n, tile::cols); }

    /// @param values  n x n with rows `stride_for(n)` elements apart; the padding between them is overwritten
    packed_matrix(aligned_buffer<S> values, index_t n) : values_(std::move(values)), n_(n) {
        const index_t stride = stride_for(n);
        for (index_t i = 0; i < n; ++i) std::fill(values_.data() + i * stride + n, values_.data() + (i + 1) * stride, S(0));
        const aligned_buffer<S> buffer((std::min)(n, kernels::product_blocks<S, simd::default_arch>::depth) * stride);
        kernels::pack_in_place(values_.data(), n, stride, buffer.data());
    }

    /// product <- left * this
    /// @param rows  a multiple of tile::rows; left as made by `kernels::pack_left`; the rows of product are `stride` >= stride_for(n) apart
    void multiply(index_t rows, const S* left, S* product, index_t stride) const noexcept {
        kernels::multiply_packed(rows, n_, stride_for(n_), left, values_.data(), product, stride);
    }

private:
    aligned_buffer<S> values_;
    index_t n_;
};

/// The lower triangle of H_d + V diag(strength) V^T + diag(added), rows `packed_matrix::stride_for` elements apart.
/// @param V  in x r
template <compute_scalar S>
[[nodiscard]] aligned_buffer<S> load_triangle(const layer_problem& problem, const Eigen::MatrixXd& V, const Eigen::ArrayXd& strength,
                                              const Eigen::ArrayXd& added) {
    const index_t n = problem.cols(), stride = packed_matrix<S>::stride_for(n);
    aligned_buffer<S> values(n * stride);
    constexpr index_t tile = 32;  // H is read by columns and written by rows
    double column[static_cast<std::size_t>(tile)];
    for (index_t i0 = 0; i0 < n; i0 += tile)
        for (index_t j0 = 0; j0 <= i0; j0 += tile)
            for (index_t j = j0; j < (std::min)(j0 + tile, n); ++j) {
                const index_t first = (std::max)(i0, j), count = (std::min)(i0 + tile, n) - first;
                problem.load_column(first, j, count, column);
                for (index_t k = 0; k < V.cols(); ++k) {
                    const double factor = strength(k) * V(j, k);
                    for (index_t i = 0; i < count; ++i) column[i] += factor * V(first + i, k);
                }
                if (first == j) column[0] += problem.shift + added(j);
                for (index_t i = 0; i < count; ++i) values.data()[(first + i) * stride + j] = static_cast<S>(column[i]);
            }
    return values;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
