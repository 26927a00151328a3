// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>

#include <magr/kernels/multiply_add.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/matrix/scalar.hpp>

namespace magr {
namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// to <- to - factor * from
template <compute_scalar T>
inline void subtract(T* to, T factor, const T* from, index_t count) noexcept {
    for (index_t j = 0; j < count; ++j) to[j] -= factor * from[j];
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

namespace linalg {
inline namespace MAGR_ISA_NAMESPACE {

/// How many rows are solved one by one; rows of other blocks enter through products.
inline constexpr index_t triangular_block = 48;

/// Solves L X = B in place: B <- L^-1 B.
///
/// @param L       lower triangular; entries above the diagonal are not read
/// @par Shapes    L: n x n, any strides; B: n x m, contiguous rows
/// @param scratch product_blocks<T>::scratch elements
/// @pre           no diagonal entry of L is 0
/// @par Cost      n^2 / 2 * m multiply-adds; noexcept
/// @par Numerics  a column of X depends only on its own column of B
template <compute_scalar T>
inline void solve_lower(matrix_view<const T> L, matrix_view<T> B, T* scratch) noexcept {
    MAGR_ASSERT(L.rows() == L.cols() && B.rows() == L.rows() && B.col_stride() == 1);
    const index_t n = L.rows(), m = B.cols();
    for (index_t first = 0; first < n; first += triangular_block) {
        const index_t end = (std::min)(first + triangular_block, n);
        kernels::multiply_add(B.block(first, 0, end - first, m), -1.0, L.block(first, 0, end - first, first),
                              matrix_view<const T>(B).block(0, 0, first, m), scratch);
        for (index_t i = first; i < end; ++i) {
            T* const row = B.data() + i * B.row_stride();
            for (index_t k = first; k < i; ++k) detail::subtract(row, L(i, k), B.data() + k * B.row_stride(), m);
            for (index_t j = 0; j < m; ++j) row[j] /= L(i, i);
        }
    }
}

/// Solves L^T X = B in place: B <- L^-T B. Otherwise like `solve_lower`.
template <compute_scalar T>
inline void solve_lower_transposed(matrix_view<const T> L, matrix_view<T> B, T* scratch) noexcept {
    MAGR_ASSERT(L.rows() == L.cols() && B.rows() == L.rows() && B.col_stride() == 1);
    const index_t n = L.rows(), m = B.cols();
    for (index_t end = n; end > 0;) {
        const index_t first = (end - 1) / triangular_block * triangular_block;
        kernels::multiply_add(B.block(first, 0, end - first, m), -1.0, L.block(end, first, n - end, end - first).transposed(),
                              matrix_view<const T>(B).block(end, 0, n - end, m), scratch);
        for (index_t i = end - 1; i >= first; --i) {
            T* const row = B.data() + i * B.row_stride();
            for (index_t k = i + 1; k < end; ++k) detail::subtract(row, L(k, i), B.data() + k * B.row_stride(), m);
            for (index_t j = 0; j < m; ++j) row[j] /= L(i, i);
        }
        end = first;
    }
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace linalg
}  // namespace magr
