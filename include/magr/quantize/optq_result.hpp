// SPDX-License-Identifier: MIT
#pragma once

#include <optional>

#include <magr/feedback/factor_precision.hpp>
#include <magr/grid/quantized_matrix.hpp>
#include <magr/quantize/quantization_status.hpp>

namespace magr {

/// How an OPTQ quantization went.
struct optq_report {
    quantization_status status = quantization_status::failed;  ///< what was done
    double damping = 0;                                        ///< of the last attempt, as a fraction of the mean diagonal entry
    double diagonal_floor = 0;                                 ///< of the last attempt: no entry of diag(H) was below it; unit of H
    int attempts = 0;                                          ///< number of dampings and floors tried
    factor_precision precision = factor_precision::float64;    ///< in which H was factored: float64 or float32
    index_t dead_inputs = 0;                                   ///< columns with H_jj <= dead_threshold * mean
    index_t clipped = 0;              ///< weights of live columns more than half a step outside of their grid when they were rounded
    storage_limits limits;            ///< grids at the ends of what their storage type can hold
    std::optional<double> loss = {};  ///< tr((Q - W) (H + diag(added)) (Q - W)^T) / 2, if OPTQ ran; unit of H times that of W squared
    /// upper bound of `loss` if nothing was clipped: half the sum of D_k (s/2)^2, or of D_k s^2 if stochastic
    std::optional<double> loss_bound = {};
    std::optional<double> output_error = {};  ///< tr((Q - W) H (Q - W)^T) / tr(W H W^T), if it was measured

    /// Whether the bound held; no value if it does not apply, because weights were clipped or OPTQ did not run.
    [[nodiscard]] MAGR_ALWAYS_INLINE std::optional<bool> bound_held() const noexcept {
        if (clipped > 0 || (status != quantization_status::as_requested && status != quantization_status::damped_more)) return std::nullopt;
        return *loss <= *loss_bound * (1 + 1e-4);  // each step is rounded to the precision of the weights
    }
};

/// Outcome of `quantize_optq`.
template <compute_scalar Scalar>
struct [[nodiscard]] optq_result : optq_report {
    quantized_matrix<Scalar> quantized;  ///< empty (0 x 0) if `status` says that nothing was quantized

    /// Whether there is a quantized matrix.
    [[nodiscard]] explicit operator bool() const noexcept { return !quantized.codes.empty(); }
};

}  // namespace magr
