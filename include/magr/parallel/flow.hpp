// SPDX-License-Identifier: MIT
#pragma once

namespace magr {

/// What an observer answers.
enum class flow { proceed, stop };

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(flow answer) noexcept {
    switch (answer) {
        case flow::proceed: return "proceed";
        case flow::stop: return "stop";
    }
    return "unknown";
}

}  // namespace magr
