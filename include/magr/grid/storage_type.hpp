// SPDX-License-Identifier: MIT
#pragma once

namespace magr {

/// The type in which scales and zero points will be stored. Arithmetic always uses the type of the weights.
enum class storage_type {
    native,  ///< that of the arithmetic: float, or double for double weights
    f32,
    f16,
    bf16
};

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(storage_type type) noexcept {
    switch (type) {
        case storage_type::native: return "native";
        case storage_type::f32: return "f32";
        case storage_type::f16: return "f16";
        case storage_type::bf16: return "bf16";
    }
    return "unknown";
}

}  // namespace magr
