// SPDX-License-Identifier: MIT
#pragma once

#include <optional>

#include <magr/grid/quantized_matrix.hpp>
#include <magr/preprocess/result.hpp>
#include <magr/quantize/optq_result.hpp>
#include <magr/refine/refinement_result.hpp>

namespace magr {

/// What `quantize_layer` did.
enum class layer_status {
    as_requested,          ///< everything that the options ask for
    damped_more,           ///< the same, but OPTQ needed more damping
    rounded_to_nearest,    ///< H was unusable: plain rounding of the original weights, as `factor_fallback::round_to_nearest` allows
    too_few_tokens,        ///< nothing: H is from fewer tokens than `minimum_tokens`
    dead_columns_refused,  ///< nothing: there are dead columns, which `dead_columns::refuse` forbids
    failed,                ///< nothing: H could not be factored as far as `fallback` allows
    overflowed             ///< nothing: weights or errors left the range of numbers
};

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(layer_status status) noexcept {
    switch (status) {
        case layer_status::as_requested: return "as_requested";
        case layer_status::damped_more: return "damped_more";
        case layer_status::rounded_to_nearest: return "rounded_to_nearest";
        case layer_status::too_few_tokens: return "too_few_tokens";
        case layer_status::dead_columns_refused: return "dead_columns_refused";
        case layer_status::failed: return "failed";
        case layer_status::overflowed: return "overflowed";
    }
    return "unknown";
}

/// Outcome of `quantize_layer`. Output errors are tr((V - W) H (V - W)^T) / tr(W H W^T) with the original weights W.
template <compute_scalar Scalar>
struct [[nodiscard]] layer_result {
    quantized_matrix<Scalar> quantized;           ///< empty (0 x 0) if `status` says that nothing was quantized
    layer_status status = layer_status::failed;   ///< what was done
    std::optional<index_t> tokens;                ///< calibration tokens seen, if known
    index_t dead_columns = 0;                     ///< by the largest `dead_threshold` of the options, which holds for all steps
    std::optional<preprocess_result> preprocess;  ///< how MagR went, if it ran
    std::optional<optq_report> optq;              ///< how OPTQ went, if it ran; its errors are relative to the weights that it rounded
    /// all rounds together, if there were any; passes are those of codes. Both losses use the damping of codes, or that of scales if codes
    /// are not refined
    std::optional<refinement_result> refinement;
    index_t clipped = 0;                     ///< weights of live columns more than half a step outside of their grid when they were rounded
    storage_limits limits;                   ///< grids at the ends of what their storage type can hold
    std::optional<double> output_error_rtn;  ///< of the original weights, rounded to nearest on grids of their own, if measured
    std::optional<double> output_error_preprocessed;  ///< of the output of MagR, before any rounding, if it ran
    double output_error = 0;                          ///< of the result

    /// Whether there is a quantized matrix.
    [[nodiscard]] explicit operator bool() const noexcept { return !quantized.codes.empty(); }
};

}  // namespace magr
