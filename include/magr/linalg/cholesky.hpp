// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <vector>

#include <magr/detail/contract.hpp>
#include <magr/kernels/multiply_add.hpp>
#include <magr/linalg/cholesky_block.hpp>
#include <magr/parallel/executor.hpp>

namespace magr::linalg {
inline namespace MAGR_ISA_NAMESPACE {

/// Cholesky factorization in place, A = L L^T with L lower triangular.
///
/// Blocks of 192 columns one after another: the block on the diagonal, A11 = L11 L11^T, then L21 = A21 L11^-T in parallel over its rows,
/// then A22 <- A22 - L21 L21^T in parallel over tiles of its lower triangle.
///
/// @param A       symmetric; its lower triangle is read and becomes L, the strict upper triangle is left alone
/// @par Shapes    A: n x n, any strides; fastest with contiguous rows
/// @return        whether all pivots were positive and finite; if not, the lower triangle holds numbers of no use
/// @par Errors    shape_error if A is not square
/// @par Cost      n^3 / 6 multiply-adds; allocates 192 n numbers, and working memory of kernels::multiply_add per worker
/// @par Numerics  ||A - L L^T|| <= about n eps ||A||, whatever the condition number; the same bits for every executor
/// @par Source    Golub and Van Loan, Matrix Computations, section 4.2.6; the bound: Higham, Accuracy and Stability of Numerical
///                Algorithms, 2nd edition, theorem 10.3
template <compute_scalar T, executor Executor = serial_executor>
[[nodiscard]] bool cholesky(matrix_view<T> A, Executor&& exec = {}) {
    using block = detail::cholesky_block<T>;
    if (A.rows() != A.cols()) detail::raise<shape_error>(detail::concat("cholesky: A must be square, it is ", detail::shape_text(A)));
    const index_t n = A.cols();
    constexpr index_t scratch_size = kernels::product_blocks<T, simd::default_arch>::scratch;
    const auto scratch = detail::uninitialized<T>(static_cast<index_t>(exec.concurrency()) * scratch_size);
    const auto solved = detail::uninitialized<T>(block::side * n);  // L21^T
    block diagonal;
    for (index_t first = 0; first < n; first += block::side) {
        const index_t size = std::min(block::side, n - first), behind = first + size;
        if (!diagonal.factor(A.block(first, first, size, size))) return false;
        diagonal.store(A.block(first, first, size, size));
        const index_t rest = n - behind;
        const matrix_view<T> X(solved.get(), size, rest);
        const matrix_view<T> below = A.block(behind, first, rest, size);

        const detail::pieces_around strips(rest, {}, 4 * block::cols);
        exec.parallel_for(strips.count(), [&](index_t task, index_t worker) {
            T* const panel = scratch.get() + worker * scratch_size;
            const detail::index_range strip = strips[task];
            for (index_t j = strip.begin; j < strip.begin + strip.size; j += block::cols) {
                const index_t wide = std::min(block::cols, strip.begin + strip.size - j);
                diagonal.load(below.block(j, 0, wide, size).transposed(), panel);
                diagonal.forward(panel);
                for (index_t k = 0; k < size; ++k) std::copy_n(panel + k * block::cols, wide, &X(k, j));
                for (index_t c = 0; c < wide; ++c)
                    for (index_t k = 0; k < size; ++k) below(j + c, k) = panel[k * block::cols + c];
            }
        });

        const detail::pieces_around tiles(rest, {}, 384);
        exec.parallel_for(tiles.count() * (tiles.count() + 1) / 2, [&](index_t task, index_t worker) {
            index_t i = 0;
            for (; task > i; task -= i) ++i;
            const detail::index_range rows = tiles[i], cols = tiles[task];
            kernels::multiply_add<T, T, T>(A.block(behind + rows.begin, behind + cols.begin, rows.size, cols.size), T(-1),
                                           X.block(0, rows.begin, size, rows.size).transposed(), X.block(0, cols.begin, size, cols.size),
                                           scratch.get() + worker * scratch_size, i == task ? 0 : kernels::whole);
        });
    }
    return true;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::linalg
