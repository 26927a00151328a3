// SPDX-License-Identifier: MIT
#pragma once

#include <magr/kernels/multiply_add.hpp>

/// Products of many left operands with the same right one, which is packed once and then only read in order.
namespace magr::kernels {
inline namespace MAGR_ISA_NAMESPACE {

/// Repacks B in place. Blocks of `product_blocks::depth` rows keep their place. Inside a block, panels of `register_tile::cols` columns
/// follow each other, each stored by rows.
///
/// @param b       k x cols, rows `cols` elements apart; cols a multiple of register_tile<T, Arch>::cols
/// @param buffer  product_blocks<T, Arch>::depth * cols elements
template <class T, class Arch = simd::default_arch>
inline void pack_in_place(T* b, index_t depth, index_t cols, T* buffer, Arch = {}) noexcept {
    constexpr index_t width = register_tile<T, Arch>::cols;
    constexpr index_t block = product_blocks<T, Arch>::depth;
    for (index_t k0 = 0; k0 < depth; k0 += block) {
        const index_t d = depth - k0 < block ? depth - k0 : block;
        T* const rows = b + k0 * cols;
        for (index_t i = 0; i < d * cols; ++i) buffer[i] = rows[i];
        for (index_t j = 0; j < cols; j += width)
            pack_panel<width>(matrix_view<const T>(buffer + j, d, width, cols).transposed(), 1.0, rows + j * d);
    }
}

/// Packs `register_tile::rows` rows of a left operand: puts each block of `product_blocks::depth` columns where `multiply_packed` expects
/// it.
///
/// @param a     the rows, fewer only if they are the last ones: at most register_tile<T, Arch>::rows x depth
/// @param rows  of the whole left operand, a multiple of register_tile<T, Arch>::rows
/// @param row   index of the first row of a in it
/// @param left  rows * depth elements
template <class T, class U, class Arch = simd::default_arch>
inline void pack_left(matrix_view<const U> a, index_t rows, index_t row, T* left, Arch = {}) noexcept {
    constexpr index_t block = product_blocks<T, Arch>::depth;
    for (index_t k0 = 0; k0 < a.cols(); k0 += block) {
        const index_t d = a.cols() - k0 < block ? a.cols() - k0 : block;
        pack_panel<register_tile<T, Arch>::rows>(a.block(0, k0, a.rows(), d), 1.0, left + k0 * rows + row * d);
    }
}

/// C <- A B with both operands packed.
///
/// @param rows  of A and C, a multiple of register_tile<T, Arch>::rows
/// @param cols  of B and C, a multiple of register_tile<T, Arch>::cols
/// @param c     rows x cols, rows `stride` elements apart
/// @par Numerics  as `multiply_add`: a row of C depends on its own row of A alone
template <class T, class Arch = simd::default_arch>
inline void multiply_packed(index_t rows, index_t depth, index_t cols, const T* left, const T* right, T* c, index_t stride,
                            Arch arch = {}) noexcept {
    constexpr index_t block = product_blocks<T, Arch>::depth;
    const matrix_view<T> C(c, rows, cols, stride);
    for (index_t i = 0; i < rows; ++i)
        for (index_t j = 0; j < cols; ++j) C(i, j) = T(0);
    for (index_t k0 = 0; k0 < depth; k0 += block) {
        const index_t d = depth - k0 < block ? depth - k0 : block;
        multiply_panels(C, d, left + k0 * rows, right + k0 * cols, d, whole, arch);
    }
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::kernels
