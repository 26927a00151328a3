// SPDX-License-Identifier: MIT
#include <magr/gguf/gguf.hpp>

#include <array>
#include <cmath>
#include <random>
#include <tuple>
#include <vector>

#include <magr/pack/format.hpp>
#include <magr/quantize/rtn.hpp>

#include "gguf/textbook_gguf.hpp"
#include "pack/samples.hpp"
#include "support/catch.hpp"

using magr::ggml_type;
using magr::index_t;
using magr::storage_type;
using magr::zero_point;

namespace {

struct block_type {
    ggml_type type;
    int bits;
    zero_point zero;
    index_t weights;
    index_t bytes;
};

// bytes per block of weights, from ggml-common.h
constexpr block_type block_types[] = {{ggml_type::q4_0, 4, zero_point::none, 32, 18},    {ggml_type::q4_1, 4, zero_point::offset, 32, 20},
                                      {ggml_type::q5_0, 5, zero_point::none, 32, 22},    {ggml_type::q5_1, 5, zero_point::offset, 32, 24},
                                      {ggml_type::q8_0, 8, zero_point::none, 32, 34},    {ggml_type::q2_0, 2, zero_point::none, 64, 18},
                                      {ggml_type::q4_0, 4, zero_point::integer, 32, 18}, {ggml_type::q5_0, 5, zero_point::integer, 32, 22},
                                      {ggml_type::q8_0, 8, zero_point::integer, 32, 34}, {ggml_type::q2_0, 2, zero_point::integer, 64, 18},
                                      {ggml_type::q4_0, 4, zero_point::middle, 32, 18},  {ggml_type::q5_0, 5, zero_point::middle, 32, 22},
                                      {ggml_type::q8_0, 8, zero_point::middle, 32, 34},  {ggml_type::q2_0, 2, zero_point::middle, 64, 18}};

magr::quantized_matrix<float> sample(const block_type& b, index_t rows, index_t cols, index_t group, std::mt19937& random) {
    auto q =
        samples::quantized(rows, cols, {.bits = b.bits, .zero_point = b.zero, .group_size = group, .storage = storage_type::f16}, random);
    if (b.zero == zero_point::integer)  // one of the two middle codes
        for (index_t i = 0; i < rows; ++i)
            for (index_t g = 0; g < q.zeros.cols(); ++g) q.zeros(i, g) = static_cast<float>((1U << (b.bits - 1)) - random() % 2);
    return q;
}

/// One block of 32 weights with the scale 1, and the offset -8 if there are offsets. Code j is j mod 2^bits.
magr::quantized_matrix<float> counting_block(int bits, zero_point zero) {
    magr::quantized_matrix<float> q;
    q.bits = bits;
    q.zero_point = zero;
    q.storage = storage_type::f16;
    q.group_size = 32;
    q.group_of_column.assign(32, 0);
    q.scales = q.zeros = magr::matrix<float>(1, 1);
    q.scales(0, 0) = 1;
    q.zeros(0, 0) = zero == zero_point::offset ? -8.0F : std::ldexp(1.0F, bits - 1);
    q.codes = magr::matrix<std::uint8_t>(1, 32);
    for (index_t j = 0; j < 32; ++j) q.codes(0, j) = static_cast<std::uint8_t>(j % (1 << bits));
    return q;
}

using bytes = std::vector<std::uint8_t>;

}  // namespace

TEST_CASE("pack_gguf: blocks come back bit for bit, and mean the same weights by ggml's definition", "[gguf][property][oracle]") {
    std::mt19937 random(1);
    for (const auto& b : block_types)
        for (const auto& [rows, blocks] : {std::pair<index_t, index_t>{1, 1}, {3, 2}, {7, 5}}) {
            const auto q = sample(b, rows, blocks * b.weights, b.weights, random);
            const auto packed = magr::pack_gguf(q, b.type);
            const auto back = magr::unpack_gguf(packed);
            CAPTURE(static_cast<int>(b.type), rows, blocks);
            REQUIRE(packed.data.size() == static_cast<std::size_t>(rows * blocks * b.bytes));
            CHECK(samples::same(q, back));
            CHECK(magr::pack_gguf(back, b.type) == packed);
            const auto expected = textbook::gguf_weights(packed, b.weights, b.bytes);
            const auto weights = q.dequantize();
            if (b.zero != zero_point::offset) CHECK(weights == expected);
            for (index_t i = 0; i < rows; ++i)
                for (index_t j = 0; j < q.cols(); ++j)  // the product is exact in float, the sum is rounded once
                    CHECK(std::abs(weights(i, j) - expected(i, j)) <= 0);
        }
}

TEST_CASE("pack_gguf: bytes by hand", "[gguf][oracle]") {
    // f16: 1 is 3C00, -8 is C800, written low byte first. q4: byte j holds code j low and code j + 16 high, both j.
    const bytes nibbles = {0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xAA, 0xBB, 0xCC, 0xDD, 0xEE, 0xFF};
    const auto join = [](bytes head, const bytes& tail) {
        head.insert(head.end(), tail.begin(), tail.end());
        return head;
    };
    CHECK(magr::pack_gguf(counting_block(4, zero_point::none), ggml_type::q4_0).data == join({0x00, 0x3C}, nibbles));
    CHECK(magr::pack_gguf(counting_block(4, zero_point::offset), ggml_type::q4_1).data == join({0x00, 0x3C, 0x00, 0xC8}, nibbles));
    // q5: codes 0..31; the fifth bits are those of codes 16..31
    CHECK(magr::pack_gguf(counting_block(5, zero_point::none), ggml_type::q5_0).data == join({0x00, 0x3C, 0, 0, 0xFF, 0xFF}, nibbles));
    CHECK(magr::pack_gguf(counting_block(5, zero_point::offset), ggml_type::q5_1).data ==
          join({0x00, 0x3C, 0x00, 0xC8, 0, 0, 0xFF, 0xFF}, nibbles));
    // q8_0: codes 0..31 are -128..-97 as signed bytes
    bytes expected = {0x00, 0x3C};
    for (unsigned j = 0; j < 32; ++j) expected.push_back(static_cast<std::uint8_t>(0x80 + j));
    CHECK(magr::pack_gguf(counting_block(8, zero_point::none), ggml_type::q8_0).data == expected);
    for (const auto type : {ggml_type::q4_0, ggml_type::q4_1, ggml_type::q5_0, ggml_type::q5_1, ggml_type::q8_0}) {
        const bool offset = type == ggml_type::q4_1 || type == ggml_type::q5_1;
        const int bits = type == ggml_type::q8_0 ? 8 : type == ggml_type::q4_0 || type == ggml_type::q4_1 ? 4 : 5;
        const auto q = counting_block(bits, offset ? zero_point::offset : zero_point::none);
        CHECK(samples::same(magr::unpack_gguf(magr::pack_gguf(q, type)), q));
    }
}

TEST_CASE("pack_gguf: the grids that suit a type use both signs of the scale, so that the largest weight of a block is exact",
          "[gguf][oracle]") {
    for (const auto& [type, format, bits] : {std::tuple{ggml_type::q4_0, magr::packed_format::gguf_q4_0, 4},
                                             {ggml_type::q5_0, magr::packed_format::gguf_q5_0, 5},
                                             {ggml_type::q8_0, magr::packed_format::gguf_q8_0, 8}})
        for (const float largest : {1.0F, -1.0F}) {
            magr::matrix<float> W(1, 32);
            for (index_t j = 0; j < 32; ++j) W(0, j) = static_cast<float>(j - 16) / 64;
            W(0, 5) = largest;
            const auto packed = magr::pack_gguf(magr::quantize_rtn(W, magr::grid_options_for(format)), type);
            // f16: 2^-k is (15 - k) << 10; the block's scale is -largest / 2^(bits - 1), as ggml chooses it
            CAPTURE(bits, largest);
            CHECK(packed.data[0] == 0);
            CHECK(packed.data[1] == ((largest > 0 ? 0x80 : 0) | (15 - (bits - 1)) << 2));
            CHECK(magr::unpack_gguf(packed).dequantize()(0, 5) == largest);
        }
}

TEST_CASE("pack_gguf: two-bit blocks by hand, with either zero point", "[gguf][oracle]") {
    magr::quantized_matrix<float> q;
    q.bits = 2;
    q.storage = storage_type::f16;
    q.group_size = 64;
    q.group_of_column.assign(64, 0);
    q.scales = q.zeros = magr::matrix<float>(1, 1);
    q.scales(0, 0) = 1;
    q.zeros(0, 0) = 1;
    q.codes = magr::matrix<std::uint8_t>(1, 64);
    for (index_t j = 0; j < 64; ++j) q.codes(0, j) = static_cast<std::uint8_t>(j % 4);
    bytes expected(18, 0xE4);  // 11 10 01 00
    expected[0] = 0x00;
    expected[1] = 0x3C;
    CHECK(magr::pack_gguf(q, ggml_type::q2_0).data == expected);
    // c - 2 = -((3 - c) - 1): reversed codes and a negative scale
    q.zeros(0, 0) = 2;
    expected.assign(18, 0x1B);  // 00 01 10 11
    expected[0] = 0x00;
    expected[1] = 0xBC;
    CHECK(magr::pack_gguf(q, ggml_type::q2_0).data == expected);
    CHECK(samples::same(magr::unpack_gguf(magr::pack_gguf(q, ggml_type::q2_0)), q));
    q.zeros(0, 0) = 0;
    CHECK_THROWS_WITH(magr::pack_gguf(q, ggml_type::q2_0), "pack_gguf: zero point (row 0, group 0) must be 1 or 2, it is 0");
}

TEST_CASE("pack_gguf: a group longer than a block has its scale written for each", "[gguf][property]") {
    std::mt19937 random(2);
    for (const auto& b : block_types)
        for (const index_t blocks : {2, 3, 8}) {  // per group; the last group of a row of 8 blocks may be shorter
            const auto q = sample(b, 3, 8 * b.weights, blocks * b.weights, random);
            const auto back = magr::unpack_gguf(magr::pack_gguf(q, b.type));
            CHECK(back.group_size == b.weights);
            CHECK(back.codes == q.codes);
            CHECK(back.dequantize() == q.dequantize());
        }
}

TEST_CASE("pack_gguf: double grids of f16 numbers pack to the same bytes", "[gguf][property]") {
    std::mt19937 random(3), again(3);
    const magr::grid_options options{.bits = 4, .zero_point = zero_point::offset, .group_size = 32, .storage = storage_type::f16};
    CHECK(magr::pack_gguf(samples::quantized<double>(4, 96, options, random), ggml_type::q4_1) ==
          magr::pack_gguf(samples::quantized<float>(4, 96, options, again), ggml_type::q4_1));
}

TEST_CASE("pack_gguf: refuses what the type cannot hold", "[gguf][edge]") {
    std::mt19937 random(4);
    const auto good = sample(block_types[1], 2, 64, 32, random);
    auto q = good;
    q.zeros(1, 1) = 0.3F;
    CHECK_THROWS_WITH(magr::pack_gguf(q, ggml_type::q4_1),
                      "pack_gguf: offset (row 1, group 1) must be a number of type f16, it is 0.300000012; set grid_options::storage to "
                      "storage_type::f16");
    q = good;
    q.scales(0, 1) = 0x1p-25F;
    CHECK_THROWS_AS(magr::pack_gguf(q, ggml_type::q4_1), magr::value_error);
    CHECK_THROWS_AS(magr::pack_gguf(good, ggml_type::q4_0), magr::option_error);
    CHECK_THROWS_AS(magr::pack_gguf(good, ggml_type::q4_k), magr::shape_error);
    CHECK_THROWS_AS(magr::pack_gguf(good, static_cast<ggml_type>(1)), magr::option_error);
}

TEST_CASE("unpack_gguf: reads what other programs write, and refuses what is no tensor", "[gguf][edge]") {
    std::mt19937 random(5);
    auto t = magr::pack_gguf(sample(block_types[0], 2, 64, 32, random), ggml_type::q4_0);
    t.data[1] ^= 0x80;  // ggml itself makes d negative if that suits the largest weight
    const auto negative = magr::unpack_gguf(t);
    CHECK(negative.scales(0, 0) > 0);
    CHECK(negative.zeros(0, 0) == 7);
    CHECK(negative.dequantize() == textbook::gguf_weights(t, 32, 18));
    CHECK(magr::pack_gguf(negative, ggml_type::q4_0) == t);
    t.data[0] = 0x00;
    t.data[1] = 0x7C;  // infinite
    CHECK_THROWS_AS(magr::unpack_gguf(t), magr::value_error);
    t.data.pop_back();
    CHECK_THROWS_WITH(magr::unpack_gguf(t), "unpack_gguf: data must have 2 rows of 36 bytes, it has 71 bytes");
    t.cols = 48;
    CHECK_THROWS_AS(magr::unpack_gguf(t), magr::shape_error);
    t.type = static_cast<ggml_type>(0);
    CHECK_THROWS_AS(magr::unpack_gguf(t), magr::option_error);
    CHECK_THROWS_AS(magr::unpack_gguf({}), magr::shape_error);
}
