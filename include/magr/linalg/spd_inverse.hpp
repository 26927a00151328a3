// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>

#include <magr/detail/contract.hpp>
#include <magr/linalg/block_row.hpp>
#include <magr/linalg/cholesky_block.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr::linalg {
inline namespace MAGR_ISA_NAMESPACE {

/// Inverse of a symmetric positive definite matrix in place: A = L L^T, A^-1 = L^-T L^-1.
///
/// One sweep over blocks of 384 columns (192 below 2048, 96 below 1024) builds the factor, its inverse and the product of the inverses.
/// With block 1 on the diagonal, 0 before it and 2 after it,
///
///     A11 = L11 L11^T                                                        the block on the diagonal
///     X0 = L11^-1 A10,  X2 = L11^-1 A21^T,                                   in parallel over columns of X
///         A10 <- L11^-T X0,  A21 <- -(L11^-T X2)^T,  A11 <- L11^-T L11^-1
///     A00 <- A00 + X0^T X0,  A20 <- A20 - X2^T X0,  A22 <- A22 - X2^T X2     in parallel over tiles
///
/// so that X0 holds rows of L^-1, X2 columns of L, and every step is one product of the size of the whole triangle.
///
/// @param A       symmetric; its lower triangle is read, both triangles of the result are written, bit for bit symmetric
/// @par Shapes    A: n x n, any strides; fastest with contiguous rows
/// @return        whether all pivots were positive and finite and T can hold the inverse; if not, the numbers in A mean nothing
/// @par Errors    shape_error if A is not square
/// @par Cost      n^3 / 2 multiply-adds; allocates 2 blocks of columns, at most 768 n numbers, and 48 KB per worker
/// @par Numerics  ||A M - I|| <= about n eps cond(A); the same bits for every executor
/// @par Source    Bientinesi, Gunter and van de Geijn, Families of algorithms related to the inversion of a symmetric positive definite
///                matrix, ACM TOMS 35(1), 2008: the one-sweep algorithm
template <compute_scalar T>
[[nodiscard]] bool spd_inverse(matrix_view<T> A, executor_ref exec = {}) {
    using block = detail::cholesky_block<T>;
    if (A.rows() != A.cols()) detail::raise<shape_error>(detail::concat("spd_inverse: A must be square, it is ", detail::shape_text(A)));
    const index_t n = A.cols();
    block diagonal(n);
    const index_t side = diagonal.side();
    const detail::block_row<T> X(side, n > side ? n : 0);
    const detail::aligned_buffer<T> panels(exec.concurrency() * diagonal.panel_size());
    for (index_t first = 0; first < n; first += side) {
        const detail::index_range here{first, (std::min)(side, n - first)};
        const matrix_view<T> A11 = A.block(first, first, here.size, here.size);
        if (!diagonal.factor(A11) || !diagonal.has_finite_inverse()) return false;

        const detail::pieces_around strips(n, here, X.strip);
        exec.parallel_for(strips.count(), [&](index_t task, index_t worker) {
            T* const panel = panels.data() + worker * diagonal.panel_size();
            const detail::index_range strip = strips[task];
            const bool before = task < strips.before();
            for (index_t j = strip.begin; j < strip.end(); j += block::cols) {
                const index_t wide = (std::min)(block::cols, strip.end() - j);
                const auto columns = before ? A.block(first, j, here.size, wide) : A.block(j, first, wide, here.size).transposed();
                diagonal.load(columns, X.panel(j));
                diagonal.forward(X.panel(j));
                std::copy_n(X.panel(j), diagonal.padded() * block::cols, panel);
                diagonal.backward(panel);
                diagonal.store(panel, before ? T(1) : T(-1), columns);
            }
            X.pack_left(strip, here.size, before ? T(1) : T(-1));
        });
        exec.parallel_for((here.size + block::cols - 1) / block::cols, [&](index_t task, index_t worker) {
            T* const panel = panels.data() + worker * diagonal.panel_size();
            const index_t j = task * block::cols;
            diagonal.inverse(j, panel);
            for (index_t i = j; i < here.size; ++i)
                for (index_t c = 0; c < (std::min)(block::cols, i - j + 1); ++c) A11(i, j + c) = panel[i * block::cols + c];
        });
        X.update(A, detail::pieces_around(n, here, X.side), 0, here.size, exec);
    }
    constexpr index_t square = 32;  // transposed in the cache, so that each line of A is walked once
    exec.parallel_for((n + square - 1) / square, [&](index_t task, index_t) {
        const index_t i0 = task * square, high = (std::min)(square, n - i0);
        T turned[static_cast<std::size_t>(square * square)];
        for (index_t j0 = 0; j0 <= i0; j0 += square) {
            const index_t wide = (std::min)(square, n - j0);
            for (index_t i = 0; i < high; ++i)
                for (index_t j = 0; j < wide; ++j) turned[j * square + i] = A(i0 + i, j0 + j);
            for (index_t j = 0; j < wide; ++j)
                for (index_t i = j0 == i0 ? j : 0; i < high; ++i) A(j0 + j, i0 + i) = turned[j * square + i];
        }
    });
    return detail::is_finite(matrix_view<const T>(A));
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::linalg
