// SPDX-License-Identifier: MIT
#pragma once

namespace magr {

/// What an observer answers.
enum class observer_flow { proceed, stop };

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(observer_flow answer) noexcept {
    switch (answer) {
        case observer_flow::proceed: return "proceed";
        case observer_flow::stop: return "stop";
    }
    return "unknown";
}

}  // namespace magr
