// SPDX-License-Identifier: MIT
#include <magr/pack/matmul_nbits.hpp>

#include <array>
#include <random>
#include <utility>

#include "pack/samples.hpp"
#include "support/catch.hpp"

using magr::index_t;
using magr::storage_type;
using magr::zero_point;

namespace {

/// The weights by the operator's definition, N x K: (code - zero point) * scale, in float.
magr::matrix<float> textbook_weights(const magr::matmul_nbits_tensors& t) {
    const index_t blocks = (t.K + t.block_size - 1) / t.block_size, blob = t.block_size * t.bits / 8;
    const auto bits_of = [](const magr::matrix<std::uint8_t>& m, index_t row, index_t first_byte, int bits, index_t k) {
        return static_cast<float>(textbook::code_in_stream(
            [&](std::size_t p) { return std::pair(static_cast<unsigned>(m(row, first_byte + static_cast<index_t>(p / 8))), p % 8); }, bits,
            static_cast<std::size_t>(k)));
    };
    magr::matrix<float> weights(t.N, t.K);
    for (index_t n = 0; n < t.N; ++n)
        for (index_t k = 0; k < t.K; ++k) {
            const index_t block = k / t.block_size;
            const float code = bits_of(t.B, n, block * blob, t.bits, k % t.block_size);
            float zero = static_cast<float>(1 << (t.bits - 1));
            const auto number = static_cast<std::size_t>(n * blocks + block);
            if (!t.zero_points.empty()) zero = bits_of(t.zero_points, n, 0, t.bits, block);
            if (!t.real_zero_points.empty())
                zero = static_cast<float>(textbook::number_at(t.real_zero_points.bytes, t.real_zero_points.type, number));
            weights(n, k) = (code - zero) * static_cast<float>(textbook::number_at(t.scales.bytes, t.scales.type, number));
        }
    return weights;
}

}  // namespace

TEST_CASE("pack_matmul_nbits: comes back bit for bit, and means the same weights by the operator's definition",
          "[pack][matmul_nbits][property][oracle]") {
    std::mt19937 random(1);
    for (const int bits : {2, 4, 8})
        for (const auto storage : {storage_type::f32, storage_type::f16, storage_type::bf16})
            for (const auto zero : {zero_point::none, zero_point::integer, zero_point::real})
                for (const auto& [rows, cols, group] :
                     {std::array<index_t, 3>{1, 1, 16}, {5, 64, 32}, {3, 50, 16}, {2, 300, 64}, {4, 100, 100}, {3, 7, 7}, {2, 130, 128}}) {
                    const auto q =
                        samples::quantized(rows, cols, {.bits = bits, .zero_point = zero, .group_size = group, .storage = storage}, random);
                    const auto packed = magr::pack_matmul_nbits(q);
                    const auto back = magr::unpack_matmul_nbits(packed);
                    CAPTURE(bits, rows, cols, group, static_cast<int>(storage), static_cast<int>(zero));
                    CHECK(samples::same(q, back));
                    CHECK(back.zero_point == q.zero_point);
                    CHECK(back.storage == q.storage);
                    CHECK(magr::pack_matmul_nbits(back) == packed);
                    CHECK(textbook_weights(packed) == q.dequantize());
                }
}

TEST_CASE("pack_matmul_nbits: bytes by hand", "[pack][matmul_nbits][oracle]") {
    // 1 x 36, 4 bits, blocks of 16: codes 0..15, 0..15, 0..3. The third block has 4 codes and 12 zeros
    magr::quantized_matrix<float> q;
    q.bits = 4;
    q.storage = storage_type::f32;
    q.group_size = 16;
    q.scales = q.zeros = magr::matrix<float>(1, 3);
    q.codes = magr::matrix<std::uint8_t>(1, 36);
    for (index_t j = 0; j < 36; ++j) {
        q.group_of_column.push_back(j / 16);
        q.codes(0, j) = static_cast<std::uint8_t>(j % 16);
    }
    for (index_t g = 0; g < 3; ++g) {
        q.scales(0, g) = static_cast<float>(g + 1);
        q.zeros(0, g) = static_cast<float>(g + 9);
    }
    const auto packed = magr::pack_matmul_nbits(q);
    CHECK(packed.N == 1);
    CHECK(packed.K == 36);
    CHECK(packed.block_size == 16);
    const std::vector<std::uint8_t> expected = {0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0xFE, 0x10, 0x32, 0x54, 0x76,
                                                0x98, 0xBA, 0xDC, 0xFE, 0x10, 0x32, 0,    0,    0,    0,    0,    0};
    CHECK(std::vector<std::uint8_t>(packed.B.data(), packed.B.data() + packed.B.cols()) == expected);
    // zero points 9, 10, 11 in nibbles
    CHECK(packed.zero_points.cols() == 2);
    CHECK(packed.zero_points(0, 0) == 0xA9);
    CHECK(packed.zero_points(0, 1) == 0x0B);
    // 1, 2, 3 in f32: 3F800000, 40000000, 40400000
    CHECK(packed.scales.bytes == std::vector<std::uint8_t>{0, 0, 0x80, 0x3F, 0, 0, 0, 0x40, 0, 0, 0x40, 0x40});
    CHECK(packed.real_zero_points.empty());
}

TEST_CASE("pack_matmul_nbits: a row that is one group becomes one block", "[pack][matmul_nbits][edge]") {
    std::mt19937 random(2);
    for (const auto& [cols, block] : {std::pair<index_t, index_t>{3, 16}, {16, 16}, {17, 32}, {100, 128}}) {
        const auto packed = magr::pack_matmul_nbits(samples::quantized(2, cols, {.storage = storage_type::f32}, random));
        CHECK(packed.block_size == block);
        CHECK(packed.B.cols() == block / 2);
    }
}

TEST_CASE("pack_matmul_nbits: refuses what the operator cannot take", "[pack][matmul_nbits][edge]") {
    std::mt19937 random(3);
    auto q = samples::quantized(2, 64, {.bits = 4, .zero_point = zero_point::real, .group_size = 16, .storage = storage_type::f16}, random);
    CHECK_NOTHROW(magr::pack_matmul_nbits(q));
    q.zeros(1, 3) = 7.3F;
    CHECK_THROWS_WITH(magr::pack_matmul_nbits(q),
                      "pack_matmul_nbits: zero point (row 1, group 3) must be a number of type f16, it is 7.30000019; set "
                      "grid_options::storage to storage_type::f16");
}

TEST_CASE("unpack_matmul_nbits: refuses tensors that do not fit together", "[pack][matmul_nbits][edge]") {
    std::mt19937 random(4);
    const auto good =
        magr::pack_matmul_nbits(samples::quantized(2, 64, {.bits = 4, .group_size = 16, .storage = storage_type::f16}, random));
    auto t = good;
    t.K = 65;
    CHECK_THROWS_AS(magr::unpack_matmul_nbits(t), magr::shape_error);
    t = good;
    t.N = 0;
    CHECK_THROWS_AS(magr::unpack_matmul_nbits(t), magr::shape_error);
    t = good;
    t.block_size = 80;  // longer than the row, but no power of 2
    CHECK_THROWS_AS(magr::unpack_matmul_nbits(t), magr::option_error);
    t.block_size = 0;
    CHECK_THROWS_AS(magr::unpack_matmul_nbits(t), magr::option_error);
    t = good;
    t.bits = 3;
    CHECK_THROWS_AS(magr::unpack_matmul_nbits(t), magr::option_error);
    t = good;
    t.zero_points = magr::matrix<std::uint8_t>(2, 1);
    CHECK_THROWS_AS(magr::unpack_matmul_nbits(t), magr::shape_error);
    t = good;
    t.scales.rows = 1;
    CHECK_THROWS_AS(magr::unpack_matmul_nbits(t), magr::shape_error);
    CHECK_THROWS_AS(magr::unpack_matmul_nbits({}), magr::option_error);
}
