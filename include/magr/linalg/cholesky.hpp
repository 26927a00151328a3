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

/// How many numbers `cholesky` allocates for an n x n matrix.
template <compute_scalar T>
[[nodiscard]] constexpr index_t cholesky_elements(index_t n) noexcept {
    const index_t side = detail::cholesky_block<T>::side_for(n);
    return detail::cholesky_block<T>::elements(n) + detail::block_row<T>::elements(side, n > side ? n : 0);
}

/// Cholesky factorization in place, A = L L^T with L lower triangular.
///
/// Blocks of 384 columns (192 below 2048, 96 below 1024), one after another:
///
///     A11 = L11 L11^T          the block on the diagonal
///     L21 = A21 L11^-T         in parallel over rows
///     A22 <- A22 - L21 L21^T   in parallel over tiles of the lower triangle
///
/// @param A       symmetric; its lower triangle is read and becomes L, the strict upper triangle is left alone
/// @par Shapes    A: n x n, any strides; fastest with contiguous rows
/// @return        whether all pivots were positive and finite; if not, the numbers in the lower triangle mean nothing
/// @par Errors    shape_error if A is not square
/// @par Cost      n^3 / 6 multiply-adds; allocates 2 blocks of columns, at most 768 n numbers
/// @par Numerics  ||A - L L^T|| <= about n eps ||A||, whatever the condition number; the same bits for every executor
/// @par Source    Golub and Van Loan, Matrix Computations, section 4.2; the bound: Higham, Accuracy and Stability of Numerical
///                Algorithms, 2nd edition, theorem 10.3
template <compute_scalar T>
[[nodiscard]] bool cholesky(matrix_view<T> A, executor_ref exec = {}) {
    using block = detail::cholesky_block<T>;
    if (A.rows() != A.cols()) detail::raise<shape_error>(detail::concat("cholesky: A must be square, it is ", detail::shape_text(A)));
    const index_t n = A.cols();
    block diagonal(n);
    const index_t side = diagonal.side();
    const detail::block_row<T> X(side, n > side ? n : 0);  // L21^T
    for (index_t first = 0; first < n; first += side) {
        const detail::index_range here{first, (std::min)(side, n - first)};
        const matrix_view<T> A11 = A.block(first, first, here.size, here.size);
        if (!diagonal.factor(A11)) return false;
        diagonal.store(A11);

        const detail::pieces_around strips(n, here, X.strip);
        exec.parallel_for(strips.count() - strips.before(), [&](index_t task, index_t) {
            const detail::index_range strip = strips[strips.before() + task];
            for (index_t j = strip.begin; j < strip.end(); j += block::cols) {
                const matrix_view<T> columns = A.block(j, first, (std::min)(block::cols, strip.end() - j), here.size).transposed();
                diagonal.load(columns, X.panel(j));
                diagonal.forward(X.panel(j));
                diagonal.store(X.panel(j), T(1), columns);
            }
            X.pack_left(strip, here.size, T(-1));
        });
        const detail::pieces_around pieces(n, here, X.side);
        X.update(A, pieces, pieces.before(), here.size, exec);
    }
    return true;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::linalg
