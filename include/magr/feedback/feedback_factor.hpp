// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <vector>

#include <magr/detail/matrix_ref.hpp>
#include <magr/feedback/factor_precision.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr {

/// The outcome of the factorization of a Gram matrix.
enum class factor_status {
    as_requested,  ///< with the damping asked for
    damped_more,   ///< only with more damping than asked for, or with a floor under the diagonal
    failed         ///< not even with all the damping allowed: the matrix is far from being a Gram matrix
};

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(factor_status outcome) noexcept {
    switch (outcome) {
        case factor_status::as_requested: return "as_requested";
        case factor_status::damped_more: return "damped_more";
        case factor_status::failed: return "failed";
    }
    return "unknown";
}

/// How to factor a Gram matrix.
struct factor_options {
    double damping = 1e-2;                                     ///< added to diag(H), as a fraction of its mean over live columns, >= 0
    double dead_threshold = 0;                                 ///< columns with H_jj <= this fraction of the mean are dead, in [0, 1)
    bool raise_damping = true;                                 ///< whether to increase the damping if the first attempt fails
    factor_precision precision = factor_precision::automatic;  ///< of the factorization
};

/// The factors of a damped Gram matrix, H + diag(added) = T D T^T with T unit upper triangular and D diagonal.
///
/// T_jk is the share of the error of column j that is passed on to the later column k. D_k is the cost of an error in column k once all
/// later columns have compensated for it as well as they can.
template <compute_scalar Scalar>
struct feedback_factor {
    factor_status status = factor_status::failed;
    double damping = 0;         ///< of the last attempt, as a fraction of the mean diagonal entry
    double diagonal_floor = 0;  ///< of the last attempt: smaller entries of diag(H) were raised to it; unit of H
    int attempts = 0;           ///< number of dampings and floors tried
    factor_precision precision = factor_precision::float64;  ///< of the last attempt: float64 or float32
    std::vector<index_t> dead;                               ///< the dead columns, ascending, in the order of H
    matrix<Scalar> feedback;     ///< T^T, so that row k holds the T_jk that flow into column k; n x n, empty if failed
    std::vector<double> pivots;  ///< D, n; 0 for dead columns; unit of H; empty if failed
    std::vector<double> added;   ///< the number added to each diagonal entry, n, in the order of T; 0 for dead columns; empty if failed
};

inline namespace MAGR_ISA_NAMESPACE {

/// Factors H + damping * mean(diag H) I = T D T^T, with more damping if that is not positive definite.
///
/// The damping starts as requested. After every failure it is multiplied by ten, from 1e-6 at least up to 1 (or the requested damping, if
/// that is larger). If that does not help either, diagonal entries are raised to a floor of 1e-6, 1e-5, .. 0.1 of the largest one: where a
/// few inputs are far larger than all others, the mean is small compared with the rounding errors that these inputs cause. An attempt fails
/// if the Cholesky factorization does, if a pivot is lost in rounding, D_k < 1e-10 H_kk (1e-4 in float), or if an entry of T is not finite
/// in Scalar. Dead columns do not enter the mean, are independent of all others, and cost nothing; if all are dead, T is the identity.
/// `automatic` factors in float until an attempt fails, and repeats that attempt in double with the same damping; all later attempts are in
/// double.
///
/// @par Shapes    H: n x n; order: n, the columns of H in the order of the rows and columns of T
/// @pre           H is finite and symmetric, with no negative diagonal entry, as that of a `hessian`; not checked
/// @return        the factors, or status `failed` after the last attempt
/// @par Cost      n^3 / 6 multiply-adds per attempt, in parallel; allocates n^2 numbers of the chosen precision, the memory of
///                linalg::cholesky, and the result
/// @par Numerics  in the chosen precision, T rounded to Scalar at the end; rounding errors in T enter an output error squared; only the
///                lower triangle of H is read; cH gives the same T; the same bits for every executor
/// @par Errors    shape_error; option_error; value_error if `order` is not an order of all columns
/// @par Source    LDLQ of QuIP (arXiv 2307.13304); equals the Cholesky factor of the inverse in OPTQ (arXiv 2210.17323) by U = D^-1/2 T^-1.
///                The mean of the diagonal is that of OPTQ, but without dead columns. OPTQ sets these to 1, which would tie the damping to
///                the scale of H.
template <compute_scalar Scalar>
[[nodiscard]] feedback_factor<Scalar> factor_feedback(const detail::matrix_ref& H, std::span<const index_t> order,
                                                      const factor_options& options, executor_ref exec = {});

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/feedback/feedback_factor_impl.hpp>
#endif
