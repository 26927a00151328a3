// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <limits>

#include <magr/config.hpp>
#include <magr/grid/storage_type.hpp>
#include <magr/matrix/scalar.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

/// Largest finite number of a storage type.
template <compute_scalar Scalar>
[[nodiscard]] double largest_stored(storage_type storage) noexcept {
    switch (storage) {
        case storage_type::f16: return 65504;
        case storage_type::bf16: return 0x1.FEp127;
        case storage_type::f32: return static_cast<double>((std::numeric_limits<float>::max)());
        case storage_type::native: break;
    }
    return static_cast<double>((std::numeric_limits<Scalar>::max)());
}

/// Smallest scale used with a storage type.
///
/// It is a normal number, except for f16, whose normal numbers end at 6e-5. There the smaller subnormal numbers, down to 6e-8, still
/// distinguish the scales of small weights.
template <compute_scalar Scalar>
[[nodiscard]] double smallest_stored_scale(storage_type storage) noexcept {
    switch (storage) {
        case storage_type::f16: return 0x1p-24;
        case storage_type::bf16:
        case storage_type::f32: return static_cast<double>((std::numeric_limits<float>::min)());
        case storage_type::native: break;
    }
    return static_cast<double>((std::numeric_limits<Scalar>::min)());
}

/// The nearest number that the storage type can hold, half-way cases to the even one. Numbers beyond its range become the largest finite
/// one.
template <compute_scalar Scalar>
[[nodiscard]] Scalar round_to_storage(double value, storage_type storage) {
    const double largest = largest_stored<Scalar>(storage);
    const double limited = std::clamp(value, -largest, largest);
    switch (storage) {
        // Rounds to float first, so numbers within that rounding error of a half-way case may go either way.
        case storage_type::f16: return static_cast<Scalar>(static_cast<float>(Eigen::half(static_cast<float>(limited))));
        case storage_type::bf16: return static_cast<Scalar>(static_cast<float>(Eigen::bfloat16(static_cast<float>(limited))));
        case storage_type::f32: return static_cast<Scalar>(static_cast<float>(limited));
        case storage_type::native: break;
    }
    return static_cast<Scalar>(limited);
}

/// The largest factor of a scale: the largest code, or the largest magnitude of the levels.
template <class Levels>
[[nodiscard]] double largest_multiple(int bits, const Levels& levels) {
    if (levels.empty()) return (1 << bits) - 1;
    return (std::max)(std::abs(static_cast<double>(levels.front())), std::abs(static_cast<double>(levels.back())));
}

/// Largest scale used with a storage type if weights are up to `multiple` times the scale, so that these weights are finite.
template <compute_scalar Scalar>
[[nodiscard]] double largest_stored_scale(storage_type storage, double multiple) noexcept {
    constexpr double rounding = 0.99;  // margin for rounding the weight up
    return (std::min)(largest_stored<Scalar>(storage), rounding * static_cast<double>((std::numeric_limits<Scalar>::max)()) / multiple);
}

/// The stored scale for a scale > 0: the nearest one between `smallest_stored_scale` and `largest_stored_scale`.
template <compute_scalar Scalar>
[[nodiscard]] Scalar store_scale(double scale, storage_type storage, double multiple) {
    return round_to_storage<Scalar>(
        (std::min)((std::max)(scale, smallest_stored_scale<Scalar>(storage)), largest_stored_scale<Scalar>(storage, multiple)), storage);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
