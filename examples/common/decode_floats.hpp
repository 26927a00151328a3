// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <span>

namespace examples {

/// Converts the stored elements of a tensor to float. Returns the index of the first one that is not finite, or how many there are.
/// @tparam Element  float, Eigen::half or Eigen::bfloat16
template <class Element>
[[nodiscard]] std::size_t decode_floats(std::span<const std::byte> bytes, std::span<float> values) {
    for (std::size_t i = 0; i < values.size(); ++i) {
        Element element;
        std::memcpy(&element, bytes.data() + i * sizeof element, sizeof element);
        values[i] = static_cast<float>(element);
    }
    const auto bad = std::find_if(values.begin(), values.end(), [](float value) { return !std::isfinite(value); });
    return static_cast<std::size_t>(bad - values.begin());
}

}  // namespace examples
