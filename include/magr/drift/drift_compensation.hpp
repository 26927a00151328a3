// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include <magr/calibration/hessian.hpp>
#include <magr/calibration/live_gram.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/detail/validate.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr {

/// Options of `compensate_drift`.
struct drift_options {
    double fraction = 0.5;      ///< fraction of the drift to compensate, in [0, 1]; 1 also fits noise of the calibration
    double damping = 0.1;       ///< added to diag(H), as a fraction of its mean over live columns, >= 0
    double dead_threshold = 0;  ///< columns with H_jj <= this fraction of the mean are dead and keep their weights; in [0, 1)
};

/// What `compensate_drift` did.
struct [[nodiscard]] drift_result {
    /// if false, W is unchanged: all inputs are dead, H + damping mean(diag H) I has no Cholesky factor, or numbers overflowed
    bool compensated = false;
    double change = 0;  ///< ||W' - W||_F / ||W||_F over live columns
};

inline namespace MAGR_ISA_NAMESPACE {

/// Every problem of these options; empty if there is none.
[[nodiscard]] MAGR_CORE std::vector<std::string> problems(const drift_options& options);

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// The change of weights that makes up for drift: fraction (W D + R) (H + mean diag(damping))^-1, zero in dead inputs.
///
/// @param R        null for none
/// @param damping  of each input, as a fraction of the mean diagonal entry of live ones; those of dead inputs do not count
/// @return         rows x inputs, not necessarily finite; nothing if the damped matrix has no Cholesky factor
/// @pre            D is finite
MAGR_LARGE_CORE [[nodiscard]] std::optional<matrix<double>> drift_change(const matrix_ref& W, const live_gram& H, const matrix_ref& D,
                                                                         const matrix_ref* R, double fraction,
                                                                         std::span<const double> damping, executor_ref exec);

MAGR_LARGE_CORE drift_result run_compensate_drift(const mutable_matrix_ref& W, const gram_argument& H, const matrix_ref& D,
                                                  const matrix_ref* R, const drift_options& options, executor_ref exec);

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/drift/drift_compensation_impl.hpp>
#endif
