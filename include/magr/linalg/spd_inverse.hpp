// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>

#include <magr/detail/contract.hpp>
#include <magr/kernels/multiply_add.hpp>
#include <magr/linalg/cholesky_block.hpp>
#include <magr/parallel/executor.hpp>

namespace magr::linalg {
inline namespace MAGR_ISA_NAMESPACE {

/// Inverse of a symmetric positive definite matrix in place: A = L L^T, A^-1 = L^-T L^-1.
///
/// Factor, its inverse and the product of the inverses grow in one sweep over blocks of 192 columns. Where block 1 is on the diagonal, 0 is
/// before and 2 behind it,
///
///     A11 = L11 L11^T                                                    the block on the diagonal
///     X = L11^-1 [A10, A21^T],  A10 <- L11^-T X0,  A21 <- -(L11^-T X2)^T,  A11 <- L11^-T L11^-1    in parallel over the columns of X
///     A00 <- A00 + X0^T X0,  A20 <- A20 - X2^T X0,  A22 <- A22 - X2^T X2                          in parallel over tiles
///
/// so that X0 holds rows of L^-1, X2 columns of L, and every step is one product of the size of the whole triangle.
///
/// @param A       symmetric; its lower triangle is read, both triangles of the result are written, bit for bit symmetric
/// @par Shapes    A: n x n, any strides; fastest with contiguous rows
/// @return        whether all pivots were positive and finite; if not, A holds numbers of no use
/// @par Errors    shape_error if A is not square
/// @par Cost      n^3 / 2 multiply-adds; allocates 192 n numbers, and working memory of kernels::multiply_add per worker
/// @par Numerics  ||A M - I|| <= about n eps cond(A); the same bits for every executor
/// @par Source    Bientinesi, Gunter and van de Geijn, Families of algorithms related to the inversion of a symmetric positive definite
///                matrix, ACM TOMS 35(1), 2008: the one-sweep algorithm
template <compute_scalar T, executor Executor = serial_executor>
[[nodiscard]] bool spd_inverse(matrix_view<T> A, Executor&& exec = {}) {
    using block = detail::cholesky_block<T>;
    if (A.rows() != A.cols()) detail::raise<shape_error>(detail::concat("spd_inverse: A must be square, it is ", detail::shape_text(A)));
    const index_t n = A.cols();
    constexpr index_t scratch_size = kernels::product_blocks<T, simd::default_arch>::scratch;
    const auto scratch = detail::uninitialized<T>(static_cast<index_t>(exec.concurrency()) * scratch_size);
    const auto solved = detail::uninitialized<T>(block::side * n);
    block diagonal;
    for (index_t first = 0; first < n; first += block::side) {
        const index_t size = std::min(block::side, n - first);
        if (!diagonal.factor(A.block(first, first, size, size))) return false;
        const matrix_view<T> X(solved.get(), size, n);

        const detail::pieces_around strips(n, {first, size}, 4 * block::cols);
        exec.parallel_for(strips.count() + 1, [&](index_t task, index_t worker) {
            T* const panel = scratch.get() + worker * scratch_size;
            const bool on_diagonal = task == strips.count(), before = task < strips.before();
            const detail::index_range strip = on_diagonal ? detail::index_range{first, size} : strips[task];
            for (index_t j = strip.begin; j < strip.begin + strip.size; j += block::cols) {
                const index_t wide = std::min(block::cols, strip.begin + strip.size - j);
                if (on_diagonal) {
                    std::fill_n(panel, diagonal.padded() * block::cols, T(0));
                    for (index_t c = 0; c < wide; ++c) panel[(j - first + c) * block::cols + c] = 1;
                } else {
                    diagonal.load(before ? A.block(first, j, size, wide) : A.block(j, first, wide, size).transposed(), panel);
                }
                diagonal.forward(panel);
                if (!on_diagonal)
                    for (index_t k = 0; k < size; ++k) std::copy_n(panel + k * block::cols, wide, &X(k, j));
                diagonal.backward(panel);
                if (before || on_diagonal) {
                    for (index_t k = 0; k < size; ++k)
                        for (index_t c = 0; c < wide && j + c <= first + k; ++c) A(first + k, j + c) = panel[k * block::cols + c];
                } else {
                    for (index_t c = 0; c < wide; ++c)
                        for (index_t k = 0; k < size; ++k) A(j + c, first + k) = -panel[k * block::cols + c];
                }
            }
        });

        const detail::pieces_around tiles(n, {first, size}, 384);
        exec.parallel_for(tiles.count() * (tiles.count() + 1) / 2, [&](index_t task, index_t worker) {
            index_t i = 0;
            for (; task > i; task -= i) ++i;
            const detail::index_range rows = tiles[i], cols = tiles[task];
            kernels::multiply_add<T, T, T>(A.block(rows.begin, cols.begin, rows.size, cols.size), i < tiles.before() ? T(1) : T(-1),
                                           X.block(0, rows.begin, size, rows.size).transposed(), X.block(0, cols.begin, size, cols.size),
                                           scratch.get() + worker * scratch_size, i == task ? 0 : kernels::whole);
        });
    }
    constexpr index_t square = 32;  // of the transposition: neither side is walked across its memory order over long distances
    exec.parallel_for((n + square - 1) / square, [&](index_t task, index_t) {
        const index_t last = std::min(n, (task + 1) * square);
        for (index_t j0 = 0; j0 <= task * square; j0 += square)
            for (index_t j = j0; j < std::min(j0 + square, last); ++j)
                for (index_t i = std::max(task * square, j + 1); i < last; ++i) A(j, i) = A(i, j);
    });
    return true;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::linalg
