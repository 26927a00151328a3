// SPDX-License-Identifier: MIT
#pragma once

#include <optional>

#include <magr/grid/quantized_matrix.hpp>
#include <magr/preprocess/result.hpp>
#include <magr/quantize/optq_result.hpp>
#include <magr/quantize/quantization_status.hpp>
#include <magr/refine/refinement_result.hpp>

namespace magr {

/// Outcome of `quantize_layer`. Output errors are tr((V - W) H (V - W)^T) / tr(W H W^T) with the original weights W.
template <compute_scalar Scalar>
struct [[nodiscard]] layer_result {
    quantized_matrix<Scalar> quantized;                        ///< empty (0 x 0) if `status` says that nothing was quantized
    quantization_status status = quantization_status::failed;  ///< what was done
    std::optional<index_t> tokens;                             ///< calibration tokens seen, if known
    index_t dead_inputs = 0;                      ///< by the largest `dead_threshold` of the options, which holds for all steps
    std::optional<preprocess_result> preprocess;  ///< how MagR went, if it ran
    std::optional<optq_report> optq;              ///< how OPTQ went, if it ran; its errors are relative to the weights that it rounded
    /// all rounds together, if there were any; passes are those of codes. Both losses use the damping of codes, or that of scales if codes
    /// are not refined
    std::optional<refinement_result> refinement;
    index_t clipped = 0;                     ///< weights of live columns more than half a step outside of their grid when they were rounded
    storage_limits limits;                   ///< grids at the ends of what their storage type can hold
    std::optional<double> output_error_rtn;  ///< of the original weights, rounded to nearest on grids of their own, if measured
    std::optional<double> output_error_preprocessed;  ///< of the output of MagR, before any rounding, if it ran
    std::optional<double> output_error;               ///< of the result, if there is one

    /// Whether there is a quantized matrix.
    [[nodiscard]] explicit operator bool() const noexcept { return !quantized.codes.empty(); }
};

}  // namespace magr
