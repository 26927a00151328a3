// SPDX-License-Identifier: MIT
#pragma once

#include <magr/matrix/matrix_view.hpp>

namespace magr {

/// Why an iteration ended.
enum class stop_reason {
    converged,        ///< the certified relative duality gap of every row is at most the tolerance
    iteration_limit,  ///< all iterations were done, or all that the authors' method prescribes
    cancelled,        ///< the observer asked to stop
    not_factored,     ///< nothing was done: H + rho D is not positive definite, so H is far from being a Gram matrix
    overflowed,       ///< rows with weights above 1e150 were left unchanged: their energies overflow a double
    rounding_limit,   ///< the iteration reached the tolerance, but the type of W cannot hold a result that close: see the gaps
};

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(stop_reason reason) noexcept {
    switch (reason) {
        case stop_reason::converged: return "converged";
        case stop_reason::iteration_limit: return "iteration_limit";
        case stop_reason::cancelled: return "cancelled";
        case stop_reason::not_factored: return "not_factored";
        case stop_reason::overflowed: return "overflowed";
        case stop_reason::rounding_limit: return "rounding_limit";
    }
    return "unknown";
}

/// What `preprocess` did. W0 are the weights passed in, W those returned. All numbers describe W as it is stored, rounded to its type.
///
/// The objective of a row is  P = 1/2 (w - w0)^T H_d (w - w0) + alpha * sum over its groups of ||w_g||_inf,  with
/// H_d = (H + damping mean(diag H) I) / lambda_max(H). Weights of dead inputs, those with H_jj = 0, enter none of the numbers.
///
/// The gaps bound the distance to the optimum, including the effect of rounding. Rows whose energies float cannot resolve to a sixteenth of
/// the tolerance are solved in double.
struct preprocess_result {
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
    double rho = 0;               ///< the step of admm for most rows
    index_t directions = 0;       ///< how many dominating directions of H the metric of admm holds
    index_t rows_in_double = 0;   ///< how many rows were solved in double although the type of W is smaller
    double lambda_max = 0;        ///< largest eigenvalue of H: the unit of alpha; infinite if it overflows a double
};

}  // namespace magr
