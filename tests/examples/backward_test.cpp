// SPDX-License-Identifier: MIT
#include "quantize_llama/backward.hpp"

#include <cmath>
#include <vector>

#include "quantize_llama/forward.hpp"
#include "support/catch.hpp"
#include "textbook_llama.hpp"
#include "tiny_llama.hpp"

using namespace examples;

namespace {

/// The loss of one token: minus the logarithm of the probability of one id, which is chosen by the token's row.
token label_of(const llama_config& config, Eigen::Index row) { return static_cast<token>((7 * row + 3) % config.vocab_size); }

/// The sum of all tokens' losses by the equations, in double.
double loss_of(const llama_model& model, const std::vector<sequence>& texts) {
    double loss = 0;
    Eigen::Index row = 0;
    for (const sequence& text : texts)
        for (const textbook::vector& logits : textbook::logits(model, text)) {
            double sum = 0;
            for (const double logit : logits) sum += std::exp(logit);
            loss += std::log(sum) - logits[label_of(model.config, row++)];
        }
    return loss;
}

/// The gradients of all parameters that the backward pass gives.
struct gradients {
    std::vector<llama_block> blocks;  ///< each weight is the derivative by that weight
    row_f final_norm;
};

gradients backward(const llama_model& model, const std::vector<sequence>& texts) {
    const rope_table rope = make_rope_table(model.config, texts);
    matrix_f hidden = embed(model.embedding, texts);
    std::vector<block_trace> traces;
    for (const llama_block& block : model.blocks) traces.push_back(trace_block(model.config, block, rope, texts, hidden));
    CHECK((rms_norm(hidden, model.final_norm, model.config.rms_norm_eps) - forward(model, rope, texts)).norm() == 0);
    gradients found{model.blocks, row_f::Zero(model.config.hidden_size)};
    const auto loss = [&](Eigen::Index first, matrix_f& logits) {
        for (Eigen::Index i = 0; i < logits.rows(); ++i) {
            softmax(logits.row(i));
            logits(i, static_cast<Eigen::Index>(label_of(model.config, first + i))) -= 1;
        }
    };
    matrix_f gradient = backward_head(model.head(), model.final_norm, model.config.rms_norm_eps, hidden, loss, &found.final_norm);
    for (std::size_t b = model.blocks.size(); b-- > 0;) {
        const block_gradients of_block = backward_block(model.config, model.blocks[b], rope, texts, traces[b], gradient);
        for (const linear kind : all_linears)
            found.blocks[b][kind] = of_block[kind].transpose() * traces[b].inputs[static_cast<std::size_t>(input_of(kind))];
        found.blocks[b].input_norm = of_block.input_norm;
        found.blocks[b].post_attention_norm = of_block.post_attention_norm;
    }
    return found;
}

/// Whether a derivative is that of the loss by one number of the model.
void check_derivative(llama_model& model, const std::vector<sequence>& texts, float& number, float derivative) {
    constexpr float step = 0x1p-9f;
    const float before = number;
    number = before + step;
    const float high = number;
    const double above = loss_of(model, texts);
    number = before - step;
    const float low = number;
    const double below = loss_of(model, texts);
    number = before;
    const double expected = (above - below) / (static_cast<double>(high) - static_cast<double>(low));
    CHECK(static_cast<double>(derivative) == Approx(expected).epsilon(2e-3).margin(2e-3));
}

}  // namespace

TEST_CASE("backward: the gradients are those of finite differences of the equations in double", "[examples][backward][oracle]") {
    llama_config config = tiny::config();
    SECTION("grouped-query attention, tied head") {}
    SECTION("as many key as query heads, own head, biases") {
        config.num_key_value_heads = config.num_attention_heads;
        config.tie_word_embeddings = false;
        config.qkv_bias = config.o_bias = config.mlp_bias = true;
    }
    SECTION("a window of 7 tokens") { config.sliding_window = 7; }
    SECTION("RoPE scaled by YaRN") { config.scaling = tiny::yarn(); }
    llama_model model = tiny::model(config);
    const std::vector<sequence> texts = tiny::texts(config, {70, 1, 9});  // longer than a tile of queries, a single token
    gradients found = backward(model, texts);
    for (std::size_t b = 0; b < model.blocks.size(); ++b) {
        for (const linear kind : all_linears) {
            matrix_f& W = model.blocks[b][kind];
            INFO(layer_name(static_cast<std::int64_t>(b), kind));
            for (const Eigen::Index at : {Eigen::Index{0}, W.size() / 3, W.size() - 1})
                check_derivative(model, texts, W.data()[at], found.blocks[b][kind].data()[at]);
        }
        check_derivative(model, texts, model.blocks[b].input_norm[3], found.blocks[b].input_norm[3]);
        check_derivative(model, texts, model.blocks[b].post_attention_norm[5], found.blocks[b].post_attention_norm[5]);
    }
    check_derivative(model, texts, model.final_norm[2], found.final_norm[2]);
}
