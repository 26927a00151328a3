// SPDX-License-Identifier: MIT
#include <magr/pack/compressed_tensors.hpp>

#include <array>
#include <random>
#include <utility>

#include "pack/samples.hpp"
#include "support/catch.hpp"

using magr::index_t;
using magr::storage_type;
using magr::zero_point;

namespace {

/// The weights by the format's definition, N x K: scale * (signed code - signed zero point), both stored plus 2^(bits-1).
magr::matrix<float> textbook_weights(const magr::compressed_tensors_weight& t) {
    const auto [N, K] = t.weight_shape;
    magr::matrix<float> weights(N, K);
    const double middle = 1 << (t.bits - 1);
    for (index_t n = 0; n < N; ++n)
        for (index_t k = 0; k < K; ++k) {
            const index_t g = t.weight_g_idx.empty() ? k / t.group_size : t.weight_g_idx[static_cast<std::size_t>(k)];
            const auto code = textbook::code_in_stream(
                [&](std::size_t p) {
                    return std::pair(static_cast<std::uint32_t>(t.weight_packed(n, static_cast<index_t>(p / 32))), p % 32);
                },
                t.bits, static_cast<std::size_t>(k));
            double zero = 0;
            if (!t.weight_zero_point.empty())
                zero = textbook::code_in_stream(
                           [&](std::size_t p) {
                               return std::pair(static_cast<std::uint32_t>(t.weight_zero_point(static_cast<index_t>(p / 32), g)), p % 32);
                           },
                           t.bits, static_cast<std::size_t>(n)) -
                       middle;
            const double scale =
                textbook::number_at(t.weight_scale.bytes, t.weight_scale.type, static_cast<std::size_t>(n * t.weight_scale.cols + g));
            weights(n, k) = static_cast<float>(scale * (code - middle - zero));
        }
    return weights;
}

}  // namespace

TEMPLATE_TEST_CASE("pack_compressed_tensors: comes back bit for bit, and means the same weights by the format's definition",
                   "[pack][compressed_tensors][property][oracle]", float, double) {
    std::mt19937 random(1);
    for (int bits = 2; bits <= 8; ++bits)
        for (const auto storage : {storage_type::f32, storage_type::f16, storage_type::bf16})
            for (const auto zero : {zero_point::none, zero_point::integer})
                for (const auto& [rows, cols, group] : {std::array<index_t, 3>{1, 1, 1}, {5, 64, 32}, {33, 51, 17}, {4, 100, 100}})
                    for (const bool act_order : {false, true}) {
                        auto q = samples::quantized<TestType>(
                            rows, cols, {.bits = bits, .zero_point = zero, .group_size = group, .storage = storage}, random);
                        if (act_order) samples::shuffle_groups(q, random);
                        const auto packed = magr::pack_compressed_tensors(q);
                        const auto back = magr::unpack_compressed_tensors(packed);
                        CAPTURE(bits, rows, cols, group, act_order, static_cast<int>(storage), static_cast<int>(zero));
                        CHECK(samples::same(q, back));
                        CHECK(back.zero_point == q.zero_point);
                        CHECK(back.storage == q.storage);
                        CHECK(magr::pack_compressed_tensors(back) == packed);
                        // the product of a float and a difference of codes, rounded once on either side
                        CHECK(samples::equal(textbook_weights(packed), samples::to_float(q.dequantize())));
                    }
}

TEST_CASE("pack_compressed_tensors: bytes by hand", "[pack][compressed_tensors][oracle]") {
    // 2 x 12, 3 bits, groups of 6. Row 0 has the codes 1..7, 0, 1, .. 4; row 1 the code 5 everywhere
    magr::quantized_matrix<float> q;
    q.bits = 3;
    q.storage = storage_type::bf16;
    q.group_size = 6;
    q.scales = q.zeros = magr::matrix<float>(2, 2);
    q.codes = magr::matrix<std::uint8_t>(2, 12);
    for (index_t j = 0; j < 12; ++j) {
        q.group_of_column.push_back(j / 6);
        q.codes(0, j) = static_cast<std::uint8_t>((j + 1) % 8);
        q.codes(1, j) = 5;
    }
    q.scales(0, 0) = 1;
    q.scales(0, 1) = 2;
    q.scales(1, 0) = 0.5F;
    q.scales(1, 1) = 3;
    q.zeros(0, 0) = 1;
    q.zeros(0, 1) = 2;
    q.zeros(1, 0) = 3;
    q.zeros(1, 1) = 7;
    const auto packed = magr::pack_compressed_tensors(q);
    // row 0: 3 * 12 bits, highest first 100 011 010 | 001 000 111 110 101 100 011 010 001; 36 bits, so the top four go to word 1:
    //   word 0 = 11 010 001 | 000 111 11 | 0 101 100 0 | 11 010 001 = D1 1F 58 D1, word 1 = 100 0 = 8
    // row 1: 101 twelve times; word 0 = 01 101 101 .. from the right: 101 is 5, 101101 is 2D: 6D B6 DB 6D, word 1 = 101 1 = B
    REQUIRE(packed.weight_packed.cols() == 2);
    CHECK(static_cast<std::uint32_t>(packed.weight_packed(0, 0)) == 0xD11F58D1);
    CHECK(packed.weight_packed(0, 1) == 0x8);
    CHECK(static_cast<std::uint32_t>(packed.weight_packed(1, 0)) == 0x6DB6DB6D);
    CHECK(packed.weight_packed(1, 1) == 0xB);
    // bf16 is the upper half of f32: 1 = 3F80, 2 = 4000, 0.5 = 3F00, 3 = 4040; the low byte first
    CHECK(packed.weight_scale.bytes == std::vector<std::uint8_t>{0x80, 0x3F, 0x00, 0x40, 0x00, 0x3F, 0x40, 0x40});
    // zero points along the outputs: group 0 has 1 and 3: 3 * 8 + 1; group 1 has 2 and 7: 7 * 8 + 2
    REQUIRE(packed.weight_zero_point.rows() == 1);
    CHECK(packed.weight_zero_point(0, 0) == 25);
    CHECK(packed.weight_zero_point(0, 1) == 58);
    CHECK(packed.weight_shape == std::array<std::int64_t, 2>{2, 12});
    CHECK(packed.weight_g_idx.empty());
}

TEST_CASE("pack_compressed_tensors: native scales are stored as float numbers, if they are", "[pack][compressed_tensors][edge]") {
    std::mt19937 random(2);
    const auto native = samples::quantized(4, 32, {.group_size = 16, .storage = storage_type::native}, random);
    CHECK(magr::pack_compressed_tensors(native).weight_scale.type == storage_type::f32);
    CHECK(samples::same(magr::unpack_compressed_tensors(magr::pack_compressed_tensors(native)), native));

    auto precise = samples::quantized<double>(4, 32, {.group_size = 16, .storage = storage_type::f32}, random);
    precise.storage = storage_type::native;
    CHECK_NOTHROW(magr::pack_compressed_tensors(precise));
    precise.scales(2, 1) = 0.1;
    CHECK_THROWS_WITH(magr::pack_compressed_tensors(precise),
                      "pack_compressed_tensors: scale (row 2, group 1) must be a number of type f32, it is 0.1; "
                      "set grid_options::storage to storage_type::f32");
}

TEST_CASE("unpack_compressed_tensors: refuses tensors that do not fit together", "[pack][compressed_tensors][edge]") {
    std::mt19937 random(3);
    const auto good = magr::pack_compressed_tensors(samples::quantized(6, 64, {.group_size = 32, .storage = storage_type::f16}, random));
    auto t = good;
    t.weight_shape = {6, 72};
    CHECK_THROWS_AS(magr::unpack_compressed_tensors(t), magr::option_error);
    t.weight_shape = {6, 128};
    CHECK_THROWS_AS(magr::unpack_compressed_tensors(t), magr::shape_error);
    t.weight_shape = {6, std::int64_t{1} << 62};
    CHECK_THROWS_AS(magr::unpack_compressed_tensors(t), magr::shape_error);
    t.weight_shape = {-1, 64};
    CHECK_THROWS_AS(magr::unpack_compressed_tensors(t), magr::shape_error);
    t = good;
    t.weight_scale.bytes.pop_back();
    CHECK_THROWS_AS(magr::unpack_compressed_tensors(t), magr::shape_error);
    t = good;
    t.weight_scale.type = storage_type::native;
    CHECK_THROWS_AS(magr::unpack_compressed_tensors(t), magr::option_error);
    t = good;
    t.weight_zero_point = magr::matrix<std::int32_t>(2, 2);
    CHECK_THROWS_AS(magr::unpack_compressed_tensors(t), magr::shape_error);
    t = good;
    t.weight_g_idx.assign(63, 0);
    CHECK_THROWS_AS(magr::unpack_compressed_tensors(t), magr::shape_error);
    CHECK_THROWS_AS(magr::unpack_compressed_tensors({}), magr::shape_error);
}
