// SPDX-License-Identifier: MIT
#include <magr/pack/awq.hpp>

#include <array>
#include <random>

#include "pack/samples.hpp"
#include "support/catch.hpp"

using magr::index_t;
using magr::storage_type;
using magr::zero_point;

namespace {

/// The weights by the format's definition, N x K: nibble i of a word belongs to output base + order[i].
magr::matrix<float> textbook_weights(const magr::awq_tensors& t) {
    constexpr index_t order[] = {0, 2, 4, 6, 1, 3, 5, 7};
    const index_t K = t.qweight.rows(), N = t.scales.cols();
    magr::matrix<float> weights(N, K);
    for (index_t k = 0; k < K; ++k)
        for (index_t word = 0; word < N / 8; ++word)
            for (index_t i = 0; i < 8; ++i) {
                const index_t n = 8 * word + order[i], g = k / t.group_size;
                const auto code = static_cast<double>(static_cast<std::uint32_t>(t.qweight(k, word)) >> 4 * i & 15);
                const auto zero = static_cast<double>(static_cast<std::uint32_t>(t.qzeros(g, word)) >> 4 * i & 15);
                weights(n, k) = static_cast<float>(textbook::half(t.scales(g, n)) * (code - zero));
            }
    return weights;
}

}  // namespace

TEMPLATE_TEST_CASE("pack_awq: comes back bit for bit, and means the same weights by the format's definition",
                   "[pack][awq][property][oracle]", float, double) {
    std::mt19937 random(1);
    for (const auto zero : {zero_point::none, zero_point::integer})
        for (const auto& [rows, cols, group] :
             {std::array<index_t, 3>{8, 1, 1}, {8, 128, 128}, {24, 96, 32}, {40, 99, 33}, {64, 17, 100}}) {
            const auto q =
                samples::quantized<TestType>(rows, cols, {.zero_point = zero, .group_size = group, .storage = storage_type::f16}, random);
            const auto packed = magr::pack_awq(q);
            const auto back = magr::unpack_awq(packed);
            CAPTURE(rows, cols, group, static_cast<int>(zero));
            CHECK(samples::same(q, back));
            CHECK(magr::pack_awq(back) == packed);
            CHECK(samples::equal(textbook_weights(packed), q.dequantize()));
        }
}

TEST_CASE("pack_awq: bytes by hand", "[pack][awq][oracle]") {
    // 8 x 2, one group: output n has the codes n and 15 - n, the zero point n + 1 and the scale 1
    magr::quantized_matrix<float> q;
    q.bits = 4;
    q.storage = storage_type::f16;
    q.group_size = 2;
    q.group_of_column = {0, 0};
    q.scales = q.zeros = magr::matrix<float>(8, 1);
    q.codes = magr::matrix<std::uint8_t>(8, 2);
    for (index_t n = 0; n < 8; ++n) {
        q.scales(n, 0) = 1;
        q.zeros(n, 0) = static_cast<float>(n + 1);
        q.codes(n, 0) = static_cast<std::uint8_t>(n);
        q.codes(n, 1) = static_cast<std::uint8_t>(15 - n);
    }
    const auto packed = magr::pack_awq(q);
    // from the lowest nibble: outputs 0, 2, 4, 6, 1, 3, 5, 7
    REQUIRE(packed.qweight.rows() == 2);
    REQUIRE(packed.qweight.cols() == 1);
    CHECK(static_cast<std::uint32_t>(packed.qweight(0, 0)) == 0x75316420);
    CHECK(static_cast<std::uint32_t>(packed.qweight(1, 0)) == 0x8ACE9BDF);
    CHECK(static_cast<std::uint32_t>(packed.qzeros(0, 0)) == 0x86427531);
    CHECK(packed.scales(0, 7) == 0x3C00);  // 1 in f16
}

TEST_CASE("pack_awq: refuses what the format cannot hold", "[pack][awq][edge]") {
    std::mt19937 random(2);
    const auto good = samples::quantized(8, 64, {.bits = 4, .group_size = 32, .storage = storage_type::f16}, random);
    CHECK_NOTHROW(magr::pack_awq(good));
    auto q = good;
    q.codes(1, 2) = 255;
    CHECK_THROWS_WITH(magr::pack_awq(q), "pack_awq: codes must be in 0..15, entry (row 1, column 2) is 255");
    q = good;
    q.scales(1, 1) = 1.0001F;
    CHECK_THROWS_AS(magr::pack_awq(q), magr::value_error);
    q = good;
    std::swap(q.group_of_column[0], q.group_of_column[63]);
    CHECK_THROWS_WITH(magr::pack_awq(q),
                      "pack_awq: group_of_column must be column / group_size in the format awq, it is not: quantize with "
                      "group_update::fixed or without act_order");
}

TEST_CASE("unpack_awq: refuses tensors that do not fit together", "[pack][awq][edge]") {
    std::mt19937 random(3);
    const auto good = magr::pack_awq(samples::quantized(16, 64, {.bits = 4, .group_size = 32, .storage = storage_type::f16}, random));
    auto t = good;
    t.qzeros = {};
    CHECK_THROWS_AS(magr::unpack_awq(t), magr::shape_error);
    t = good;
    t.group_size = 64;
    CHECK_THROWS_AS(magr::unpack_awq(t), magr::shape_error);
    t = good;
    t.qweight = magr::matrix<std::int32_t>(64, 1);
    CHECK_THROWS_AS(magr::unpack_awq(t), magr::shape_error);
    CHECK_THROWS_AS(magr::unpack_awq({}), magr::shape_error);
}
