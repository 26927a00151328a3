// SPDX-License-Identifier: MIT
#include <magr/pack/gptq.hpp>

#include <array>
#include <cmath>
#include <random>
#include <utility>
#include <vector>

#include "pack/samples.hpp"
#include "support/catch.hpp"

using magr::gptq_version;
using magr::index_t;
using magr::storage_type;
using magr::zero_point;

namespace {

/// The weights by the format's definition, N x K: scale * (code - zero point) with the group of g_idx.
magr::matrix<float> textbook_weights(const magr::gptq_tensors& t) {
    const auto word_and_bit = [](const magr::matrix<std::int32_t>& m, index_t row, index_t col, std::size_t bit) {
        return std::pair(static_cast<std::uint32_t>(m(row, col)), bit);
    };
    const auto K = static_cast<index_t>(t.g_idx.size());
    const index_t N = t.scales.cols();
    magr::matrix<float> weights(N, K);
    for (index_t n = 0; n < N; ++n)
        for (index_t k = 0; k < K; ++k) {
            const index_t g = t.g_idx[static_cast<std::size_t>(k)];
            const unsigned code =
                textbook::code_in_stream([&](std::size_t p) { return word_and_bit(t.qweight, static_cast<index_t>(p / 32), n, p % 32); },
                                         t.bits, static_cast<std::size_t>(k));
            unsigned zero =
                textbook::code_in_stream([&](std::size_t p) { return word_and_bit(t.qzeros, g, static_cast<index_t>(p / 32), p % 32); },
                                         t.bits, static_cast<std::size_t>(n));
            if (t.version == gptq_version::v1) ++zero;
            weights(n, k) = static_cast<float>(textbook::half(t.scales(g, n)) * (static_cast<double>(code) - static_cast<double>(zero)));
        }
    return weights;
}

}  // namespace

TEMPLATE_TEST_CASE("pack_gptq: comes back bit for bit, and means the same weights by the format's definition",
                   "[pack][gptq][property][oracle]", float, double) {
    std::mt19937 random(1);
    for (const auto version : {gptq_version::v1, gptq_version::v2})
        for (const int bits : {2, 3, 4, 8})
            for (const auto zero : {zero_point::none, zero_point::integer})
                for (const auto& [rows, cols, group] :
                     {std::array<index_t, 3>{32, 32, 32}, {64, 128, 128}, {32, 96, 32}, {96, 160, 64}, {32, 64, 24}})
                    for (const bool act_order : {false, true}) {
                        auto q = samples::quantized<TestType>(
                            rows, cols, {.bits = bits, .zero_point = zero, .group_size = group, .storage = storage_type::f16}, random,
                            version == gptq_version::v1 ? 1 : 0);
                        if (act_order) samples::shuffle_groups(q, random);
                        const auto packed = magr::pack_gptq(q, version);
                        const auto back = magr::unpack_gptq(packed);
                        CAPTURE(bits, rows, cols, group, act_order, static_cast<int>(version), static_cast<int>(zero));
                        CHECK(samples::same(q, back));
                        CHECK(magr::pack_gptq(back, version) == packed);
                        CHECK(samples::equal(textbook_weights(packed), q.dequantize()));
                    }
}

TEST_CASE("pack_gptq: bytes by hand", "[pack][gptq][oracle]") {
    // 32 x 32, 4 bits, one group. Output n has the code (n + k) mod 16 at input k, the zero point 1 + n mod 15 and the scale 2^-(n mod 8).
    magr::quantized_matrix<float> q;
    q.bits = 4;
    q.storage = storage_type::f16;
    q.group_size = 32;
    q.group_of_column.assign(32, 0);
    q.scales = q.zeros = magr::matrix<float>(32, 1);
    q.codes = magr::matrix<std::uint8_t>(32, 32);
    for (index_t n = 0; n < 32; ++n) {
        q.scales(n, 0) = std::ldexp(1.0F, -static_cast<int>(n % 8));
        q.zeros(n, 0) = static_cast<float>(1 + n % 15);
        for (index_t k = 0; k < 32; ++k) q.codes(n, k) = static_cast<std::uint8_t>((n + k) % 16);
    }
    const auto v1 = magr::pack_gptq(q, gptq_version::v1);
    REQUIRE(v1.qweight.rows() == 4);
    REQUIRE(v1.qweight.cols() == 32);
    // inputs 0..7 of output 0 have the codes 0..7, the first one lowest; those of output 9 have 9..15, 0
    CHECK(static_cast<std::uint32_t>(v1.qweight(0, 0)) == 0x76543210);
    CHECK(static_cast<std::uint32_t>(v1.qweight(1, 0)) == 0xFEDCBA98);
    CHECK(static_cast<std::uint32_t>(v1.qweight(0, 9)) == 0x0FEDCBA9);
    // outputs 0..7 have the zero points 1..8, stored as 0..7; outputs 8..15 have 9..15, 1
    REQUIRE(v1.qzeros.rows() == 1);
    REQUIRE(v1.qzeros.cols() == 4);
    CHECK(static_cast<std::uint32_t>(v1.qzeros(0, 0)) == 0x76543210);
    CHECK(static_cast<std::uint32_t>(v1.qzeros(0, 1)) == 0x0EDCBA98);
    // 1 is 0x3C00 in f16; each halving subtracts 0x0400
    CHECK(v1.scales(0, 0) == 0x3C00);
    CHECK(v1.scales(0, 3) == 0x3000);
    CHECK(v1.g_idx == std::vector<std::int32_t>(32, 0));

    const auto v2 = magr::pack_gptq(q, gptq_version::v2);
    CHECK(v2.qweight == v1.qweight);
    CHECK(static_cast<std::uint32_t>(v2.qzeros(0, 0)) == 0x87654321);
    CHECK(static_cast<std::uint32_t>(v2.qzeros(0, 1)) == 0x1FEDCBA9);
}

TEST_CASE("pack_gptq: three-bit codes cross words", "[pack][gptq][oracle]") {
    // AutoGPTQ writes 32 codes into three words: ten from bit 0, and two bits of the 11th; its third bit and ten codes from bit 1, and one
    // bit of the 22nd; its other two bits and ten codes from bit 2.
    std::mt19937 random(3);
    const auto q = samples::quantized(32, 32, {.bits = 3, .zero_point = zero_point::none, .storage = storage_type::f16}, random);
    const auto packed = magr::pack_gptq(q, gptq_version::v2);
    REQUIRE(packed.qweight.rows() == 3);
    for (index_t n = 0; n < 32; ++n) {
        std::uint32_t words[3] = {};
        const auto code = [&](unsigned k) { return std::uint32_t{q.codes(n, static_cast<index_t>(k))}; };
        for (unsigned k = 0; k < 10; ++k) words[0] |= code(k) << 3 * k;
        words[0] |= code(10) << 30;
        words[1] |= code(10) >> 2;
        for (unsigned k = 0; k < 10; ++k) words[1] |= code(11 + k) << (3 * k + 1);
        words[1] |= code(21) << 31;
        words[2] |= code(21) >> 1;
        for (unsigned k = 0; k < 10; ++k) words[2] |= code(22 + k) << (3 * k + 2);
        for (index_t w = 0; w < 3; ++w) CHECK(static_cast<std::uint32_t>(packed.qweight(w, n)) == words[w]);
    }
}

TEST_CASE("pack_gptq: refuses what the format cannot hold, and says where", "[pack][gptq][edge]") {
    std::mt19937 random(5);
    const magr::grid_options options{.bits = 4, .group_size = 32, .storage = storage_type::f16};
    const auto good = samples::quantized(32, 64, options, random, 1);
    const auto pack = [](const auto& q) { return magr::pack_gptq(q, gptq_version::v1); };
    CHECK_NOTHROW(pack(good));
    auto q = good;
    q.codes(7, 41) = 16;
    CHECK_THROWS_WITH(pack(q), "pack_gptq: codes must be in 0..15, entry (row 7, column 41) is 16");
    q = good;
    q.zeros(3, 1) = 0;
    CHECK_THROWS_AS(pack(q), magr::value_error);
    CHECK_THROWS_WITH(pack(q),
                      "pack_gptq: zero point (row 3, group 1) must be at least 1 in version v1, which stores it less one, it is 0; "
                      "use gptq_version::v2 or zero_point::none");
    CHECK_NOTHROW(magr::pack_gptq(q, gptq_version::v2));
    q = good;
    q.scales(5, 1) = 0.1F;
    CHECK_THROWS_AS(pack(q), magr::value_error);
    CHECK_THROWS_WITH(pack(q),
                      "pack_gptq: scale (row 5, group 1) must be a number of type f16, it is 0.100000001; set grid_options::storage to "
                      "storage_type::f16");
    q.scales(5, 1) = 1e5F;
    CHECK_THROWS_AS(pack(q), magr::value_error);
    q.scales(5, 1) = -1;
    CHECK_THROWS_AS(pack(q), magr::value_error);
    q = good;
    q.zeros = magr::matrix<float>(32, 1);
    CHECK_THROWS_AS(pack(q), magr::shape_error);
    q = good;
    q.group_of_column[4] = 2;
    CHECK_THROWS_AS(pack(q), magr::value_error);
    q = good;
    q.group_size = 16;  // this would make four groups
    CHECK_THROWS_AS(pack(q), magr::shape_error);
    CHECK_THROWS_AS(pack(magr::quantized_matrix<float>()), magr::shape_error);
}

TEST_CASE("unpack_gptq: refuses tensors that do not fit together", "[pack][gptq][edge]") {
    std::mt19937 random(6);
    const auto good = magr::pack_gptq(samples::quantized(32, 64, {.bits = 4, .group_size = 32, .storage = storage_type::f16}, random, 1),
                                      gptq_version::v1);
    auto t = good;
    t.g_idx.resize(32);
    CHECK_THROWS_AS(magr::unpack_gptq(t), magr::shape_error);
    t = good;
    t.g_idx[0] = 2;
    CHECK_THROWS_AS(magr::unpack_gptq(t), magr::value_error);
    t = good;
    t.bits = 8;
    CHECK_THROWS_AS(magr::unpack_gptq(t), magr::shape_error);
    t.bits = 5;
    CHECK_THROWS_AS(magr::unpack_gptq(t), magr::option_error);
    t = good;
    t.group_size = 0;
    CHECK_THROWS_AS(magr::unpack_gptq(t), magr::option_error);
    t = good;
    t.scales(0, 0) = 0x7C00;  // infinite
    CHECK_THROWS_AS(magr::unpack_gptq(t), magr::value_error);
    t = good;
    t.qzeros(0, 0) = -1;  // 15 in every field: the zero point 16
    CHECK_THROWS_AS(magr::unpack_gptq(t), magr::value_error);
    CHECK_THROWS_AS(magr::unpack_gptq({}), magr::shape_error);
}
