// SPDX-License-Identifier: MIT
#include <magr/pack/mlx.hpp>

#include <array>
#include <random>
#include <utility>

#include "pack/samples.hpp"
#include "support/catch.hpp"

using magr::index_t;
using magr::storage_type;
using magr::zero_point;

namespace {

/// The weights by the format's definition, N x K: scale * code + bias.
magr::matrix<double> textbook_weights(const magr::mlx_tensors& t) {
    const index_t N = t.scales.rows, K = t.scales.cols * t.group_size;
    magr::matrix<double> weights(N, K);
    for (index_t n = 0; n < N; ++n)
        for (index_t k = 0; k < K; ++k) {
            const auto code =
                textbook::code_in_stream([&](std::size_t p) { return std::pair(t.weight(n, static_cast<index_t>(p / 32)), p % 32); },
                                         t.bits, static_cast<std::size_t>(k));
            const auto number = static_cast<std::size_t>(n * t.scales.cols + k / t.group_size);
            weights(n, k) = textbook::number_at(t.scales.bytes, t.scales.type, number) * code +
                            textbook::number_at(t.biases.bytes, t.biases.type, number);
        }
    return weights;
}

}  // namespace

TEST_CASE("pack_mlx: offsets come back bit for bit, and mean the same weights by the format's definition",
          "[pack][mlx][property][oracle]") {
    std::mt19937 random(1);
    for (const int bits : {2, 3, 4, 5, 6, 8})
        for (const auto storage : {storage_type::f32, storage_type::f16, storage_type::bf16})
            for (const auto& [rows, cols, group] :
                 {std::array<index_t, 3>{1, 32, 32}, {5, 128, 64}, {3, 256, 128}, {7, 96, 32}, {2, 64, 128}}) {
                const auto q = samples::quantized(
                    rows, cols, {.bits = bits, .zero_point = zero_point::offset, .group_size = group, .storage = storage}, random);
                const auto packed = magr::pack_mlx(q);
                const auto back = magr::unpack_mlx(packed);
                CAPTURE(bits, rows, cols, group, static_cast<int>(storage));
                CHECK(samples::same(q, back));
                CHECK(back.zero_point == zero_point::offset);
                CHECK(back.storage == q.storage);
                CHECK(magr::pack_mlx(back) == packed);
                const auto expected = textbook_weights(packed);
                const auto weights = q.dequantize();
                for (index_t i = 0; i < rows; ++i)
                    for (index_t j = 0; j < cols; ++j)  // two roundings to float, each of a number below 512
                        CHECK(weights(i, j) == Approx(expected(i, j)).epsilon(0).margin(2 * 256 * 0x1p-23));
            }
}

TEST_CASE("pack_mlx: no zero point is an exact bias", "[pack][mlx][property]") {
    std::mt19937 random(2);
    for (const auto storage : {storage_type::f32, storage_type::f16, storage_type::bf16})
        for (const int bits : {2, 4, 8}) {
            const auto q =
                samples::quantized(4, 128, {.bits = bits, .zero_point = zero_point::none, .group_size = 64, .storage = storage}, random);
            const auto back = magr::unpack_mlx(magr::pack_mlx(q));
            CHECK(back.codes == q.codes);
            CHECK(back.scales == q.scales);
            for (index_t i = 0; i < 4; ++i)
                for (index_t g = 0; g < 2; ++g) CHECK(back.zeros(i, g) == -q.scales(i, g) * q.zeros(i, g));
        }
}

TEST_CASE("pack_mlx: bytes by hand", "[pack][mlx][oracle]") {
    // 1 x 32, 3 bits, one group: the codes 0..7 four times; 24 bits that repeat
    magr::quantized_matrix<float> q;
    q.bits = 3;
    q.zero_point = zero_point::offset;
    q.storage = storage_type::f16;
    q.group_size = 32;
    q.group_of_column.assign(32, 0);
    q.scales = q.zeros = magr::matrix<float>(1, 1);
    q.scales(0, 0) = 0.5F;
    q.zeros(0, 0) = -1.5F;
    q.codes = magr::matrix<std::uint8_t>(1, 32);
    for (index_t j = 0; j < 32; ++j) q.codes(0, j) = static_cast<std::uint8_t>(j % 8);
    const auto packed = magr::pack_mlx(q);
    // 111 110 101 100 011 010 001 000 is FAC688: the bytes 88 C6 FA, again and again, in little-endian words
    REQUIRE(packed.weight.cols() == 3);
    CHECK(packed.weight(0, 0) == 0x88FAC688);
    CHECK(packed.weight(0, 1) == 0xC688FAC6);
    CHECK(packed.weight(0, 2) == 0xFAC688FA);
    // 0.5 = 2^-1 is 3800, -1.5 is BE00 in f16
    CHECK(packed.scales.bytes == std::vector<std::uint8_t>{0x00, 0x38});
    CHECK(packed.biases.bytes == std::vector<std::uint8_t>{0x00, 0xBE});
}

TEST_CASE("pack_mlx: integer zero points only where the bias is exact", "[pack][mlx][edge]") {
    std::mt19937 random(3);
    auto q = samples::quantized(2, 64, {.zero_point = zero_point::integer, .group_size = 32, .storage = storage_type::f16}, random);
    for (index_t i = 0; i < 2; ++i)
        for (index_t g = 0; g < 2; ++g) q.zeros(i, g) = 4;  // a power of 2
    CHECK(samples::equal(textbook_weights(magr::pack_mlx(q)), q.dequantize()));
    q.scales(1, 0) = 1 + 0x1p-10F;  // uses all bits of f16
    q.zeros(1, 0) = 7;
    CHECK_THROWS_WITH(
        magr::pack_mlx(q),
        "pack_mlx: -scale * zero point (row 1, group 0) must be a number of type f16, it is -7.00683594; quantize with zero_point::offset");
    q.scales(1, 0) = 32768;
    CHECK_THROWS_AS(magr::pack_mlx(q), magr::value_error);  // overflows f16
}

TEST_CASE("pack_mlx: refuses an offset that is not stored exactly", "[pack][mlx][edge]") {
    std::mt19937 random(4);
    auto q = samples::quantized(2, 64, {.zero_point = zero_point::offset, .group_size = 32, .storage = storage_type::bf16}, random);
    q.zeros(0, 1) = 0.1F;
    CHECK_THROWS_WITH(magr::pack_mlx(q),
                      "pack_mlx: offset (row 0, group 1) must be a number of type bf16, it is 0.100000001; set "
                      "grid_options::storage to storage_type::bf16");
}

TEST_CASE("unpack_mlx: refuses tensors that do not fit together", "[pack][mlx][edge]") {
    std::mt19937 random(5);
    const auto good = magr::pack_mlx(
        samples::quantized(2, 64, {.zero_point = zero_point::offset, .group_size = 32, .storage = storage_type::f16}, random));
    auto t = good;
    t.bits = 8;
    CHECK_THROWS_AS(magr::unpack_mlx(t), magr::shape_error);
    t.bits = 0;
    CHECK_THROWS_AS(magr::unpack_mlx(t), magr::option_error);
    t = good;
    t.group_size = 64;
    CHECK_THROWS_AS(magr::unpack_mlx(t), magr::shape_error);
    t = good;
    t.biases.bytes.clear();
    CHECK_THROWS_AS(magr::unpack_mlx(t), magr::shape_error);
    CHECK_THROWS_AS(magr::unpack_mlx({}), magr::shape_error);
}
