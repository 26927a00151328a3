// SPDX-License-Identifier: MIT
#include "quantize_llama/sampling.hpp"

#include <array>
#include <cmath>
#include <set>
#include <sstream>

#include "quantize_llama/forward.hpp"
#include "refusal.hpp"
#include "support/catch.hpp"
#include "tiny_llama.hpp"

using namespace examples;

namespace {

std::vector<sequence> sampled(const llama_model& model, std::int64_t tokens, std::int64_t longest, std::uint32_t seed, int threads) {
    std::ostringstream ignored;
    progress quiet(ignored, false);
    magr::thread_pool pool(threads);
    return sample_sequences(model, tokens, longest, seed, pool, quiet);
}

}  // namespace

TEST_CASE("decoder: gives the logits of the whole text's forward pass", "[examples][sampling]") {
    llama_config config = tiny::config();
    SECTION("a plain Llama") {}
    SECTION("with a window and biases") {
        config.sliding_window = 9;
        config.qkv_bias = config.o_bias = config.mlp_bias = true;
    }
    SECTION("with scaled RoPE") {
        config.scaling = {.kind = rope_scaling_kind::yarn, .factor = 4, .original_max_position_embeddings = 128, .attention_factor = 1.2};
    }
    const llama_model model = tiny::model(config);
    const std::vector<sequence> texts = tiny::texts(model.config, {80, 80, 80});
    const matrix_f expected = forward(model, make_rope_table(model.config, texts), texts) * model.head().transpose();
    decoder next(model, 3, 80);
    float largest_error = 0;
    for (Eigen::Index t = 0; t < 80; ++t) {
        const auto at = static_cast<std::size_t>(t);
        const matrix_f logits = next.step(std::array{texts[0][at], texts[1][at], texts[2][at]});
        for (Eigen::Index s = 0; s < 3; ++s)
            largest_error = std::max(largest_error, (logits.row(s) - expected.row(s * 80 + t)).cwiseAbs().maxCoeff());
    }
    CHECK(largest_error < 1e-4f);
}

TEST_CASE("decoder: a sequence that begins anew forgets, the others do not", "[examples][sampling]") {
    const llama_model model = tiny::model();
    const std::vector<sequence> texts = tiny::texts(model.config, {20, 6});
    decoder both(model, 2, 20), first(model, 1, 20), second(model, 1, 20);
    matrix_f logits, of_first, of_second;
    for (std::size_t t = 0; t < 20; ++t) {
        if (t == 14) both.restart(1);
        logits = both.step(std::array{texts[0][t], texts[1][t < 14 ? t % 6 : t - 14]});
        of_first = first.step(std::array{texts[0][t]});
        if (t >= 14) of_second = second.step(std::array{texts[1][t - 14]});
    }
    CHECK((logits.row(0) - of_first).cwiseAbs().maxCoeff() < 1e-4f);
    CHECK((logits.row(1) - of_second).cwiseAbs().maxCoeff() < 1e-4f);
}

TEST_CASE("draw: ids come as often as their probability says", "[examples][sampling]") {
    row_f logits(4);
    logits << 1.0f, 3.0f, -50.0f, 2.0f;
    for (const double temperature : {1.0, 0.5}) {
        std::array<double, 4> expected{};
        double sum = 0;
        for (std::size_t i = 0; i < 4; ++i)
            sum += expected[i] = std::exp(static_cast<double>(logits[static_cast<Eigen::Index>(i)]) / temperature);
        constexpr int draws = 40000;
        std::array<int, 4> count{};
        std::mt19937 random(5);
        for (int i = 0; i < draws; ++i) ++count[draw(logits, temperature, random)];
        for (std::size_t i = 0; i < 4; ++i) {
            const double p = expected[i] / sum;
            CHECK(std::abs(count[i] - draws * p) <= 4 * std::sqrt(draws * p * (1 - p)) + 1e-9 * draws);
        }
    }
}

TEST_CASE("sample_sequences: texts of the asked length that begin with bos and end with eos", "[examples][sampling]") {
    const llama_model model = tiny::model();
    const std::vector<sequence> texts = sampled(model, 3000, 60, 1, 2);
    CHECK(count_tokens(texts) == 3000);
    std::size_t ended = 0;
    for (const sequence& text : texts) {
        CHECK(text.front() == 1);
        CHECK(text.size() <= 60);
        for (std::size_t t = 1; t + 1 < text.size(); ++t) CHECK(text[t] != 2);
        ended += text.back() == 2;
    }
    CHECK(ended > 0);
    CHECK(std::set<sequence>(texts.begin(), texts.end()).size() > texts.size() / 2);
}

TEST_CASE("sample_sequences: depends on the seed and not on the threads", "[examples][sampling]") {
    const llama_model model = tiny::model();
    const std::vector<sequence> texts = sampled(model, 4000, 40, 1, 1);
    CHECK(sampled(model, 4000, 40, 1, 3) == texts);
    CHECK(sampled(model, 4000, 40, 2, 1) != texts);
}

TEST_CASE("sample_sequences: needs a token to begin with", "[examples][sampling]") {
    llama_model model = tiny::model();
    model.config.bos_token_id.reset();
    CHECK_THAT(refusal([&] { return sampled(model, 100, 10, 1, 1); }), mentions("no bos_token_id"));
}

TEST_CASE("continue_sequence: repeats itself for the same seed and stops at eos", "[examples][sampling]") {
    const llama_model model = tiny::model();
    const sequence prompt = tiny::texts(model.config, {10}).front();
    bool ended = false;
    for (std::uint32_t seed = 0; seed < 20; ++seed) {
        const sequence text = continue_sequence(model, prompt, 60, 2.0, seed);
        CHECK(text == continue_sequence(model, prompt, 60, 2.0, seed));
        CHECK((text.size() == 60 || text.back() == 2));
        ended = ended || text.back() == 2;
    }
    CHECK(ended);
}
