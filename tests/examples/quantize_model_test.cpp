// SPDX-License-Identifier: MIT
#include "quantize_llama/quantize_model.hpp"

#include <algorithm>
#include <cmath>
#include <magr/calibration/gram.hpp>
#include <magr/preprocess.hpp>
#include <set>
#include <sstream>
#include <tuple>

#include "common/error.hpp"
#include "quantize_llama/forward.hpp"
#include "support/catch.hpp"
#include "tiny_llama.hpp"

using namespace examples;

namespace {

struct quantized_llama {
    llama_model model;
    quantization_record record;
};

quantized_llama quantized(const llama_model& model, const std::vector<sequence>& texts, const quantization& how, int threads = 2) {
    std::ostringstream ignored;
    progress quiet(ignored, false);
    magr::thread_pool pool(threads);
    quantized_llama result{model, {}};
    result.model.blocks.clear();
    const tiny::model_in_folder stored(model);
    result.record =
        quantize_model(stored.get(), texts, how, pool, quiet, [&](const llama_block& block) { result.model.blocks.push_back(block); });
    return result;
}

std::vector<sequence> calibration(const llama_model& model) { return tiny::texts(model.config, std::vector<std::size_t>(50, 100), 17); }

}  // namespace

TEST_CASE("quantize_model: only the blocks' linear layers change, to values of the grid", "[examples][quantize_model]") {
    const llama_model model = tiny::model();
    const auto texts = calibration(model);
    for (const method m : all_methods) {
        const quantized_llama result = quantized(model, texts, {.method = m, .bits = 2});
        REQUIRE(result.model.blocks.size() == 2);
        REQUIRE(result.record.layers.size() == 14);
        CHECK(result.record.layers[8].name == "layers.1.self_attn.k_proj");
        for (std::size_t layer = 0; layer < 2; ++layer) {
            CHECK(result.model.blocks[layer].input_norm == model.blocks[layer].input_norm);
            for (const linear kind : all_linears) {
                const matrix_f& W = result.model.blocks[layer][kind];
                CHECK(W != model.blocks[layer][kind]);
                for (Eigen::Index i = 0; i < W.rows(); ++i) CHECK(std::set<float>(W.row(i).begin(), W.row(i).end()).size() <= 4);
            }
        }
        for (const layer_record& layer : result.record.layers) {
            CHECK(layer.output_error > 0);
            CHECK(layer.output_error < 1);
            CHECK(layer.largest_before.empty() != uses_magr(m));
            CHECK(layer.largest_after.size() == layer.largest_before.size());
        }
    }
}

TEST_CASE("quantize_model: each block is calibrated on what the quantized blocks before it put out", "[examples][quantize_model]") {
    const llama_model model = tiny::model();
    const auto texts = calibration(model);
    const quantized_llama result = quantized(model, texts, {.method = method::optq, .bits = 3});
    const rope_table rope = make_rope_table(model.config, texts);
    matrix_f hidden = embed(model.embedding, texts);
    forward_block(model.config, result.model.blocks[0], rope, texts, hidden);
    for (const linear kind : {linear::q_proj, linear::o_proj, linear::up_proj, linear::down_proj}) {
        magr::gram_accumulator<double> gram(shape_of(model.config, kind).cols);
        matrix_f copy = hidden;
        forward_block(model.config, model.blocks[1], rope, texts, copy, [&](site where, const matrix_f& x) {
            if (where == input_of(kind)) gram.add(x);
        });
        const double expected = magr::output_error(model.blocks[1][kind], result.model.blocks[1][kind], gram.gram());
        CHECK(result.record.layers[7 + static_cast<std::size_t>(kind)].output_error == Approx(expected).epsilon(1e-4));
    }
}

TEST_CASE("quantize_model: more bits and OPTQ's feedback lower the output error", "[examples][quantize_model]") {
    const llama_model model = tiny::model();
    const auto texts = calibration(model);
    const auto error = [&](method m, int bits) { return quantized(model, texts, {.method = m, .bits = bits}).record.mean_output_error(); };
    for (const int bits : {2, 3, 4}) CHECK(error(method::optq, bits) < error(method::rtn, bits));
    CHECK(error(method::optq, 4) < error(method::optq, 3));
    CHECK(error(method::optq, 8) < 1e-4);
}

TEST_CASE("quantize_model: MagR lowers the magnitudes, the more the larger its penalty", "[examples][quantize_model]") {
    const llama_model model = tiny::model();
    const auto texts = calibration(model);
    std::vector<double> reduction;
    for (const double alpha : {0.0, 1e-3, 1e-2}) {
        double before = 0, after = 0;
        for (const layer_record& layer : quantized(model, texts, {.method = method::magr_rtn, .bits = 4, .alpha = alpha}).record.layers)
            for (std::size_t i = 0; i < layer.largest_before.size(); ++i) {
                before += static_cast<double>(layer.largest_before[i]);
                after += static_cast<double>(layer.largest_after[i]);
            }
        reduction.push_back(after / before);
    }
    CHECK(reduction[0] == Approx(1).epsilon(1e-5));
    CHECK(reduction[1] < 0.99);
    CHECK(reduction[2] < reduction[1]);
}

TEST_CASE("quantize_model: the last bit does not depend on the threads", "[examples][quantize_model]") {
    const llama_model model = tiny::model();
    const auto texts = calibration(model);
    const quantization how{.method = method::magr_optq, .bits = 3, .group_size = 8, .order = magr::column_order::act_order};
    const quantized_llama one = quantized(model, texts, how, 1), three = quantized(model, texts, how, 3);
    for (std::size_t layer = 0; layer < 2; ++layer) CHECK(one.model.blocks[layer].weights == three.model.blocks[layer].weights);
    CHECK(one.record.mean_output_error() == three.record.mean_output_error());
}

TEST_CASE("site_grams: every fourth sequence is held out if the method validates, else none", "[examples][quantize_model]") {
    const llama_model model = tiny::model();
    const auto texts = tiny::texts(model.config, {20, 7, 9, 31, 1, 12, 5, 8, 40, 3});
    const matrix_f inputs = embed(model.embedding, texts);
    matrix_f fitted(0, inputs.cols()), held_out(0, inputs.cols());
    Eigen::Index row = 0;
    for (std::size_t i = 0; i < texts.size(); ++i) {
        matrix_f& part = i % 4 == 3 ? held_out : fitted;
        matrix_f longer(part.rows() + std::ssize(texts[i]), part.cols());
        longer << part, inputs.middleRows(row, std::ssize(texts[i]));
        part = std::move(longer);
        row += std::ssize(texts[i]);
    }
    const auto gram_of = [](const matrix_f& x) {
        magr::gram_accumulator<double> sum(x.cols());
        sum.add(x);
        return magr::matrix<double>(sum.gram());
    };
    magr::thread_pool pool(2);
    const std::span<const sequence> all(texts);
    const Eigen::Index first_rows = count_tokens(all.first(3));
    for (const bool validates : {true, false}) {
        site_grams grams(inputs.cols(), validates);  // in two parts, where the second does not begin at a multiple of four
        grams.add(inputs.topRows(first_rows), all.first(3), 0, pool);
        grams.add(inputs.bottomRows(inputs.rows() - first_rows), all.subspan(3), 3, pool);
        const layer_calibration found = grams.result(pool);
        CHECK(found.fitting == gram_of(validates ? fitted : inputs));
        CHECK((validates ? found.validation == gram_of(held_out) : found.validation.empty()));
    }
}

TEST_CASE("quantize_model: auto makes up for the layers in front, and is the same for any number of threads",
          "[examples][quantize_model]") {
    const llama_model model = tiny::model();
    const auto texts = calibration(model);
    // the distance of the hidden states after the last block from those of the original model
    const auto distance = [&](const llama_model& other) {
        const rope_table rope = make_rope_table(model.config, texts);
        return (forward(other, rope, texts) - forward(model, rope, texts)).norm();
    };
    const quantization how{.method = method::automatic, .bits = 2};
    const quantized_llama plain = quantized(model, texts, {.method = method::automatic, .bits = 2, .drift = 0});
    const quantized_llama one = quantized(model, texts, how, 1), three = quantized(model, texts, how, 3);
    CHECK(distance(one.model) < distance(plain.model));
    CHECK(distance(one.model) < distance(quantized(model, texts, {.method = method::paper, .bits = 2}).model));
    for (std::size_t layer = 0; layer < 2; ++layer) CHECK(one.model.blocks[layer].weights == three.model.blocks[layer].weights);
    CHECK_THROWS_AS(quantized(model, tiny::texts(model.config, {50, 50, 50}), how), input_error);
}

TEST_CASE("quantize_model: paper is MagR, OPTQ and coordinate descent as published", "[examples][quantize_model][oracle]") {
    const llama_model model = tiny::model();
    const auto texts = calibration(model);
    magr::gram_accumulator<double> gram(model.config.hidden_size);
    matrix_f hidden = embed(model.embedding, texts);
    forward_block(model.config, model.blocks[0], make_rope_table(model.config, texts), texts, hidden, [&](site where, const matrix_f& x) {
        if (where == site::attention_input) gram.add(x);
    });
    const matrix_f& W = model.blocks[0][linear::q_proj];
    for (const auto& [bits, beta, passes] : {std::tuple{2, 0.8, 30}, std::tuple{3, 0.9, 1}, std::tuple{4, 1.0, 1}}) {
        matrix_f M = W;
        magr::preprocess(M, gram.gram(), {.alpha = 1e-3, .solver = magr::preprocess_solver::proximal_gradient});
        auto expected = magr::quantize_optq(M, gram.gram(), {.bits = bits, .range_factor = beta}, {.dead = magr::dead_columns::zero});
        static_cast<void>(
            magr::refine_codes(expected.quantized, W, gram.gram(), {.max_passes = passes, .damping = 0.75, .denominator_offset = 0.1}));
        const magr::matrix<float> Q = expected.quantized.dequantize();
        const matrix_f found = quantized(model, texts, {.method = method::paper, .bits = bits}).model.blocks[0][linear::q_proj];
        const matrix_f wanted = Eigen::Map<const matrix_f>(Q.data(), Q.rows(), Q.cols());
        CHECK((found - wanted).norm() <= 0.02F * wanted.norm());  // the inputs come from other batches, so a code may change
    }
}

TEST_CASE("quantize_model: an option out of range reaches the caller", "[examples][quantize_model]") {
    const llama_model model = tiny::model();
    CHECK_THROWS_AS(quantized(model, tiny::texts(model.config, {50}), {.method = method::rtn, .bits = 4, .beta = 2.0}), magr::option_error);
}
