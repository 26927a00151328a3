// SPDX-License-Identifier: MIT
#include <magr/pack/bit_packing.hpp>

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "support/catch.hpp"

namespace {

using bytes = std::vector<std::uint8_t>;

bytes random_codes(std::size_t count, int bits, std::mt19937& random) {
    bytes codes(count);
    for (auto& code : codes) code = static_cast<std::uint8_t>(random() & ((1U << bits) - 1));
    return codes;
}

/// Packs bit by bit, as the definition says.
bytes packed_by_definition(const bytes& codes, int bits) {
    const auto width = static_cast<std::size_t>(bits);
    bytes out((codes.size() * width + 7) / 8);
    for (std::size_t k = 0; k < codes.size(); ++k)
        for (std::size_t b = 0; b < width; ++b)
            if ((codes[k] >> b & 1) != 0)
                out[(k * width + b) / 8] = static_cast<std::uint8_t>(out[(k * width + b) / 8] | 1 << (k * width + b) % 8);
    return out;
}

}  // namespace

TEST_CASE("pack_bits: puts every bit where the definition says, and nothing after the end", "[pack][bit_packing][oracle]") {
    std::mt19937 random(1);
    for (int bits = 2; bits <= 8; ++bits)
        for (std::size_t count = 0; count <= 70; ++count) {
            const bytes codes = random_codes(count, bits, random);
            const bytes expected = packed_by_definition(codes, bits);
            CAPTURE(bits, count);
            REQUIRE(magr::packed_bytes(static_cast<magr::index_t>(count), bits) == static_cast<magr::index_t>(expected.size()));
            bytes packed(expected.size() + 8, 0xA5);
            magr::pack_bits(codes, bits, std::span(packed).first(expected.size()));
            CHECK(std::equal(expected.begin(), expected.end(), packed.begin()));
            CHECK(std::all_of(packed.end() - 8, packed.end(), [](auto byte) { return byte == 0xA5; }));
        }
}

TEST_CASE("pack_bits: three-bit codes by hand", "[pack][bit_packing][oracle]") {
    // codes 1..7, 0 as bits, highest first: 000 111 110 101 100 011 010 001; cut into bytes from the right: d1 58 1f
    const bytes codes = {1, 2, 3, 4, 5, 6, 7, 0};
    bytes packed(3);
    magr::pack_bits(codes, 3, packed);
    CHECK(packed == bytes{0xD1, 0x58, 0x1F});
}

TEST_CASE("unpack_bits: undoes pack_bits, and writes nothing after the end", "[pack][bit_packing][property]") {
    std::mt19937 random(2);
    for (int bits = 2; bits <= 8; ++bits)
        for (const std::size_t count : {0U, 1U, 7U, 8U, 9U, 31U, 32U, 63U, 64U, 65U, 1000U, 4099U}) {
            const bytes codes = random_codes(count, bits, random);
            const bytes packed = packed_by_definition(codes, bits);
            CAPTURE(bits, count);
            bytes unpacked(count + 8, 0xA5);
            magr::unpack_bits(packed, bits, std::span(unpacked).first(count));
            CHECK(std::equal(codes.begin(), codes.end(), unpacked.begin()));
            CHECK(std::all_of(unpacked.end() - 8, unpacked.end(), [](auto byte) { return byte == 0xA5; }));
        }
}

TEST_CASE("unpack_bits: does not look at the bits after the last code", "[pack][bit_packing][edge]") {
    const bytes packed = {0xFF, 0xFF};
    bytes codes(5);
    magr::unpack_bits(packed, 3, codes);
    CHECK(codes == bytes{7, 7, 7, 7, 7});
}
