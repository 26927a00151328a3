// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include <magr/config.hpp>
#include <magr/matrix/matrix_view.hpp>

namespace magr {
namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Eight bytes as a number, the first byte lowest, on every machine.
[[nodiscard]] MAGR_ALWAYS_INLINE std::uint64_t load_word(const std::uint8_t* bytes) noexcept {
    std::uint64_t word = 0;
    if constexpr (std::endian::native == std::endian::little)
        std::memcpy(&word, bytes, sizeof(word));
    else
        for (int k = 7; k >= 0; --k) word = word << 8 | bytes[k];
    return word;
}

MAGR_ALWAYS_INLINE void store_word(std::uint64_t word, std::uint8_t* bytes) noexcept {
    if constexpr (std::endian::native == std::endian::little)
        std::memcpy(bytes, &word, sizeof(word));
    else
        for (int k = 0; k < 8; ++k) bytes[k] = static_cast<std::uint8_t>(word >> 8 * k);
}

/// A word with the lowest `bits` bits of each lane of `lane` bits set.
[[nodiscard]] constexpr std::uint64_t low_bits(int bits, int lane) noexcept {
    const std::uint64_t one = bits == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << bits) - 1;
    std::uint64_t mask = 0;
    for (int first = 0; first < 64; first += lane) mask |= one << first;
    return mask;
}

/// Joins eight codes, one per byte, to 8 * Bits bits without gaps: neighbours to pairs, pairs to fours, fours to eight.
template <int Bits>
[[nodiscard]] MAGR_ALWAYS_INLINE std::uint64_t squeeze(std::uint64_t x) noexcept {
    if constexpr (Bits == 8) return x;
    constexpr std::uint64_t even_bytes = low_bits(8, 16), even_pairs = low_bits(16, 32), even_fours = low_bits(32, 64);
    x = (x & even_bytes) | (x & ~even_bytes) >> (8 - Bits);
    x = (x & even_pairs) | (x & ~even_pairs) >> (16 - 2 * Bits);
    return (x & even_fours) | (x & ~even_fours) >> (32 - 4 * Bits);
}

/// The inverse of `squeeze`; bits above the lowest 8 * Bits are ignored.
template <int Bits>
[[nodiscard]] MAGR_ALWAYS_INLINE std::uint64_t spread(std::uint64_t x) noexcept {
    if constexpr (Bits == 8) return x;
    constexpr std::uint64_t four = low_bits(4 * Bits, 64), pair = low_bits(2 * Bits, 32), code = low_bits(Bits, 16);
    x = (x & four) | (x & four << 4 * Bits) << (32 - 4 * Bits);
    x = (x & pair) | (x & pair << 2 * Bits) << (16 - 2 * Bits);
    return (x & code) | (x & code << Bits) << (8 - Bits);
}

template <int Bits>
void pack_codes(const std::uint8_t* codes, index_t count, std::uint8_t* bytes, index_t size) noexcept {
    index_t k = 0, at = 0;
    // each step writes a whole word; the next step overwrites what lies after its Bits bytes
    for (; k + 8 <= count && at + 8 <= size; k += 8, at += Bits) store_word(squeeze<Bits>(load_word(codes + k)), bytes + at);
    for (; k < count; k += 8, at += Bits) {
        std::uint8_t last[8] = {}, packed[8];
        std::memcpy(last, codes + k, static_cast<std::size_t>(std::min<index_t>(8, count - k)));
        store_word(squeeze<Bits>(load_word(last)), packed);
        std::memcpy(bytes + at, packed, static_cast<std::size_t>(std::min<index_t>(Bits, size - at)));
    }
}

template <int Bits>
void unpack_codes(const std::uint8_t* bytes, index_t size, std::uint8_t* codes, index_t count) noexcept {
    index_t k = 0, at = 0;
    for (; k + 8 <= count && at + 8 <= size; k += 8, at += Bits) store_word(spread<Bits>(load_word(bytes + at)), codes + k);
    for (; k < count; k += 8, at += Bits) {
        std::uint8_t packed[8] = {}, last[8];
        std::memcpy(packed, bytes + at, static_cast<std::size_t>(std::min<index_t>(Bits, size - at)));
        store_word(spread<Bits>(load_word(packed)), last);
        std::memcpy(codes + k, last, static_cast<std::size_t>(std::min<index_t>(8, count - k)));
    }
}

/// Calls use.template operator()<bits>().
template <class Use>
MAGR_ALWAYS_INLINE void with_bits(int bits, Use&& use) noexcept {
    switch (bits) {
        case 2: return use.template operator()<2>();
        case 3: return use.template operator()<3>();
        case 4: return use.template operator()<4>();
        case 5: return use.template operator()<5>();
        case 6: return use.template operator()<6>();
        case 7: return use.template operator()<7>();
        case 8: return use.template operator()<8>();
        default: MAGR_ASSERT(bits >= 2 && bits <= 8);
    }
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// How many bytes `count` codes of `bits` bits take without gaps.
[[nodiscard]] constexpr index_t packed_bytes(index_t count, int bits) noexcept { return (count * bits + 7) / 8; }

/// Writes codes one after another without gaps, lowest bit first: bit b of code k is bit (k bits + b) mod 8 of byte (k bits + b) / 8.
///
/// @par Shapes    codes: n; bytes: packed_bytes(n, bits). Bits after the last code are 0
/// @pre           bits in 2..8; every code < 2^bits, or it spills into its neighbour; codes and bytes do not overlap
/// @par Cost      O(n), eight codes at a time by 64-bit arithmetic; no allocation; noexcept
/// @par Errors    none; checked entry points: the packers of the formats
inline void pack_bits(std::span<const std::uint8_t> codes, int bits, std::span<std::uint8_t> bytes) noexcept {
    const auto count = static_cast<index_t>(codes.size());
    const auto size = static_cast<index_t>(bytes.size());
    MAGR_ASSERT(size == packed_bytes(count, bits));
    detail::with_bits(bits, [&]<int Bits>() { detail::pack_codes<Bits>(codes.data(), count, bytes.data(), size); });
}

/// The inverse of `pack_bits`.
///
/// @par Shapes    codes: n; bytes: packed_bytes(n, bits)
/// @pre           bits in 2..8; codes and bytes do not overlap
/// @post          every code < 2^bits
/// @par Cost      as `pack_bits`
inline void unpack_bits(std::span<const std::uint8_t> bytes, int bits, std::span<std::uint8_t> codes) noexcept {
    const auto count = static_cast<index_t>(codes.size());
    const auto size = static_cast<index_t>(bytes.size());
    MAGR_ASSERT(size == packed_bytes(count, bits));
    detail::with_bits(bits, [&]<int Bits>() { detail::unpack_codes<Bits>(bytes.data(), size, codes.data(), count); });
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
