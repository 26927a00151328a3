// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include <magr/config.hpp>
#include <magr/matrix/scalar.hpp>

/// Detects NaN and infinity by their bits. With -ffast-math or -ffinite-math-only, compilers assume that `std::isfinite` is true and that
/// comparisons never see a NaN.
namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// The unsigned integer as wide as T, and the bits of T's exponent, which are all set only in NaN and infinity.
template <storage_scalar T>
struct float_bits {
    using type = std::conditional_t<sizeof(T) == 8, std::uint64_t, std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint16_t>>;
    static constexpr auto exponent = static_cast<type>(std::is_same_v<T, double>  ? 0x7ff0000000000000
                                                       : std::is_same_v<T, float> ? 0x7f800000
                                                       : half_scalar<T>           ? 0x7c00
                                                                                  : 0x7f80);
    static constexpr auto sign = static_cast<type>(type{1} << (8 * sizeof(T) - 1));

    [[nodiscard]] static type of(const T& value) noexcept {
        type bits;
        std::memcpy(&bits, &value, sizeof bits);
        return bits;
    }
};

template <compute_scalar T>
[[nodiscard]] bool is_finite(const T& value) noexcept {
    using bits = float_bits<T>;
    return (bits::of(value) & bits::exponent) != bits::exponent;
}

template <compute_scalar T>
[[nodiscard]] bool is_nan(const T& value) noexcept {
    using bits = float_bits<T>;
    return static_cast<typename bits::type>(bits::of(value) & ~bits::sign) > bits::exponent;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
