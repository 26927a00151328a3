// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <optional>
#include <span>
#include <utility>

#include <magr/calibration/hessian.hpp>
#include <magr/feedback/feedback_factor.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

/// How the error of one column is passed on to the columns that are rounded after it: a function object whose `make<Scalar>(H, order,
/// exec)` returns T^T, or nothing if H does not allow it.
///
///   q_k = round(w_k + sum_{j < k} (w_j - q_j) T_jk)        columns in the given order
///
/// T^T is n x n and unit lower triangular: row k holds the T_jk that flow into column k. `order` lists the columns of H in the order in
/// which they are rounded. Errors in dead inputs cost nothing, so T_jk is 0 where j or k is dead.
template <class F, class Scalar>
concept error_feedback =
    compute_scalar<Scalar> && requires(const F& feedback, const hessian& H, std::span<const index_t> order, executor_ref exec) {
        { feedback.template make<Scalar>(H, order, exec) } -> std::same_as<std::optional<matrix<Scalar>>>;
    };

/// The feedback of OPTQ: T of H + damping mean(diag H) I = T D T^T, which keeps the remaining columns at their least-squares optimum.
///
/// @par Source    LDLQ of QuIP (arXiv 2307.13304), which makes the same decisions as OPTQ (arXiv 2210.17323)
struct ldl_feedback {
    double damping = 1e-2;      ///< added to diag(H), as a fraction of its mean over live columns, >= 0
    bool raise_damping = true;  ///< whether to increase the damping if that is too little, see `factor_feedback`

    template <compute_scalar Scalar>
    [[nodiscard]] std::optional<matrix<Scalar>> make(const hessian& H, std::span<const index_t> order, executor_ref exec) const {
        auto factor = factor_feedback<Scalar>(H.live().view(), order, {.damping = damping, .raise_damping = raise_damping}, exec);
        if (factor.status == factor_status::failed) return std::nullopt;
        return std::move(factor.feedback);
    }
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
