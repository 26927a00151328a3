// SPDX-License-Identifier: MIT
#include <magr/gguf/k_quants.hpp>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <random>
#include <utility>
#include <vector>

#include <magr/parallel/thread_pool.hpp>

#include "gguf/textbook_gguf.hpp"
#include "pack/samples.hpp"
#include "support/catch.hpp"
#include "support/counting_executor.hpp"

using magr::ggml_type;
using magr::index_t;
using magr::zero_point;

namespace {

struct k_type {
    ggml_type type;
    int bits;
    index_t group;
    int largest_scale, largest_offset;  ///< integers of a group
    index_t bytes;
};

// from ggml-common.h, and the widths of its scales; q3_k and q6_k have only positive scales here
constexpr k_type k_types[] = {{ggml_type::q2_k, 2, 16, 15, 15, 84},
                              {ggml_type::q3_k, 3, 16, 31, 0, 110},
                              {ggml_type::q4_k, 4, 32, 63, 63, 144},
                              {ggml_type::q5_k, 5, 32, 63, 63, 176},
                              {ggml_type::q6_k, 6, 16, 127, 0, 210}};

using weights = magr::matrix<float>;

weights gaussian(index_t rows, index_t cols, std::mt19937& random) {
    std::normal_distribution<float> normal;
    weights W(rows, cols);
    for (index_t i = 0; i < rows; ++i)
        for (index_t j = 0; j < cols; ++j) W(i, j) = 0.02F * normal(random);
    return W;
}

/// Student's t with 3 degrees of freedom.
weights heavy_tailed(index_t rows, index_t cols, std::mt19937& random) {
    std::student_t_distribution<float> student(3);
    weights W(rows, cols);
    for (index_t i = 0; i < rows; ++i)
        for (index_t j = 0; j < cols; ++j) W(i, j) = 0.02F * student(random);
    return W;
}

double squared_error(const weights& a, const weights& b) {
    double sum = 0;
    for (index_t i = 0; i < a.rows(); ++i)
        for (index_t j = 0; j < a.cols(); ++j) sum += std::pow(static_cast<double>(a(i, j)) - static_cast<double>(b(i, j)), 2);
    return sum;
}

/// The grids of a fit without any search: each group from its smallest to its largest weight, d and dmin from the largest scale and offset,
/// integers rounded to nearest.
magr::weight_grids<float> min_max_grids(const weights& W, const k_type& k) {
    auto grids = magr::fit_k_quant_grids(W, k.type);  // only its shapes are used
    const index_t per_block = 256 / k.group;
    const float steps = static_cast<float>((1 << k.bits) - 1);
    for (index_t i = 0; i < W.rows(); ++i)
        for (index_t block = 0; block < W.cols() / 256; ++block) {
            std::vector<float> scales, offsets;
            for (index_t g = 0; g < per_block; ++g) {
                const float* w = &W(i, block * 256 + g * k.group);
                const float low = std::min(0.0F, *std::min_element(w, w + k.group)),
                            high = std::max(0.0F, *std::max_element(w, w + k.group));
                scales.push_back(k.largest_offset > 0 ? (high - low) / steps : 2 * std::max(high, -low) / steps);
                offsets.push_back(-low);
            }
            const auto half = [](float value) { return static_cast<float>(Eigen::half(value)); };
            const float d = half(*std::max_element(scales.begin(), scales.end()) / static_cast<float>(k.largest_scale));
            const float dmin =
                k.largest_offset > 0 ? half(*std::max_element(offsets.begin(), offsets.end()) / static_cast<float>(k.largest_offset)) : 0;
            for (index_t g = 0; g < per_block; ++g) {
                const auto at = static_cast<std::size_t>(g);
                grids.scales(i, block * per_block + g) = d * std::max(1.0F, std::nearbyint(scales[at] / d));
                grids.zeros(i, block * per_block + g) =
                    dmin > 0 ? -dmin * std::nearbyint(offsets[at] / dmin) : static_cast<float>(1 << (k.bits - 1));
            }
        }
    return grids;
}

/// Grids of arbitrary numbers that the type can hold, with random codes.
magr::quantized_matrix<float> random_quantized(const k_type& k, index_t rows, index_t cols, std::mt19937& random) {
    auto q = samples::quantized(
        rows, cols, {.bits = k.bits, .zero_point = k.largest_offset > 0 ? zero_point::offset : zero_point::middle, .group_size = k.group},
        random);
    const index_t per_block = 256 / k.group, groups = cols / k.group;
    q.shared.groups = per_block;
    q.shared.scales = q.shared.offsets = magr::matrix<float>(rows, cols / 256);
    q.shared.scale_codes = magr::matrix<std::int8_t>(rows, groups);
    q.shared.offset_codes = magr::matrix<std::uint8_t>(rows, groups);
    for (index_t i = 0; i < rows; ++i)
        for (index_t g = 0; g < groups; ++g) {
            if (g % per_block == 0) {
                q.shared.scales(i, g / per_block) = samples::random_number<float>(magr::storage_type::f16, random);
                q.shared.offsets(i, g / per_block) = samples::random_number<float>(magr::storage_type::f16, random);
            }
            const auto scale = static_cast<int>(1 + random() % static_cast<unsigned>(k.largest_scale));
            q.shared.scale_codes(i, g) = static_cast<std::int8_t>(scale);
            q.scales(i, g) = q.shared.scales(i, g / per_block) * static_cast<float>(scale);
            if (k.largest_offset == 0) {
                q.zeros(i, g) = static_cast<float>((1U << (k.bits - 1)) - random() % 2);
                continue;
            }
            q.shared.offset_codes(i, g) = static_cast<std::uint8_t>(random() % static_cast<unsigned>(k.largest_offset + 1));
            q.zeros(i, g) = -(q.shared.offsets(i, g / per_block) * static_cast<float>(q.shared.offset_codes(i, g)));
        }
    if (k.largest_offset == 0) {
        q.shared.offsets = {};
        q.shared.offset_codes = {};
    }
    return q;
}

bool same_shared(const magr::shared_scales<float>& a, const magr::shared_scales<float>& b) {
    return a.groups == b.groups && a.scales == b.scales && a.offsets == b.offsets && a.scale_codes == b.scale_codes &&
           a.offset_codes == b.offset_codes;
}

}  // namespace

TEST_CASE("k-quants: any grids and codes come back bit for bit, and mean the same weights by ggml's definition",
          "[gguf][k_quants][property][oracle]") {
    std::mt19937 random(1);
    for (const auto& k : k_types)
        for (const index_t cols : {256, 768}) {
            const auto q = random_quantized(k, 5, cols, random);
            const auto packed = magr::pack_gguf(q, k.type);
            const auto back = magr::unpack_gguf(packed);
            CAPTURE(static_cast<int>(k.type), cols);
            REQUIRE(packed.data.size() == static_cast<std::size_t>(5 * (cols / 256) * k.bytes));
            CHECK(samples::same(q, back));
            CHECK(same_shared(q.shared, back.shared));
            CHECK(magr::pack_gguf(back, k.type) == packed);
            // d * sc * c and dmin * m are exact in float; their difference is rounded once on either side
            CHECK(textbook::gguf_weights(packed, 256, k.bytes) == q.dequantize());
        }
}

TEST_CASE("k-quants: fitted grids are what the format holds", "[gguf][k_quants][property]") {
    std::mt19937 random(2);
    for (const auto& k : k_types)
        for (const bool heavy : {false, true}) {
            const weights W = heavy ? heavy_tailed(4, 512, random) : gaussian(4, 512, random);
            const auto grids = magr::fit_k_quant_grids(W, k.type);
            CAPTURE(static_cast<int>(k.type), heavy);
            CHECK(grids.bits == k.bits);
            CHECK(grids.group_size == k.group);
            CHECK(grids.zero_point == (k.largest_offset > 0 ? zero_point::offset : zero_point::middle));
            const index_t per_block = 256 / k.group;
            for (index_t i = 0; i < W.rows(); ++i)
                for (index_t g = 0; g < grids.scales.cols(); ++g) {
                    const float d = grids.shared.scales(i, g / per_block);
                    const int sc = grids.shared.scale_codes(i, g);
                    CHECK(d == static_cast<float>(Eigen::half(d)));
                    CHECK(sc >= 1);
                    CHECK(sc <= k.largest_scale);
                    CHECK(grids.scales(i, g) == d * static_cast<float>(sc));
                    if (k.largest_offset == 0) {
                        const float middle = static_cast<float>(1 << (k.bits - 1));
                        CHECK((grids.zeros(i, g) == middle || grids.zeros(i, g) == middle - 1));
                        continue;
                    }
                    CHECK(grids.shared.offset_codes(i, g) <= k.largest_offset);
                    CHECK(grids.zeros(i, g) ==
                          -(grids.shared.offsets(i, g / per_block) * static_cast<float>(grids.shared.offset_codes(i, g))));
                }
            const auto q = magr::quantize_rtn(W, grids);
            CHECK(samples::same(magr::unpack_gguf(magr::pack_gguf(q, k.type)), q));
        }
}

TEST_CASE("k-quants: the search has a smaller error than ranges from smallest to largest", "[gguf][k_quants][property]") {
    std::mt19937 random(3);
    for (const auto& k : k_types)
        for (const bool heavy : {false, true}) {
            const weights W = heavy ? heavy_tailed(16, 1024, random) : gaussian(16, 1024, random);
            const double searched = squared_error(magr::quantize_rtn(W, magr::fit_k_quant_grids(W, k.type)).dequantize(), W);
            const double plain = squared_error(magr::quantize_rtn(W, min_max_grids(W, k)).dequantize(), W);
            CAPTURE(static_cast<int>(k.type), heavy);
            CHECK(searched < 0.9 * plain);
        }
}

TEST_CASE("k-quants: weights on a grid of the format are nearly found again", "[gguf][k_quants][property]") {
    std::mt19937 random(4);
    for (const auto& k : k_types) {
        const auto q = random_quantized(k, 4, 512, random);
        const weights W = q.dequantize();
        const auto again = magr::quantize_rtn(W, magr::fit_k_quant_grids(W, k.type)).dequantize();
        double energy = 0;
        for (index_t i = 0; i < W.rows(); ++i)
            for (index_t j = 0; j < W.cols(); ++j) energy += static_cast<double>(W(i, j)) * static_cast<double>(W(i, j));
        CAPTURE(static_cast<int>(k.type));
        CHECK(squared_error(again, W) < 1e-3 * energy);  // for gaussian weights, two bits leave a tenth
    }
}

TEST_CASE("k-quants: zeros, huge, tiny and constant weights have grids that can be stored", "[gguf][k_quants][edge]") {
    for (const auto& k : k_types) {
        weights W(8, 256);
        for (index_t j = 0; j < 256; ++j) {
            const auto wave = static_cast<float>(j % 7 - 3);
            W(1, j) = 1e30F * wave;
            W(2, j) = 1e-30F * wave;
            W(3, j) = 0.3F;
            W(4, j) = -0.3F;
            W(5, j) = j < 128 ? 0 : wave;                 // groups of zeros beside others
            W(6, j) = j == 77 ? 1e30F : 1e-3F * wave;     // one outlier
            W(7, j) = j / 32 == 3 ? 1e-6F * wave : wave;  // one small group
        }
        const auto grids = magr::fit_k_quant_grids(W, k.type);
        const auto q = magr::quantize_rtn(W, grids);
        const auto Q = q.dequantize();
        CAPTURE(static_cast<int>(k.type));
        for (index_t i = 0; i < 8; ++i)
            for (index_t g = 0; g < grids.scales.cols(); ++g) {
                CHECK(grids.scales(i, g) > 0);
                CHECK(std::isfinite(grids.scales(i, g)));
                CHECK(std::isfinite(grids.zeros(i, g)));
            }
        CHECK(samples::same(magr::unpack_gguf(magr::pack_gguf(q, k.type)), q));
        for (index_t j = 0; j < 256; ++j) {
            CHECK(Q(0, j) == 0);
            CHECK(Q(2, j) == 0);
            CHECK(Q(3, j) == Approx(0.3F).epsilon(0.01));
            CHECK(Q(4, j) == Approx(-0.3F).epsilon(0.01));
            if (j < 128) CHECK(Q(5, j) == 0);
            if (j / 32 == 3) CHECK(std::abs(Q(7, j)) <= 3e-6F);
        }
        CHECK(Q(6, 77) >= 65504);  // at least d is the largest f16 number
    }
}

TEST_CASE("k-quants: errors count where the inputs are", "[gguf][k_quants][property]") {
    std::mt19937 random(5);
    const weights W = gaussian(8, 512, random);
    magr::matrix<float> H(512, 512);
    for (index_t j = 0; j < 512; ++j) H(j, j) = j % 4 == 0 ? 100.0F : j % 4 == 1 ? 0.0F : 1.0F;
    for (const auto& k : k_types) {
        const auto plain = magr::quantize_rtn(W, magr::fit_k_quant_grids(W, k.type)).dequantize();
        const auto weighted = magr::quantize_rtn(W, magr::fit_k_quant_grids(W, H, k.type)).dequantize();
        CAPTURE(static_cast<int>(k.type));
        CHECK(magr::output_error(W, weighted, H) < magr::output_error(W, plain, H));
    }
}

TEST_CASE("k-quants: weights of dead inputs decide nothing that live ones share", "[gguf][k_quants][property]") {
    std::mt19937 random(11);
    weights W = gaussian(4, 768, random), other = W;
    magr::matrix<float> H(768, 768);
    const auto dead = [](index_t j) { return j % 16 == 5 || (j >= 64 && j < 96) || j >= 512; };  // some, whole groups, a whole block
    for (index_t j = 0; j < 768; ++j) {
        H(j, j) = dead(j) ? 0.0F : 1.0F;
        for (index_t i = 0; i < 4; ++i)
            if (dead(j)) W(i, j) = 0, other(i, j) *= 1e4F;
    }
    for (const auto& k : k_types) {
        CAPTURE(static_cast<int>(k.type));
        const auto without = magr::fit_k_quant_grids(W, H, k.type), with = magr::fit_k_quant_grids(other, H, k.type);
        bool same = true, finite = true;
        for (index_t i = 0; i < 4; ++i)
            for (index_t j = 0; j < 768; ++j) {
                const index_t g = with.group_of_column[static_cast<std::size_t>(j)];
                finite = finite && with.scales(i, g) > 0 && std::isfinite(with.scales(i, g)) && std::isfinite(with.zeros(i, g));
                if (dead(j)) continue;
                same = same && with.scales(i, g) == without.scales(i, g) && with.zeros(i, g) == without.zeros(i, g);
            }
        CHECK(same);
        CHECK(finite);
    }
    CHECK_THROWS_AS(magr::fit_k_quant_grids(W, H, k_types[0].type, 1.0), magr::option_error);
}

TEST_CASE("k-quants: double weights have the same grids as float ones", "[gguf][k_quants][property]") {
    std::mt19937 random(7);
    const weights W = gaussian(3, 256, random);
    magr::matrix<double> same(3, 256);
    for (index_t i = 0; i < 3; ++i)
        for (index_t j = 0; j < 256; ++j) same(i, j) = static_cast<double>(W(i, j));
    for (const auto& k : k_types)
        CHECK(magr::pack_gguf(magr::quantize_rtn(W, magr::fit_k_quant_grids(W, k.type)), k.type) ==
              magr::pack_gguf(magr::quantize_rtn(same, magr::fit_k_quant_grids(same, k.type)), k.type));
}

TEST_CASE("k-quants: workers share the rows, and every executor gives the same grids", "[gguf][k_quants][determinism]") {
    std::mt19937 random(8);
    const weights W = gaussian(70, 256, random);
    magr::matrix<double> H(256, 256);
    for (index_t j = 0; j < 256; ++j) H(j, j) = static_cast<double>(j % 5);
    for (const auto& k : k_types) {
        magr::thread_pool pool(3);
        counting_executor exec;
        const auto plain = magr::fit_k_quant_grids(W, k.type), weighted = magr::fit_k_quant_grids(W, H, k.type);
        for (const auto& [expected, found] : {std::pair{plain, magr::fit_k_quant_grids(W, k.type, pool)},
                                              {plain, magr::fit_k_quant_grids(W, k.type, exec)},
                                              {weighted, magr::fit_k_quant_grids(W, H, k.type, 0, pool)},
                                              {weighted, magr::fit_k_quant_grids(W, H, k.type, 0, exec)}}) {
            CHECK(found.scales == expected.scales);
            CHECK(found.zeros == expected.zeros);
            CHECK(found.shared.scale_codes == expected.shared.scale_codes);
        }
        CHECK(exec.loops == std::vector<index_t>{2, 2});  // strips of 64 rows
    }
}

TEST_CASE("k-quants: bytes by hand", "[gguf][k_quants][oracle]") {
    // one block with d = 1, and dmin = 2 if there is one; codes and the integers of the groups as given
    const auto check = [](const k_type& k, const auto& code, const auto& sc, const auto& m, const std::vector<std::uint8_t>& expected) {
        std::mt19937 random(8);
        auto q = random_quantized(k, 1, 256, random);
        q.shared.scales(0, 0) = 1;
        if (k.largest_offset > 0) q.shared.offsets(0, 0) = 2;
        for (index_t g = 0; g < 256 / k.group; ++g) {
            q.shared.scale_codes(0, g) = static_cast<std::int8_t>(sc(g));
            q.scales(0, g) = static_cast<float>(sc(g));
            q.zeros(0, g) = k.largest_offset > 0 ? -2 * static_cast<float>(m(g)) : static_cast<float>(1 << (k.bits - 1));
            if (k.largest_offset > 0) q.shared.offset_codes(0, g) = static_cast<std::uint8_t>(m(g));
        }
        for (index_t j = 0; j < 256; ++j) q.codes(0, j) = static_cast<std::uint8_t>(code(j));
        const auto packed = magr::pack_gguf(q, k.type);
        CAPTURE(static_cast<int>(k.type));
        CHECK(packed.data == expected);
        CHECK(samples::same(magr::unpack_gguf(packed), q));
    };
    std::vector<std::uint8_t> bytes;
    const auto add = [&](std::initializer_list<int> values, int times = 1) {
        for (int k = 0; k < times; ++k)
            for (const int value : values) bytes.push_back(static_cast<std::uint8_t>(value));
    };
    const auto from_one = [](index_t g) { return g + 1; };
    const auto none = [](index_t) { return 0; };

    // q2_k: sc = 1, 2, .. 15, 1 below m = 0, 1, .. 15; code j is j / 32 mod 4, so each byte holds 0, 1, 2, 3: 11 10 01 00; 1 is 3C00 and 2
    // is 4000 in f16
    for (int g = 0; g < 16; ++g) add({16 * g + 1 + g % 15});
    add({0xE4}, 64);
    add({0x00, 0x3C, 0x00, 0x40});
    check(
        k_types[0], [](index_t j) { return j / 32 % 4; }, [](index_t g) { return 1 + g % 15; }, [](index_t g) { return g; }, bytes);

    // q3_k: code j is j / 32, so the third bits are those of the upper four 32s, F0, and the others as before; sc + 32 is 33 .. 48: its
    // low four bits 1 .. 15, 0 in nibbles, g beside g + 8; above them 10, but 11 for the last: 10 10 10 10 three times, 11 10 10 10
    bytes.clear();
    add({0xF0}, 32);
    add({0xE4}, 64);
    add({0x91, 0xA2, 0xB3, 0xC4, 0xD5, 0xE6, 0xF7, 0x08, 0xAA, 0xAA, 0xAA, 0xEA});
    add({0x00, 0x3C});
    check(
        k_types[1], [](index_t j) { return j / 32; }, from_one, none, bytes);

    // q4_k and q5_k: sc = 8 g + 7 and m = 63 - g, in six bits
    const auto add_pairs = [&] {
        add({0x00, 0x3C, 0x00, 0x40});
        // sc of groups 0..3: 7, 15, 23, 31; above them bits 4 and 5 of those of 4..7: 39 = 10 0111, 47 = 10 1111, 55 = 11 0111 and
        // 63 = 11 1111
        add({0x87, 0x8F, 0xD7, 0xDF});
        // m of groups 0..3: 63, 62, 61, 60; above them bits 4 and 5 of those of 4..7: 59, 58, 57, 56 = 11 ....
        add({0xFF, 0xFE, 0xFD, 0xFC});
        // low four bits of sc 4..7, above them those of m: 59 = 11 1011
        add({0xB7, 0xAF, 0x97, 0x8F});
    };
    const auto sc = [](index_t g) { return 8 * g + 7; };
    const auto m = [](index_t g) { return 63 - g; };
    bytes.clear();
    add_pairs();
    // 32 bytes for 64 codes j mod 16: l low, l + 32 high
    for (int l = 0; l < 128; ++l) add({0x11 * (l % 16)});
    check(
        k_types[2], [](index_t j) { return j % 16; }, sc, m, bytes);

    // codes j mod 32: the fifth bits of l, l + 32, .. in byte l are all those of l; the rest as before
    bytes.clear();
    add_pairs();
    add({0x00}, 16);
    add({0xFF}, 16);
    for (int l = 0; l < 128; ++l) add({0x11 * (l % 16)});
    check(
        k_types[3], [](index_t j) { return j % 32; }, sc, m, bytes);

    // q6_k: codes j mod 64: low nibbles of l and l + 64; upper two bits of l, l + 32, l + 64, l + 96: 0, 2, 0, 2 or 1, 3, 1, 3
    bytes.clear();
    for (int l = 0; l < 128; ++l) add({0x11 * (l % 16)});
    for (int chunk = 0; chunk < 2; ++chunk) {
        add({0x88}, 16);  // 10 00 10 00
        add({0xDD}, 16);  // 11 01 11 01
    }
    for (int g = 0; g < 16; ++g) add({g + 1});
    add({0x00, 0x3C});
    check(
        k_types[4], [](index_t j) { return j % 64; }, from_one, none, bytes);
}

TEST_CASE("k-quants: refuses what cannot be fitted or packed", "[gguf][k_quants][edge]") {
    std::mt19937 random(9);
    weights W = gaussian(2, 256, random);
    CHECK_THROWS_AS(magr::fit_k_quant_grids(W, ggml_type::q4_0), magr::option_error);
    CHECK_THROWS_AS(magr::fit_k_quant_grids(gaussian(2, 128, random), ggml_type::q4_k), magr::shape_error);
    CHECK_THROWS_AS(magr::fit_k_quant_grids(weights(), ggml_type::q4_k), magr::shape_error);
    CHECK_THROWS_AS(magr::fit_k_quant_grids(W, magr::matrix<float>(3, 3), ggml_type::q4_k), magr::shape_error);
    const auto good = magr::quantize_rtn(W, magr::fit_k_quant_grids(W, ggml_type::q4_k));
    W(1, 7) = HUGE_VALF;
    CHECK_THROWS_AS(magr::fit_k_quant_grids(W, ggml_type::q4_k), magr::value_error);

    auto q = good;
    q.shared = {};
    CHECK_THROWS_WITH(magr::pack_gguf(q, ggml_type::q4_k),
                      "pack_gguf: grids.shared.groups must be 8, it is 0; quantize onto the grids of fit_k_quant_grids");
    q = good;
    q.shared.scale_codes(1, 3) = 64;
    CHECK_THROWS_WITH(magr::pack_gguf(q, ggml_type::q4_k), "pack_gguf: scale code (row 1, group 3) must be in 1..63, it is 64");
    q = good;
    q.scales(1, 3) *= 2;
    CHECK_THROWS_AS(magr::pack_gguf(q, ggml_type::q4_k), magr::value_error);
    q = good;
    q.zeros(0, 2) += 1;
    CHECK_THROWS_AS(magr::pack_gguf(q, ggml_type::q4_k), magr::value_error);
    q = good;
    q.shared.offset_codes(0, 2) = 64;
    CHECK_THROWS_AS(magr::pack_gguf(q, ggml_type::q4_k), magr::value_error);
    q = good;
    q.shared.scales(0, 0) = 0.1F;
    CHECK_THROWS_AS(magr::pack_gguf(q, ggml_type::q4_k), magr::value_error);
    q = good;
    q.shared.offsets = {};
    CHECK_THROWS_AS(magr::pack_gguf(q, ggml_type::q4_k), magr::shape_error);
}

TEST_CASE("k-quants: any bytes with finite numbers are read as ggml reads them", "[gguf][k_quants][property][oracle]") {
    std::mt19937 random(10);
    for (const auto& k : k_types) {
        magr::gguf_tensor t{k.type, 4, 512, {}};
        for (index_t b = 0; b < 8 * k.bytes; ++b) t.data.push_back(static_cast<std::uint8_t>(random()));
        // clears the highest bit of the exponents of f16 numbers; d is sometimes negative where there is no offset
        const bool d_first = k.type == ggml_type::q4_k || k.type == ggml_type::q5_k;
        for (index_t block = 0; block < 8; ++block) {
            const index_t numbers = block * k.bytes + (d_first ? 0 : k.bytes - (k.largest_offset > 0 ? 4 : 2));
            auto* const at = t.data.data() + numbers;
            at[1] &= k.largest_offset > 0 ? 0x3F : 0xBF;
            if (k.largest_offset > 0) at[3] &= 0x3F;
        }
        CAPTURE(static_cast<int>(k.type));
        CHECK(magr::unpack_gguf(t).dequantize() == textbook::gguf_weights(t, 256, k.bytes));
    }
}
