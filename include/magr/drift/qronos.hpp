// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include <magr/calibration/hessian.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/detail/validate.hpp>
#include <magr/drift/drift_method.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr {

/// What Qronos rounds its first column from.
enum class qronos_first_step {
    exact,      ///< the best weight while all other columns keep their original weights
    projection  ///< the best weight together with all others: a column like any other
};

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(qronos_first_step step) noexcept {
    switch (step) {
        case qronos_first_step::exact: return "exact";
        case qronos_first_step::projection: return "projection";
    }
    return "unknown";
}

/// The unit of the damping of Qronos.
enum class qronos_damping_unit {
    largest_eigenvalue,  ///< of H, as in the published code
    mean                 ///< of diag(H) over live columns, as in OPTQ
};

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(qronos_damping_unit unit) noexcept {
    switch (unit) {
        case qronos_damping_unit::largest_eigenvalue: return "largest_eigenvalue";
        case qronos_damping_unit::mean: return "mean";
    }
    return "unknown";
}

inline namespace MAGR_ISA_NAMESPACE {

/// Qronos: each column makes up for the drift of the inputs and for the errors of the columns before it.
///
/// Approximately solves min_Q ||X W^T - Y Q^T||_F^2, column by column. With v = w at first,
///
///   q_k = argmin_p ||X w - sum_{j < k} q_j Y_j - p Y_k - sum_{j > k} v_j Y_j||        on the grid
///   v_{> k} = argmin_v ||X w - sum_{j <= k} q_j Y_j - sum_{j > k} v_j Y_j||
///
/// That is OPTQ on the least-squares fit t = W + W C (H + lambda I)^-1, except that the first live column k is rounded from
/// w_k + (W C)_k / H_kk. With `projection` that column is rounded from t as well, and the bound of OPTQ holds for t: without damping, and
/// if no weight is clipped, ||X W^T - Y Q^T||^2 exceeds its least value by at most sum_i s_i^2 / 4 tr D, where H = T D T^T and s_i is the
/// scale of row i.
///
/// lambda is the damping, or more if H cannot be factored with it. The first step is not damped. Without drift and with the damping of OPTQ
/// the codes are those of OPTQ with `dead_columns::zero`.
///
/// @par Cost      n^3 / 3 + 2 rows n^2 multiply-adds beyond those of the rounding, and for a unit of `largest_eigenvalue` 10-40 n^2, once
///                per `hessian`; allocates the terms, two matrices of H's size and one of W's in double, and 192 rows per worker
/// @par Numerics  t in double, rounded to Scalar; T as `factor_feedback`; the same bits for every executor
/// @par Source    arXiv 2505.11695, equations 3 and 4. The projection, the unit of the damping and its default are those of the published
///                code, which we know from descriptions only
struct qronos {
    double damping = 1e-6;                                               ///< added to diag(H), in the unit below, >= 0
    qronos_damping_unit unit = qronos_damping_unit::largest_eigenvalue;  ///< of the damping
    qronos_first_step first_step = qronos_first_step::exact;             ///< what the first column is rounded from
    bool raise_damping = true;                                           ///< whether to increase the damping if that is too little

    template <compute_scalar Scalar>
    [[nodiscard]] std::optional<drift_terms<Scalar>> make(const detail::matrix_ref& W, const hessian& H, const detail::matrix_ref& C,
                                                          std::span<const index_t> order, executor_ref exec) const;
};

/// Every problem of these options; empty if there is none.
[[nodiscard]] MAGR_CORE std::vector<std::string> problems(const qronos& options);

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/drift/qronos_impl.hpp>
#endif
