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

/// The weights whose drift GPTAQ makes up for.
enum class gptaq_weights {
    working,  ///< what a column is rounded from, as in the published code
    original  ///< those passed in, whose output is to be restored
};

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(gptaq_weights weights) noexcept {
    switch (weights) {
        case gptaq_weights::working: return "working";
        case gptaq_weights::original: return "original";
    }
    return "unknown";
}

inline namespace MAGR_ISA_NAMESPACE {

/// GPTAQ: OPTQ in which each column also hands on the drift of its input to those after it. With H + lambda I = T D T^T,
///
///   v_k = w_k + sum_{j < k} (q_j - v_j) (T^-1)_jk + sum_{j < k} v_j P_jk,   q_k = round(v_k)        P = S T^-1
///   S = alpha times the strict upper triangle of C T^-T D^-1
///
/// With `original` weights, the second sum is that of w_j P_jk. Written as terms, these are
///
///   working:   t = W + W S (T - S)^-1,   feedback I + (T - I) (I - S)^-1
///   original:  t = W + W S T^-1 = W + W P,   feedback T
///
/// Without drift the codes are those of OPTQ with `dead_columns::zero`. Only columns that are rounded after a dead one make up for its
/// input.
///
/// Nothing is returned if H cannot be factored or a number is too large for Scalar.
///
/// @par Cost      7 n^3 / 6 + 3 rows n^2 / 2 multiply-adds beyond those of the rounding, n^3 / 2 less for `original`; allocates the
///                terms, four matrices of H's size and one of W's in double, and 192 rows per worker
/// @par Numerics  in double, with T rounded to Scalar; the same bits for every executor
/// @par Source    GPTAQ (arXiv 2504.02692), as its published code is described: with U, H^-1 = U^T U, P is alpha times the strict upper
///                triangle of C U^T, times U. That code uses rounded weights across blocks, so that its codes depend on the block size;
///                these do not. The closed form of the terms is ours
struct gptaq {
    double alpha = 0.25;                             ///< share of the drift that is handed on, in [0, 1]
    double damping = 1e-2;                           ///< added to diag(H), as a fraction of its mean over live columns, >= 0
    gptaq_weights weights = gptaq_weights::working;  ///< whose drift is handed on
    bool raise_damping = true;                       ///< whether to increase the damping if that is too little

    template <compute_scalar Scalar>
    [[nodiscard]] std::optional<drift_terms<Scalar>> make(const detail::matrix_ref& W, const hessian& H, const detail::matrix_ref& C,
                                                          std::span<const index_t> order, executor_ref exec) const;
};

/// Every problem of these options; empty if there is none.
[[nodiscard]] MAGR_CORE std::vector<std::string> problems(const gptaq& options);

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/drift/gptaq_impl.hpp>
#endif
