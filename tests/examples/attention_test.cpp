// SPDX-License-Identifier: MIT
#include "quantize_llama/attention.hpp"

#include <cmath>
#include <random>

#include "support/catch.hpp"

using namespace examples;

namespace {

/// Llama 3.1's heads: 64 pairs, rope_theta 500000, first trained on 8192 tokens.
llama_config large_head() {
    llama_config c;
    c.head_dim = 128;
    c.rope_theta = 500000;
    return c;
}

llama_config scaled(rope_scaling_kind kind, double factor, double low_turns, double high_turns) {
    llama_config c = large_head();
    c.scaling = {
        .kind = kind, .factor = factor, .original_max_position_embeddings = 8192, .low_turns = low_turns, .high_turns = high_turns};
    return c;
}

row_f random_heads(Eigen::Index size) {
    std::mt19937 random(11);
    row_f heads(size);
    for (Eigen::Index i = 0; i < size; ++i) heads[i] = static_cast<float>(random() >> 8) * 0x1p-24f - 0.5f;
    return heads;
}

row_f rotated(const rope_table& rope, row_f heads, std::int64_t position) {
    rope.rotate(heads, position);
    return heads;
}

}  // namespace

TEST_CASE("rope: without scaling, frequencies fall from 1 by a constant ratio", "[examples][attention]") {
    llama_config c = large_head();
    c.head_dim = 8;
    c.rope_theta = 10000;
    const std::vector<double> f = rope_frequencies(c);
    REQUIRE(f.size() == 4);
    for (std::size_t i = 0; i < 4; ++i) CHECK(f[i] == Approx(std::pow(0.1, i)).epsilon(1e-14));
}

TEST_CASE("rope: scaled linearly by f, position f p is what position p was", "[examples][attention]") {
    const llama_config plain = large_head(), stretched = scaled(rope_scaling_kind::linear, 4, 1, 32);
    const rope_table short_text(plain, 200), long_text(stretched, 800);
    const row_f heads = random_heads(256);
    for (const std::int64_t p : {0, 1, 57, 199})
        CHECK((rotated(long_text, heads, 4 * p) - rotated(short_text, heads, p)).cwiseAbs().maxCoeff() < 1e-6f);
    CHECK((rotated(long_text, heads, 199) - rotated(short_text, heads, 199)).cwiseAbs().maxCoeff() > 0.1f);
}

TEST_CASE("rope: Llama 3 keeps high frequencies, divides low ones and blends those between", "[examples][attention]") {
    const std::vector<double> plain = rope_frequencies(large_head());
    const std::vector<double> f = rope_frequencies(scaled(rope_scaling_kind::llama3, 8, 1, 4));
    std::size_t kept = 0, divided = 0;
    for (std::size_t i = 0; i < f.size(); ++i) {
        const double turns = 8192 * plain[i] / (2 * std::acos(-1.0));
        if (turns >= 4) {
            CHECK(f[i] == plain[i]);
            ++kept;
        } else if (turns <= 1) {
            CHECK(f[i] == plain[i] / 8);
            ++divided;
        } else {
            CHECK(f[i] > plain[i] / 8);
            CHECK(f[i] < plain[i]);
        }
        if (i > 0) CHECK(f[i] < f[i - 1]);
    }
    // ln(8192 / (8 pi)) 64 / ln(500000) = 28.2 and ln(8192 / (2 pi)) 64 / ln(500000) = 34.9841: pairs 29 to 34 are between.
    CHECK(kept == 29);
    CHECK(divided == 29);
    // Pair 32 turns 8192 / (2 pi sqrt(500000)) = 1.84384 times; it keeps (1.84384 - 1) / 3 = 0.281279 of 1 / sqrt(500000).
    CHECK(f[32] == Approx((0.281279 + (1 - 0.281279) / 8) / std::sqrt(500000.0)).epsilon(1e-5));
}

TEST_CASE("rope: YaRN blends along the pairs", "[examples][attention]") {
    const std::vector<double> plain = rope_frequencies(large_head());
    llama_config c = scaled(rope_scaling_kind::yarn, 4, 1, 32);
    // ln(8192 / (64 pi)) 64 / ln(500000) = 18.0811 and, as above, 34.9841: between pairs 18 and 35 the kept share falls from 1 to 0.
    std::vector<double> f = rope_frequencies(c);
    for (std::size_t i = 0; i < f.size(); ++i) {
        const double kept = i <= 18 ? 1.0 : i >= 35 ? 0.0 : (35 - static_cast<double>(i)) / 17;
        CHECK(f[i] == Approx(plain[i] * (kept + (1 - kept) / 4)).epsilon(1e-12));
    }
    c.scaling.truncate = false;
    f = rope_frequencies(c);
    CHECK(f[18] == plain[18]);
    CHECK(f[19] == Approx(plain[19] * (1 - 0.75 * (19 - 18.0811) / (34.9841 - 18.0811))).epsilon(1e-5));
    CHECK(f[35] == plain[35] / 4);
}

TEST_CASE("rope: YaRN where all pairs turn too rarely, or all often enough", "[examples][attention]") {
    llama_config c = scaled(rope_scaling_kind::yarn, 4, 1, 32);
    const std::vector<double> plain = rope_frequencies(large_head());
    c.scaling.original_max_position_embeddings = 2;
    std::vector<double> f = rope_frequencies(c);
    for (std::size_t i = 1; i < f.size(); ++i) CHECK(f[i] == plain[i] / 4);
    CHECK(f[0] > 0);  // the blend begins and ends at pair 0, where it must not become 0 / 0
    c.scaling.original_max_position_embeddings = 1e15;
    CHECK(rope_frequencies(c) == plain);
}

TEST_CASE("rope: the attention factor scales what is rotated", "[examples][attention]") {
    llama_config c = scaled(rope_scaling_kind::yarn, 4, 1, 32);
    const rope_table plain(c, 50);
    c.scaling.attention_factor = 1.25;
    const rope_table scaled_table(c, 50);
    const row_f heads = random_heads(256);
    CHECK((rotated(scaled_table, heads, 49) - 1.25f * rotated(plain, heads, 49)).cwiseAbs().maxCoeff() < 1e-6f);
    CHECK(rotated(scaled_table, heads, 49).norm() == Approx(1.25f * heads.norm()).epsilon(1e-5));
}
