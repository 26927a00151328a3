// SPDX-License-Identifier: MIT
#pragma once

#include <limits>
#include <type_traits>

#include <magr/kernels/register_tile.hpp>

/// Operands in the order in which register tiles read them: panels of as many rows of A, or columns of B, as a tile has.
namespace magr::kernels {
inline namespace MAGR_ISA_NAMESPACE {

/// Side of the squares that `copy_transposed` copies: 16 bytes, which is one register almost everywhere; elsewhere compilers split it.
template <class T>
inline constexpr index_t transposed_side = 16 / sizeof(T);

/// Copies a square of `transposed_side<T>` rows, `stride` elements apart: element (r, k) goes to out[k * width + r], times `factor`.
template <class T>
MAGR_ALWAYS_INLINE void copy_transposed(const T* from, index_t stride, T factor, T* out, index_t width) noexcept {
    typedef T row __attribute__((vector_size(16)));
    constexpr index_t side = transposed_side<T>;
    static_assert(side == 2 || side == 4);
    row in[static_cast<std::size_t>(side)];
    for (index_t r = 0; r < side; ++r) __builtin_memcpy(&in[r], from + r * stride, sizeof(row));
    const auto write = [&](index_t k, row column) {
        column *= factor;
        __builtin_memcpy(out + k * width, &column, sizeof(row));
    };
    if constexpr (side == 2) {
        write(0, __builtin_shufflevector(in[0], in[1], 0, 2));
        write(1, __builtin_shufflevector(in[0], in[1], 1, 3));
    } else {
        const row even_first = __builtin_shufflevector(in[0], in[2], 0, 4, 1, 5),
                  odd_first = __builtin_shufflevector(in[1], in[3], 0, 4, 1, 5);
        const row even_last = __builtin_shufflevector(in[0], in[2], 2, 6, 3, 7),
                  odd_last = __builtin_shufflevector(in[1], in[3], 2, 6, 3, 7);
        write(0, __builtin_shufflevector(even_first, odd_first, 0, 4, 1, 5));
        write(1, __builtin_shufflevector(even_first, odd_first, 2, 6, 3, 7));
        write(2, __builtin_shufflevector(even_last, odd_last, 0, 4, 1, 5));
        write(3, __builtin_shufflevector(even_last, odd_last, 2, 6, 3, 7));
    }
}

/// Copies V, at most `Width` rows, for `multiply_tile`: element (r, k) goes to out[k * Width + r], times `factor`; missing rows are zero.
///
/// The left operand is packed directly, the right one transposed. Numbers of a wider type than T are multiplied before they are narrowed.
template <index_t Width, class T, class U>
inline void pack_panel(matrix_view<const U> V, double factor, T* out) noexcept {
    using wide = std::conditional_t<std::is_same_v<U, double>, double, T>;
    const index_t rows = V.rows();
    const index_t depth = V.cols();
    const U* const data = V.data();
    const auto f = static_cast<wide>(factor);
    const auto value = [&](index_t at) { return static_cast<T>(f * static_cast<wide>(data[at])); };
    struct one {
        constexpr operator index_t() const noexcept { return 1; }
    };
    const auto fill = [&](auto row_stride, auto col_stride) {
        if (rows == Width) {
            index_t k = 0;
            constexpr index_t side = transposed_side<T>;
            if constexpr (std::is_same_v<T, U> && std::is_same_v<decltype(col_stride), one> && Width >= side)
                for (; k + side <= depth; k += side)
                    for (index_t r = 0; r < Width; r += side) {
                        const index_t first = r + side <= Width ? r : Width - side;  // the last square may overlap the one before it
                        copy_transposed(data + first * row_stride + k, row_stride, f, out + k * Width + first, Width);
                    }
            for (; k < depth; ++k)
                for (index_t r = 0; r < Width; ++r) out[k * Width + r] = value(r * row_stride + k * col_stride);
            return;
        }
        for (index_t k = 0; k < depth; ++k)
            for (index_t r = 0; r < Width; ++r) out[k * Width + r] = r < rows ? value(r * row_stride + k * col_stride) : T(0);
    };
    if (V.row_stride() == 1)
        fill(one{}, V.col_stride());
    else if (V.col_stride() == 1)
        fill(V.row_stride(), one{});
    else
        fill(V.row_stride(), V.col_stride());
}

/// Packs columns of X as the left operand X^T, from their panels as a right operand.
///
/// @param right    whole panels of X; that of column j is at right + j * pitch
/// @param columns  at most `block_side`
/// @param left     the panel that begins with column i goes to left + i * pitch
template <class T, class Arch = simd::default_arch>
inline void repack_left(const T* right, index_t pitch, index_t columns, index_t depth, T factor, T* left, Arch = {}) noexcept {
    using tile = register_tile<T, Arch>;
    static_assert(block_side % tile::rows == 0 && block_side % tile::cols == 0);
    MAGR_ASSERT(columns >= 0 && columns <= block_side);
    T row[block_side] = {};
    for (index_t k = 0; k < depth; ++k) {
        for (index_t j = 0; j < columns; j += tile::cols)
            for (index_t c = 0; c < tile::cols; ++c) row[j + c] = right[j * pitch + k * tile::cols + c];
        for (index_t i = 0; i < columns; i += tile::rows)
            for (index_t r = 0; r < tile::rows; ++r) left[i * pitch + k * tile::rows + r] = factor * row[i + r];
    }
}

/// No limit: every element of a result is computed.
inline constexpr index_t whole = (std::numeric_limits<index_t>::max)();

/// C <- C + A B of packed operands, only in elements with j <= i + diagonal if a diagonal is given: 0 is the lower triangle.
///
/// @param left   the panel of A that begins with row i at left + i * pitch
/// @param right  the panel of B that begins with column j at right + j * pitch
template <class T, class Arch = simd::default_arch>
inline void multiply_panels(matrix_view<T> C, index_t depth, const T* left, const T* right, index_t pitch, index_t diagonal = whole,
                            Arch arch = {}) noexcept {
    using tile = register_tile<T, Arch>;
    constexpr index_t lanes = simd::pack_traits<T, Arch>::lanes;
    const auto least = [](index_t x, index_t y) { return x < y ? x : y; };
    // how many of the columns j.. are needed in row i, at most `count`
    const auto wanted = [&](index_t i, index_t j, index_t count) { return diagonal == whole ? count : least(count, i + diagonal - j + 1); };
    for (index_t j = 0; j < C.cols(); j += tile::cols) {
        // while the rows pass one panel of B, each tile prefetches its share of the next one
        const T* const next = right + (j + tile::cols < C.cols() ? j + tile::cols : 0) * pitch;
        const index_t share = depth * tile::cols / ((C.rows() + tile::rows - 1) / tile::rows);
        for (index_t i = 0; i < C.rows(); i += tile::rows) {
            const index_t high = least(tile::rows, C.rows() - i), wide = least(tile::cols, C.cols() - j);
            const T* const a = left + i * pitch;
            const T* const b = right + j * pitch;
            const index_t most = wanted(i + high - 1, j, wide);
            if (most <= 0) continue;
            if (C.col_stride() == 1 && high == tile::rows && wanted(i, j, wide) == tile::cols) {
                multiply_tile(depth, a, b, &C(i, j), C.row_stride(), arch, next + i / tile::rows * share, share);
                continue;
            }
            T sums[tile::rows * tile::cols] = {};
            if (most <= lanes)
                multiply_tile<1>(depth, a, b, sums, tile::cols, arch);
            else
                multiply_tile(depth, a, b, sums, tile::cols, arch);
            for (index_t r = 0; r < high; ++r) {
                const index_t count = wanted(i + r, j, wide), step = C.col_stride();
                T* const to = C.data() + (i + r) * C.row_stride() + j * step;
                for (index_t c = 0; c < count; ++c) to[c * step] += sums[r * tile::cols + c];
            }
        }
    }
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::kernels
