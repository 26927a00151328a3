// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include <magr/detail/contract.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/matrix/scalar.hpp>

namespace magr {

/// How the factorization of a Gram matrix ended.
enum class factorization {
    as_requested,  ///< with the damping asked for
    damped_more,   ///< only with more damping than asked for
    failed         ///< not even with all the damping allowed: the matrix is far from being a Gram matrix
};

/// The factors of a damped Gram matrix, H + shift I = T D T^T with T unit upper triangular and D diagonal.
///
/// T_jk is how much of the error made in column j is given to the later column k, D_k what an error in column k costs once all later
/// columns have made up for it as well as they can.
template <compute_scalar Scalar>
struct feedback_factor {
    factorization status = factorization::failed;
    double damping = 0;          ///< of the last attempt, as a fraction of the mean diagonal entry
    double shift = 0;            ///< of the last attempt, added to the diagonal; unit of H
    int attempts = 0;            ///< factorizations tried
    index_t dead_columns = 0;    ///< columns whose diagonal entry is zero
    matrix<Scalar> feedback;     ///< T^T, so that row k holds the T_jk that flow into column k; n x n, empty if failed
    std::vector<double> pivots;  ///< D, n; 0 for dead columns; unit of H; empty if failed
};

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// One attempt: fills feedback and pivots, or tells that the matrix is not numerically positive definite.
///
/// H = T D T^T runs from the last column to the first; turning the matrix round makes it an ordinary Cholesky factorization, without
/// the inverse of H that the feedback is usually derived from.
template <compute_scalar Scalar, class T>
[[nodiscard]] bool factor_shifted(matrix_view<T> H, std::span<const index_t> order, double shift, double dead_diagonal,
                                  feedback_factor<Scalar>& out) {
    const index_t n = H.cols();
    const auto column = [&](index_t k) { return order[static_cast<std::size_t>(n - 1 - k)]; };
    const auto dead = [&](index_t j) { return static_cast<double>(H(j, j)) == 0; };

    Eigen::MatrixXd turned(n, n);
    for (index_t k = 0; k < n; ++k) {
        const index_t b = column(k);
        turned(k, k) = dead(b) ? dead_diagonal : static_cast<double>(H(b, b)) + shift;
        for (index_t i = k + 1; i < n; ++i) {
            const index_t a = column(i);
            turned(i, k) = dead(a) || dead(b) ? 0 : static_cast<double>(H(std::max(a, b), std::min(a, b)));
        }
    }
    const Eigen::VectorXd diagonal = turned.diagonal();
    const Eigen::LLT<Eigen::Ref<Eigen::MatrixXd>> cholesky(turned);
    if (cholesky.info() != Eigen::Success) return false;

    // a pivot this far below its diagonal entry has lost most of its digits to rounding, and with it the feedback computed from it
    constexpr double smallest = 1e-10;
    bool accepted = true;
    for (index_t k = 0; k < n; ++k) {
        const index_t position = n - 1 - k;
        const double pivot = turned(k, k) * turned(k, k);
        accepted = accepted && pivot >= smallest * diagonal(k);
        out.pivots[static_cast<std::size_t>(position)] = dead(column(k)) ? 0 : pivot;
        Scalar* const row = &out.feedback(position, 0);
        for (index_t i = k + 1; i < n; ++i) row[n - 1 - i] = static_cast<Scalar>(turned(i, k) / turned(k, k));
        row[position] = 1;
        for (index_t j = 0; j < position; ++j) accepted = accepted && std::isfinite(row[j]);
    }
    return accepted;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// Factors H + damping * mean(diag H) I = T D T^T, with more damping where that is not positive definite.
///
/// The damping starts as requested and is multiplied by ten after every failure, from 1e-6 at least up to 1 (the requested one, if that
/// is larger). An attempt fails if the Cholesky factorization does, if a pivot is lost in rounding, D_k < 1e-10 H_kk, or if an entry of
/// T is not finite in Scalar. Columns with H_jj = 0 are dead: they take no part in the mean, are independent of all others, and cost
/// nothing.
///
/// @par Shapes    H: n x n; order: n, the columns of H in the order of the rows and columns of T
/// @pre           H is finite and symmetric, with no negative and at least one positive diagonal entry; damping >= 0 and finite
/// @return        the factors, or status `failed` after the last attempt
/// @par Cost      n^3 / 6 multiply-adds in double per attempt; allocates n^2 doubles and the result
/// @par Numerics  in double, T rounded to Scalar at the end; the lower triangle of H is read; cH gives the same T
/// @par Errors    none; checked entry point: magr::quantize_optq
/// @par Source    LDLQ of QuIP (arXiv 2307.13304); equals the Cholesky factor of the inverse in OPTQ (arXiv 2210.17323) by
///                U = D^-1/2 T^-1. The mean of the diagonal is that of OPTQ except that dead columns, set to 1 there, are left out:
///                they would tie the damping to the scale of H.
template <compute_scalar Scalar, class T>
[[nodiscard]] feedback_factor<Scalar> factor_feedback(matrix_view<T> H, std::span<const index_t> order, double damping) {
    constexpr double first_retry = 1e-6;
    constexpr double last_retry = 1;
    const index_t n = H.cols();
    feedback_factor<Scalar> factor;
    double trace = 0;
    for (index_t j = 0; j < n; ++j) {
        const auto energy = static_cast<double>(H(j, j));
        trace += energy;
        factor.dead_columns += energy == 0 ? 1 : 0;
    }
    const double mean = trace / static_cast<double>(n - factor.dead_columns);
    factor.feedback = matrix<Scalar>(n, n);
    factor.pivots.resize(static_cast<std::size_t>(n));
    for (factor.damping = damping;; factor.damping = std::min(last_retry, std::max(first_retry, 10 * factor.damping))) {
        ++factor.attempts;
        factor.shift = factor.damping * mean;
        if (detail::factor_shifted(H, order, factor.shift, mean, factor)) {
            factor.status = factor.attempts == 1 ? factorization::as_requested : factorization::damped_more;
            return factor;
        }
        if (factor.damping >= last_retry) break;
    }
    factor.feedback = {};
    factor.pivots.clear();
    return factor;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
