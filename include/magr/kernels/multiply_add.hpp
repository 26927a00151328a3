// SPDX-License-Identifier: MIT
#pragma once

#include <magr/kernels/panels.hpp>

/// Products of matrices of any strides and storage types, built from register tiles. The caller provides memory for packed operands.
namespace magr::kernels {
inline namespace MAGR_ISA_NAMESPACE {

/// Sizes of the blocks of a product: blocks of A stay in the second-level cache, a panel of B in the first-level cache.
template <class T, class Arch>
struct product_blocks {
    static constexpr index_t depth = 384;
    static constexpr index_t rows = block_side;
    static constexpr index_t cols = 1024;
    static_assert(rows % register_tile<T, Arch>::rows == 0 && cols % register_tile<T, Arch>::cols == 0);
    /// Number of elements of scratch memory that `multiply_add` needs.
    static constexpr index_t scratch = (rows + cols) * depth;
    /// The same if C has no more columns than this.
    [[nodiscard]] static constexpr index_t scratch_for(index_t columns) noexcept {
        return (rows + (columns < cols ? round_up(columns, register_tile<T, Arch>::cols) : cols)) * depth;
    }
};

/// C <- C + factor A B, only in elements with j <= i + diagonal if a diagonal is given: 0 is the lower triangle.
///
/// @par Shapes    C: m x n, A: m x k, B: k x n; any strides, A and B of any storage type. Fastest if the rows of C are contiguous, or its
///                columns if no diagonal is given
/// @param scratch product_blocks<T, Arch>::scratch elements, or scratch_for(n) if the rows of C are contiguous
/// @par Numerics  every element is a sum over blocks of 384 k, each summed in order: its bits do not depend on the other rows and columns
template <class T, class A, class B, class Arch = simd::default_arch>
inline void multiply_add(matrix_view<T> C, double factor, matrix_view<const A> a, matrix_view<const B> b, T* scratch,
                         index_t diagonal = whole, Arch arch = {}) noexcept {
    using tile = register_tile<T, Arch>;
    using blocks = product_blocks<T, Arch>;
    if (C.col_stride() != 1 && C.row_stride() == 1 && diagonal == whole)
        return multiply_add(C.transposed(), factor, b.transposed(), a.transposed(), scratch, whole, arch);
    const index_t m = C.rows(), n = C.cols(), depth = a.cols();
    const auto least = [](index_t x, index_t y) { return x < y ? x : y; };
    T* const left = scratch;
    T* const right = scratch + blocks::rows * blocks::depth;

    for (index_t j0 = 0; j0 < n; j0 += blocks::cols) {
        const index_t cols = least(blocks::cols, n - j0);
        for (index_t k0 = 0; k0 < depth; k0 += blocks::depth) {
            const index_t d = least(blocks::depth, depth - k0);
            for (index_t j = 0; j < cols; j += tile::cols)
                pack_panel<tile::cols>(b.block(k0, j0 + j, d, least(tile::cols, cols - j)).transposed(), 1.0, right + j * d);
            for (index_t i0 = 0; i0 < m; i0 += blocks::rows) {
                const index_t rows = least(blocks::rows, m - i0);
                if (diagonal != whole && j0 > i0 + rows - 1 + diagonal) continue;
                for (index_t i = 0; i < rows; i += tile::rows)
                    pack_panel<tile::rows>(a.block(i0 + i, k0, least(tile::rows, rows - i), d), factor, left + i * d);
                multiply_panels(C.block(i0, j0, rows, cols), d, left, right, d, diagonal == whole ? whole : diagonal + i0 - j0, arch);
            }
        }
    }
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::kernels
