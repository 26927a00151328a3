// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <limits>

#include <magr/config.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/quantize/storage_type.hpp>

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

/// Smallest scale that is used with a storage type.
///
/// A normal number, except for f16, whose normal numbers end at 6e-5: there the subnormal numbers below, down to 6e-8, still tell the
/// scales of small weights apart.
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

/// The nearest number that the storage type can hold, half-way cases to the even one; beyond its range the largest finite one.
template <compute_scalar Scalar>
[[nodiscard]] Scalar round_to_storage(double value, storage_type storage) {
    const double largest = largest_stored<Scalar>(storage);
    const double limited = std::clamp(value, -largest, largest);
    switch (storage) {
        // by way of float, whose rounding comes first: what lies within it of a half-way case may go either way
        case storage_type::f16: return static_cast<Scalar>(static_cast<float>(Eigen::half(static_cast<float>(limited))));
        case storage_type::bf16: return static_cast<Scalar>(static_cast<float>(Eigen::bfloat16(static_cast<float>(limited))));
        case storage_type::f32: return static_cast<Scalar>(static_cast<float>(limited));
        case storage_type::native: break;
    }
    return static_cast<Scalar>(limited);
}

/// What a scale is multiplied by at most: the largest code, or the largest magnitude of the levels.
template <class Levels>
[[nodiscard]] double largest_multiple(int bits, const Levels& levels) {
    if (levels.empty()) return (1 << bits) - 1;
    return (std::max)(std::abs(static_cast<double>(levels.front())), std::abs(static_cast<double>(levels.back())));
}

/// Largest scale that is used with a storage type, if weights are up to `multiple` times the scale: that of a finite weight.
template <compute_scalar Scalar>
[[nodiscard]] double largest_stored_scale(storage_type storage, double multiple) noexcept {
    constexpr double rounding = 0.99;  // what the weight may be rounded up by
    return (std::min)(largest_stored<Scalar>(storage), rounding * static_cast<double>((std::numeric_limits<Scalar>::max)()) / multiple);
}

/// The scale that is stored for a scale > 0: the nearest one within what `smallest_stored_scale` and `largest_stored_scale` allow.
template <compute_scalar Scalar>
[[nodiscard]] Scalar store_scale(double scale, storage_type storage, double multiple) {
    return round_to_storage<Scalar>(
        (std::min)((std::max)(scale, smallest_stored_scale<Scalar>(storage)), largest_stored_scale<Scalar>(storage, multiple)), storage);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
