// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstdint>

#include <magr/config.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Philox4x32-10: 128 bits that look random, computed from a 128-bit counter (two halves) and a 64-bit key.
///
/// @par Cost      ten rounds of two multiplications; noexcept
/// @par Source    J. Salmon et al., Parallel random numbers: as easy as 1, 2, 3 (SC 2011)
[[nodiscard]] constexpr std::array<std::uint32_t, 4> philox(std::uint64_t counter_low, std::uint64_t counter_high,
                                                            std::uint64_t key) noexcept {
    std::uint32_t x0 = static_cast<std::uint32_t>(counter_low), x1 = static_cast<std::uint32_t>(counter_low >> 32);
    std::uint32_t x2 = static_cast<std::uint32_t>(counter_high), x3 = static_cast<std::uint32_t>(counter_high >> 32);
    std::uint32_t k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
    for (int round = 0; round < 10; ++round) {
        const std::uint64_t a = std::uint64_t{0xD2511F53} * x0;
        const std::uint64_t b = std::uint64_t{0xCD9E8D57} * x2;
        const std::uint32_t y0 = static_cast<std::uint32_t>(b >> 32) ^ x1 ^ k0;
        const std::uint32_t y2 = static_cast<std::uint32_t>(a >> 32) ^ x3 ^ k1;
        x0 = y0;
        x1 = static_cast<std::uint32_t>(b);
        x2 = y2;
        x3 = static_cast<std::uint32_t>(a);
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    return {x0, x1, x2, x3};
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
