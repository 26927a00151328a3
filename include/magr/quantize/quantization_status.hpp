// SPDX-License-Identifier: MIT
#pragma once

namespace magr {

/// What a quantizer did.
enum class quantization_status {
    as_requested,          ///< everything that the options ask for
    damped_more,           ///< the same, but OPTQ needed more damping, or a floor under the diagonal of H
    rounded_to_nearest,    ///< H was unusable: plain rounding, as `factor_fallback::round_to_nearest` allows
    too_few_tokens,        ///< nothing: H is from fewer tokens than `layer_options::minimum_tokens`
    dead_columns_refused,  ///< nothing: there are dead columns, which `dead_columns::refuse` forbids
    failed,                ///< nothing: H could not be factored as far as `factor_fallback` allows
    overflowed             ///< nothing: weights or errors left the range of numbers
};

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(quantization_status status) noexcept {
    switch (status) {
        case quantization_status::as_requested: return "as_requested";
        case quantization_status::damped_more: return "damped_more";
        case quantization_status::rounded_to_nearest: return "rounded_to_nearest";
        case quantization_status::too_few_tokens: return "too_few_tokens";
        case quantization_status::dead_columns_refused: return "dead_columns_refused";
        case quantization_status::failed: return "failed";
        case quantization_status::overflowed: return "overflowed";
    }
    return "unknown";
}

}  // namespace magr
