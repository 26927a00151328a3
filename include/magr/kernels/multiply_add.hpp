// SPDX-License-Identifier: MIT
#pragma once

#include <limits>
#include <type_traits>

#include <magr/kernels/register_tile.hpp>

/// Products of matrices of any strides and storage types, out of register tiles. Memory for packed operands comes from the caller.
namespace magr::kernels {
inline namespace MAGR_ISA_NAMESPACE {

/// Copies V, at most `Width` rows, for `multiply_tile`: element (r, k) goes to out[k * Width + r], times `factor`; missing rows are zero.
///
/// The left operand is packed as it is, the right one transposed. Numbers of a wider type than T are multiplied before they are narrowed.
template <index_t Width, class T, class U>
inline void pack_panel(matrix_view<const U> V, double factor, T* out) noexcept {
    using wide = std::conditional_t<std::is_same_v<U, double>, double, T>;
    const index_t rows = V.rows();
    const index_t depth = V.cols();
    const U* const data = V.data();
    const auto f = static_cast<wide>(factor);
    const auto value = [&](index_t at) { return static_cast<T>(f * static_cast<wide>(data[at])); };
    const auto fill = [&](auto row_stride, auto col_stride) {
        if (rows == Width) {
            for (index_t k = 0; k < depth; ++k)
                for (index_t r = 0; r < Width; ++r) out[k * Width + r] = value(r * row_stride + k * col_stride);
            return;
        }
        for (index_t k = 0; k < depth; ++k)
            for (index_t r = 0; r < Width; ++r) out[k * Width + r] = r < rows ? value(r * row_stride + k * col_stride) : T(0);
    };
    struct one {
        constexpr operator index_t() const noexcept { return 1; }
    };
    if (V.row_stride() == 1)
        fill(one{}, V.col_stride());
    else if (V.col_stride() == 1)
        fill(V.row_stride(), one{});
    else
        fill(V.row_stride(), V.col_stride());
}

/// Sizes of the blocks of a product: those of A stay in the second level of cache, a panel of B in the first.
template <class T, class Arch>
struct product_blocks {
    static constexpr index_t depth = 384;
    static constexpr index_t rows = 96;
    static constexpr index_t cols = 1024;
    static_assert(rows % register_tile<T, Arch>::rows == 0 && cols % register_tile<T, Arch>::cols == 0);
    /// Elements that `multiply_add` needs as working memory.
    static constexpr index_t scratch = (rows + cols) * depth;
};

/// Every element of a result is wanted.
inline constexpr index_t whole = std::numeric_limits<index_t>::max();

/// C <- C + factor A B, only in elements with j <= i + diagonal if a diagonal is given: 0 is the lower triangle.
///
/// @par Shapes    C: m x n, A: m x k, B: k x n; any strides, A and B of any storage type. Fastest where the rows of C are contiguous, or
///                its columns if all elements are wanted
/// @param scratch product_blocks<T, Arch>::scratch elements
/// @par Numerics  every element is a sum over blocks of 384 k, each summed in order: the same bits whatever the other rows and columns are
template <class T, class A, class B, class Arch = simd::default_arch>
inline void multiply_add(matrix_view<T> C, double factor, matrix_view<const A> a, matrix_view<const B> b, T* scratch,
                         index_t diagonal = whole, Arch arch = {}) noexcept {
    using tile = register_tile<T, Arch>;
    using blocks = product_blocks<T, Arch>;
    if (C.col_stride() != 1 && C.row_stride() == 1 && diagonal == whole)
        return multiply_add(C.transposed(), factor, b.transposed(), a.transposed(), scratch, whole, arch);
    const index_t m = C.rows(), n = C.cols(), depth = a.cols();
    const auto wanted = [&](index_t i, index_t j) { return diagonal == whole || j <= i + diagonal; };
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
                if (!wanted(i0 + rows - 1, j0)) continue;
                for (index_t i = 0; i < rows; i += tile::rows)
                    pack_panel<tile::rows>(a.block(i0 + i, k0, least(tile::rows, rows - i), d), factor, left + i * d);
                for (index_t j = 0; j < cols; j += tile::cols)
                    for (index_t i = 0; i < rows; i += tile::rows) {
                        const index_t high = least(tile::rows, rows - i), wide = least(tile::cols, cols - j);
                        const index_t row = i0 + i, col = j0 + j;
                        if (!wanted(row + high - 1, col)) continue;
                        const T* const panel_a = left + i * d;
                        const T* const panel_b = right + j * d;
                        if (C.col_stride() == 1 && high == tile::rows && wide == tile::cols && wanted(row, col + wide - 1)) {
                            multiply_tile(d, panel_a, panel_b, &C(row, col), C.row_stride(), arch);
                            continue;
                        }
                        T sums[tile::rows * tile::cols] = {};
                        multiply_tile(d, panel_a, panel_b, sums, tile::cols, arch);
                        for (index_t r = 0; r < high; ++r)
                            for (index_t c = 0; c < wide; ++c)
                                if (wanted(row + r, col + c)) C(row + r, col + c) += sums[r * tile::cols + c];
                    }
            }
        }
    }
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::kernels
