// SPDX-License-Identifier: MIT
#pragma once

namespace magr {

/// The type in which scales and zero points will be stored; arithmetic is done in the type of the weights all the same.
enum class storage_type {
    native,  ///< that of the arithmetic: float, or double for double weights
    f32,
    f16,
    bf16
};

}  // namespace magr
