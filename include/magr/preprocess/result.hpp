// SPDX-License-Identifier: MIT
#pragma once

#include <magr/matrix/matrix_view.hpp>

namespace magr {

/// Why an iteration ended.
enum class stop_reason {
    converged,        ///< the certified relative duality gap is at most the tolerance
    iteration_limit,  ///< all iterations were done, or all that the authors' method prescribes
    cancelled,        ///< the observer said stop
    not_factored,     ///< nothing was done: H + rho D is not positive definite, H is far from being a Gram matrix
};

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(stop_reason reason) noexcept {
    switch (reason) {
        case stop_reason::converged: return "converged";
        case stop_reason::iteration_limit: return "iteration_limit";
        case stop_reason::cancelled: return "cancelled";
        case stop_reason::not_factored: return "not_factored";
    }
    return "unknown";
}

/// What `preprocess` did. W0 are the weights passed in, W those returned.
///
/// The objective of a row is  P = 1/2 (w - w0)^T H_d (w - w0) + alpha * sum over its groups of ||w_g||_inf,  with
/// H_d = (H + damping mean(diag H) I) / lambda_max(H).
///
/// The gap bounds the distance to the optimum up to rounding: with float weights P and its bound may be off by about 1e-6 of P [measured on
/// real layers], so that a smaller gap, even 0, says no more than 1e-6 does.
struct [[nodiscard]] preprocess_result {
    stop_reason stopped = stop_reason::iteration_limit;
    index_t iterations = 0;  ///< of the rows that took most
    double products = 0;     ///< multiplications of a row with a matrix of H's size, mean over the rows; iterations and all measurements
    double objective = 0;    ///< P summed over the rows
    double objective_before = 0;  ///< the same at W0
    double gap = 0;               ///< certified bound of (objective - optimum) / objective, both summed over the rows
    double largest_gap = 0;       ///< the same of the worst single row
    double mean_gap = 0;          ///< the same, mean over the rows
    double linf_before = 0;       ///< max |W0_ij|
    double linf_after = 0;        ///< max |W_ij|
    double mean_linf_before = 0;  ///< mean over rows and groups of ||w0_g||_inf
    double mean_linf_after = 0;   ///< mean over rows and groups of ||w_g||_inf
    double output_error = 0;      ///< tr((W - W0) H (W - W0)^T) / tr(W0 H W0^T) with the undamped H; 0 if W = W0
    double alpha = 0;             ///< the penalty that was used
    double damping = 0;           ///< the damping that was used
    double rho = 0;               ///< the step that admm used
    double lambda_max = 0;        ///< largest eigenvalue of H: the unit of alpha; infinite if it is too large for a double
};

}  // namespace magr
