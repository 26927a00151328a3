// SPDX-License-Identifier: MIT
#pragma once

namespace magr {

/// The precision in which H is factored.
enum class factor_precision {
    automatic,  ///< float for float weights, and double from the first failure on; double for double weights
    float64,    ///< double for all weights
    float32     ///< float: half the memory and time; nearly singular matrices need more damping
};

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(factor_precision precision) noexcept {
    switch (precision) {
        case factor_precision::automatic: return "automatic";
        case factor_precision::float64: return "float64";
        case factor_precision::float32: return "float32";
    }
    return "unknown";
}

}  // namespace magr
