// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iomanip>
#include <span>
#include <string>
#include <string_view>

#include "common/text_stream.hpp"

namespace examples {

/// 64 bits that tell contents apart: FNV-1a over words of 8 bytes, with the high bits folded back so that each bit of a word reaches all of
/// the hash. It notices that files were changed or mixed up, by accident; it does not stop who wants to deceive.
class content_hash {
public:
    /// Adds some bytes and where they end: "ab", "c" is not "a", "bc".
    void add(std::span<const std::byte> bytes) noexcept {
        mix(bytes.size());
        for (std::size_t i = 0; i < bytes.size(); i += sizeof(std::uint64_t)) {
            std::uint64_t word = 0;
            if (i + sizeof word <= bytes.size())
                std::memcpy(&word, bytes.data() + i, sizeof word);
            else
                std::memcpy(&word, bytes.data() + i, bytes.size() - i);
            mix(word);
        }
    }
    /// Adds bytes that may be mapped from a file, as parts of which few are in memory at once.
    /// @param done  called with each part after it was added
    template <class Function>
    void add_in_parts(std::span<const std::byte> bytes, const Function& done) {
        constexpr std::size_t part = std::size_t{1} << 24;
        for (std::size_t begin = 0; begin < bytes.size(); begin += part) {
            const std::span<const std::byte> some = bytes.subspan(begin, std::min(part, bytes.size() - begin));
            add(some);
            done(some);
        }
    }
    void add(std::string_view text) noexcept { add(std::as_bytes(std::span(text))); }

    /// 16 hexadecimal digits.
    [[nodiscard]] std::string text() const {
        text_stream digits;
        digits << std::hex << std::setfill('0') << std::setw(16) << state_;
        return digits.str();
    }

private:
    void mix(std::uint64_t word) noexcept {
        state_ = (state_ ^ word) * 0x100000001b3;  // FNV's prime
        state_ ^= state_ >> 32;
    }

    std::uint64_t state_ = 0xcbf29ce484222325;  // FNV's offset basis
};

}  // namespace examples
