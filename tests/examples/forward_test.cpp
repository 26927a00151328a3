// SPDX-License-Identifier: MIT
#include "quantize_llama/forward.hpp"

#include <vector>

#include "support/catch.hpp"
#include "textbook_llama.hpp"
#include "tiny_llama.hpp"

using namespace examples;

TEST_CASE("forward: agrees with the equations in double", "[examples][forward][oracle]") {
    llama_config config = tiny::config();
    SECTION("grouped-query attention, tied head") {}
    SECTION("as many key as query heads, own head") {
        config.num_key_value_heads = config.num_attention_heads;
        config.tie_word_embeddings = false;
    }
    SECTION("one key head for all") { config.num_key_value_heads = 1; }
    SECTION("biases of q, k and v") { config.qkv_bias = true; }
    SECTION("biases everywhere") { config.qkv_bias = config.o_bias = config.mlp_bias = true; }
    SECTION("a window of 7 tokens") { config.sliding_window = 7; }
    SECTION("a window longer than a tile of queries") { config.sliding_window = 70; }
    SECTION("a window of the token itself") { config.sliding_window = 1; }
    // rope_theta is 500 and there are 5 pairs: over 128 tokens they turn 20.4, 5.9, 1.7, 0.49 and 0.14 times.
    SECTION("RoPE scaled linearly") { config.scaling = {.kind = rope_scaling_kind::linear, .factor = 4}; }
    SECTION("RoPE scaled as for Llama 3") {
        config.scaling = {
            .kind = rope_scaling_kind::llama3, .factor = 8, .original_max_position_embeddings = 128, .low_turns = 1, .high_turns = 4};
    }
    SECTION("RoPE scaled by YaRN") { config.scaling = tiny::yarn(); }
    const llama_model model = tiny::model(config);
    // One text longer than a tile of queries, several texts in a batch, one text of a single token.
    const std::vector<sequence> texts = tiny::texts(config, {5, 1, 100, 12});
    const matrix_f logits = forward(model, make_rope_table(config, texts), texts) * model.head().transpose();
    Eigen::Index row = 0;
    double largest_error = 0, largest_logit = 0;
    for (const sequence& text : texts)
        for (const textbook::vector& expected : textbook::logits(model, text)) {
            for (Eigen::Index j = 0; j < logits.cols(); ++j) {
                largest_error =
                    std::max(largest_error, std::abs(static_cast<double>(logits(row, j)) - expected[static_cast<std::size_t>(j)]));
                largest_logit = std::max(largest_logit, std::abs(expected[static_cast<std::size_t>(j)]));
            }
            ++row;
        }
    CHECK(row == logits.rows());
    CHECK(largest_logit > 1);
    CHECK(largest_error < 2e-5 * largest_logit);
}

TEST_CASE("forward: a text does not depend on the others of its batch", "[examples][forward]") {
    const llama_model model = tiny::model();
    const std::vector<sequence> texts = tiny::texts(model.config, {20, 30, 9});
    const rope_table rope = make_rope_table(model.config, texts);
    const matrix_f together = forward(model, rope, texts);
    const matrix_f alone = forward(model, rope, std::span(texts).subspan(1, 1));
    CHECK((together.middleRows(20, 30) - alone).cwiseAbs().maxCoeff() < 1e-5f);
}

TEST_CASE("forward_block: shows the input of every site, in order", "[examples][forward]") {
    const llama_model model = tiny::model();
    const llama_config& c = model.config;
    const std::vector<sequence> texts = tiny::texts(c, {6, 3});
    matrix_f hidden = embed(model.embedding, texts);
    const matrix_f before = hidden;
    std::vector<site> sites;
    std::vector<matrix_f> inputs;
    forward_block(c, model.blocks[0], make_rope_table(c, texts), texts, hidden, [&](site where, const matrix_f& x) {
        sites.push_back(where);
        inputs.push_back(x);
    });
    REQUIRE(sites == std::vector<site>{site::attention_input, site::attention_output, site::mlp_input, site::mlp_hidden});
    for (std::size_t s = 0; s < sites.size(); ++s) CHECK(inputs[s].rows() == 9);
    for (const linear kind : all_linears) CHECK(inputs[static_cast<std::size_t>(input_of(kind))].cols() == shape_of(c, kind).cols);
    // The inputs of the two sites before the residual stream determine everything that was added to it.
    const matrix_f after =
        before + inputs[1] * model.blocks[0][linear::o_proj].transpose() + inputs[3] * model.blocks[0][linear::down_proj].transpose();
    CHECK((after - hidden).cwiseAbs().maxCoeff() < 1e-5f);
}

TEST_CASE("rms_norm: rows of any scale become rows of mean square one, times the weights", "[examples][forward]") {
    matrix_f x(3, 2);
    x << 3.0f, -4.0f, 3e10f, -4e10f, 0.0f, 0.0f;
    row_f weight(2);
    weight << 1.0f, 2.0f;
    const matrix_f y = rms_norm(x, weight, 1e-12);
    for (const Eigen::Index i : {0, 1}) {
        CHECK(y(i, 0) == Approx(3 / std::sqrt(12.5)));
        CHECK(y(i, 1) == Approx(-8 / std::sqrt(12.5)));
    }
    CHECK(y.row(2).isZero());
}
