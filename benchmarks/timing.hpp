// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <vector>

/// Wall time of one call. Benchmarks time themselves and their yardstick in turn, so that a ratio compares the same moments of a machine
/// whose speed drifts.
template <class Function>
[[nodiscard]] double seconds(Function&& function) {
    const auto start = std::chrono::steady_clock::now();
    function();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// The median of some times: a single interruption is worth thousands of the short ones.
[[nodiscard]] inline double median(std::vector<double> times) {
    const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
    std::nth_element(times.begin(), middle, times.end());
    return *middle;
}
