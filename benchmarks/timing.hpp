// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>

/// Wall time of one call. Benchmarks time themselves and their yardstick in turn with it, so that a ratio compares equal moments of a
/// machine whose speed drifts.
template <class Function>
[[nodiscard]] double seconds(Function&& function) {
    const auto start = std::chrono::steady_clock::now();
    function();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}
