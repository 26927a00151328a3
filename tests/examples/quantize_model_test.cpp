// SPDX-License-Identifier: MIT
#include "quantize_llama/quantize_model.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <magr/calibration/gram.hpp>
#include <magr/preprocess.hpp>
#include <magr/quantize.hpp>
#include <magr/transform/incoherence.hpp>
#include <map>
#include <set>
#include <sstream>
#include <string_view>
#include <tuple>

#include "common/error.hpp"
#include "quantize_llama/backward.hpp"
#include "quantize_llama/forward.hpp"
#include "quantize_llama/head_metrics.hpp"
#include "quantize_llama/published_methods.hpp"
#include "quantize_llama/tune.hpp"
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
        CAPTURE(name_of(m));
        const quantized_llama result = quantized(model, texts, {.method = m, .bits = 2});
        REQUIRE(result.model.blocks.size() == 2);
        REQUIRE(result.record.layers.size() == 14);
        CHECK(result.record.layers[8].name == "layers.1.self_attn.k_proj");
        for (std::size_t layer = 0; layer < 2; ++layer) {
            CHECK((result.model.blocks[layer].input_norm == model.blocks[layer].input_norm) == (m != method::aqas));
            for (const linear kind : all_linears) {
                const matrix_f& W = result.model.blocks[layer][kind];
                CHECK(W != model.blocks[layer][kind]);
                if (traits_of(m).has_codes)
                    for (Eigen::Index i = 0; i < W.rows(); ++i) CHECK(std::set<float>(W.row(i).begin(), W.row(i).end()).size() <= 4);
            }
        }
        CHECK(result.record.bits_per_weight() > 2);
        for (const layer_record& layer : result.record.layers) {
            CHECK(layer.output_error > 0);
            CHECK(layer.output_error < 1);
            CHECK(layer.weights > 0);
            CHECK(layer.stored_bits > 2 * static_cast<double>(layer.weights));
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
}

TEST_CASE("quantize_model: no method depends on the number of threads", "[examples][quantize_model]") {
    const llama_model model = tiny::model();
    const auto texts = tiny::texts(model.config, std::vector<std::size_t>(35, 60), 17);  // three chunks
    for (const method_traits& traits : method_table) {
        CAPTURE(traits.name);
        const quantization how{.method = traits.value, .bits = 3, .group_size = 8, .activation_bits = 8};
        const quantized_llama one = quantized(model, texts, how, 1), three = quantized(model, texts, how, 3);
        for (std::size_t layer = 0; layer < 2; ++layer) CHECK(one.model.blocks[layer].weights == three.model.blocks[layer].weights);
        CHECK(one.record.mean_output_error() == three.record.mean_output_error());
    }
}

/// The mean of KL(original || other) over all tokens.
double divergence(const llama_model& original, const llama_model& other, const std::vector<sequence>& texts) {
    const rope_table rope = make_rope_table(original.config, texts);
    const auto log_probabilities = [&](const llama_model& model) {
        Eigen::MatrixXd logits = (forward(model, rope, texts) * model.head().transpose()).cast<double>();
        for (auto row : logits.rowwise()) row.array() -= std::log(row.array().exp().sum());
        return logits;
    };
    const Eigen::MatrixXd p = log_probabilities(original), q = log_probabilities(other);
    return (p.array().exp() * (p - q).array()).rowwise().sum().mean();
}

TEST_CASE("quantize_model: tuning comes closer to the original predictions, with the same codes and any number of threads",
          "[examples][quantize_model][tune]") {
    const llama_model model = tiny::model();
    const auto texts = calibration(model);
    const quantized_llama plain = quantized(model, texts, {.method = method::automatic, .bits = 2});
    const quantization how{.method = method::automatic, .bits = 2, .effort = 2};
    const quantized_llama tuned = quantized(model, texts, how, 1), again = quantized(model, texts, how, 3);
    CHECK(divergence(model, tuned.model, texts) < 0.97 * divergence(model, plain.model, texts));
    for (std::size_t layer = 0; layer < 2; ++layer) {
        CHECK(tuned.model.blocks[layer].weights == again.model.blocks[layer].weights);
        CHECK(tuned.model.blocks[layer].input_norm == again.model.blocks[layer].input_norm);
        CHECK(tuned.model.blocks[layer].input_norm != model.blocks[layer].input_norm);
        const matrix_f& W = tuned.model.blocks[layer][linear::down_proj];
        for (Eigen::Index i = 0; i < W.rows(); ++i) CHECK(std::set<float>(W.row(i).begin(), W.row(i).end()).size() <= 4);
    }
}

TEST_CASE("tune_scales: steps that lead away from the original predictions are taken back", "[examples][quantize_model][tune]") {
    const llama_model model = tiny::model();
    const auto texts = calibration(model);
    const tiny::model_in_folder stored(model);
    std::vector<quantized_block> rounded;
    for (const llama_block& block : model.blocks) {
        quantized_block q{block, {}};
        for (const linear kind : all_linears) {
            quantized_layer& layer = q.layers[static_cast<std::size_t>(kind)];
            layer.quantized = magr::quantize_rtn(block[kind], {.bits = 4});
            const magr::matrix<float> values = layer.quantized->dequantize();
            layer.values = q.block[kind] = Eigen::Map<const matrix_f>(values.data(), values.rows(), values.cols());
        }
        rounded.push_back(std::move(q));
    }
    const auto model_of = [&](const std::vector<quantized_block>& blocks) {
        llama_model result = model;
        for (std::size_t b = 0; b < blocks.size(); ++b) result.blocks[b] = blocks[b].block;
        return result;
    };
    const double before = divergence(model, model_of(rounded), texts);
    std::ostringstream ignored;
    progress quiet(ignored, false);
    magr::thread_pool pool(2);
    for (const double rate : {tuning_rate, 4.0, 1e6}) {  // of these 4 becomes short enough, and 1e6 does not
        CAPTURE(rate);
        std::vector<quantized_block> blocks = rounded;
        CHECK(tune_scales(stored.get(), blocks, texts, pool, quiet, rate) == (rate < 1e6));
        if (rate < 1e6) {
            CHECK(divergence(model, model_of(blocks), texts) < before);
        } else {
            for (std::size_t b = 0; b < blocks.size(); ++b) {
                CHECK(blocks[b].block.weights == rounded[b].block.weights);
                CHECK(blocks[b].block.input_norm == rounded[b].block.input_norm);
            }
        }
    }
}

TEST_CASE("quantize_model: rounded inputs cost something, and AQAS gets part of it back", "[examples][quantize_model][activations]") {
    llama_model model = tiny::model();
    for (llama_block& block : model.blocks) {  // a few channels with large activations, as language models have them
        block.input_norm[3] *= 40;
        block.post_attention_norm[5] *= 40;
        for (const linear kind : {linear::q_proj, linear::k_proj, linear::v_proj}) block[kind].col(3) /= 40;
        for (const linear kind : {linear::gate_proj, linear::up_proj}) block[kind].col(5) /= 40;
    }
    const auto texts = calibration(model);
    const rope_table rope = make_rope_table(model.config, texts);
    const matrix_f wanted = forward(model, rope, texts);
    const auto distance = [&](const quantization& how) {
        return static_cast<double>((forward(quantized(model, texts, how).model, rope, texts) - wanted).norm());
    };
    const double exact = distance({.method = method::optq, .bits = 8}),
                 rounded = distance({.method = method::optq, .bits = 8, .activation_bits = 4});
    const double scaled = distance({.method = method::aqas, .bits = 8, .activation_bits = 4});
    CHECK(exact < 0.5 * rounded);
    CHECK(scaled < 0.8 * rounded);
}

TEST_CASE("quantize_model: layers with the same inputs share QuIP's basis of these inputs, which is stored once",
          "[examples][quantize_model][quip]") {
    const llama_model model = tiny::model();
    const auto texts = calibration(model);
    magr::thread_pool pool(2);
    const auto n = static_cast<magr::index_t>(model.config.hidden_size);
    magr::gram_accumulator<double> gram(n);
    matrix_f hidden = embed(model.embedding, texts);
    forward_block(model.config, model.blocks[0], make_rope_table(model.config, texts), texts, hidden, [&](site where, const matrix_f& x) {
        if (where == site::attention_input) gram.add(x);
    });
    const llama_block& block = model.blocks[0];
    const std::array kinds{linear::q_proj, linear::k_proj, linear::v_proj};
    const std::array layers{&block[kinds[0]], &block[kinds[1]], &block[kinds[2]]};
    layer_calibration found{.gram = gram.gram(), .tokens = gram.tokens()};
    found.basis = common_basis("some inputs", layers, found.gram, pool);
    CHECK(found.basis->layers == 3);
    const quantization how{.method = method::quip, .bits = 2};
    double bits = 0;
    for (const linear kind : kinds) {
        matrix_f Q = quantize_layer("x", block[kind], found, {}, how, pool).values;
        const magr::incoherence basis({magr::rotation_kind::orthogonal, found.basis->seed, Q.rows(), Q.cols(), found.basis->scales});
        basis.weights(magr::as_mutable_view(Q));
        std::set<long> steps;  // of a scale of which the grid has the odd multiples
        const float largest = Q.cwiseAbs().maxCoeff();
        for (const float q : Q.reshaped()) {
            const float step = 3 * q / largest;
            CHECK(std::abs(step - std::round(step)) < 1e-3F);
            steps.insert(std::lround(step));
        }
        CHECK(std::set<long>{-3, -1, 1, 3} == steps);
    }
    // the whole model: codes, a scale for each layer, and for each site a seed and a diagonal
    const quantized_llama all = quantized(model, texts, how);
    double weights = 0;
    for (std::size_t k = 0; k < all_linears.size(); ++k) {
        bits += all.record.layers[k].stored_bits;
        weights += static_cast<double>(all.record.layers[k].weights);
    }
    const auto m = static_cast<double>(model.config.intermediate_size), q = static_cast<double>(block[linear::o_proj].cols());
    CHECK(bits == Approx(2 * weights + 7 * 32 + 4 * 64 + 64 * (2 * static_cast<double>(n) + q + m)));
}

TEST_CASE("quantize_model: auto does not fit the correlations that only a few tokens have", "[examples][quantize_model][property]") {
    // inputs that do not depend on each other: on other tokens the error is that of the weights themselves
    constexpr Eigen::Index inputs = 48, tokens = 96;
    tiny::random_values random(3);
    const matrix_f X = random.matrix(tokens, inputs, 1), W = random.matrix(40, inputs, 1);
    magr::gram_accumulator<double> gram(inputs);
    gram.add(X);
    layer_calibration found{.gram = gram.gram(), .tokens = tokens, .drift = magr::matrix<double>(inputs, inputs)};
    output_metric metric;
    metric.all = magr::matrix<float>(40, 40);
    for (magr::index_t i = 0; i < 40; ++i) metric.all(i, i) = 1;
    magr::thread_pool pool(1);
    const auto error = [&] {
        return (quantize_layer("x", W, found, metric, {.method = method::automatic, .bits = 3}, pool).values - W).squaredNorm();
    };
    const float careful = error();
    found.tokens = 1000 * tokens;  // as if these were the correlations of a long text
    CHECK(careful < 0.8F * error());
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

TEST_CASE("quantize_model: a method does what an option says exactly if it takes the option", "[examples][quantize_model]") {
    llama_config config = tiny::config();
    config.num_hidden_layers = 1;
    const llama_model model = tiny::model(config);
    const auto texts = tiny::texts(model.config, std::vector<std::size_t>(5, 60), 17);
    quantization plain{.bits = 3};
    plain.alpha = 0.05;  // so that MagR has a part in it
    const std::map<std::string_view, std::function<void(quantization&)>> ask{
        {"--group-size", [](quantization& how) { how.group_size = 8; }},
        {"--zero-point", [](quantization& how) { how.zero_point = magr::zero_point::none; }},
        {"--storage", [](quantization& how) { how.storage = magr::storage_type::bf16; }},
        {"--range", [](quantization& how) { how.range = magr::range_search::mse; }},
        {"--beta", [](quantization& how) { how.beta = 0.8; }},
        {"--alpha", [](quantization& how) { how.alpha = 0.2; }},
        {"--solver", [](quantization& how) { how.solver = magr::preprocess_solver::proximal_gradient; }},
        {"--target", [](quantization& how) { how.target = magr::rounding_target::original; }},
        {"--damping", [](quantization& how) { how.damping = 0.5; }},
        {"--order", [](quantization& how) { how.order = magr::column_order::act_order; }},
        {"--refinement-rounds", [](quantization& how) { how.refinement_rounds = 1; }},
        {"--drift", [](quantization& how) { how.drift = 0.5; }},
        {"--effort", [](quantization& how) { how.effort = 2; }}};
    for (const method m : all_methods) {
        plain.method = m;
        const quantized_llama usual = quantized(model, texts, plain);
        for (const char* option : partial_options) {
            CAPTURE(name_of(m), option);
            quantization how = plain;
            ask.at(option)(how);
            if (!takes(m, "--group-size")) how.group_size.reset();  // as the program does, for MagR in front of QuIP
            const quantized_llama found = quantized(model, texts, how);
            CHECK((found.model.blocks[0].weights != usual.model.blocks[0].weights) == takes(m, option));
        }
    }
}

TEST_CASE("head_metrics: they are those of the inputs that the program rounds", "[examples][quantize_model][activations]") {
    const llama_model model = tiny::model();
    const auto texts = calibration(model);
    magr::thread_pool pool(2);
    const text_states text(model.config, model.embedding, texts);
    llama_block block = model.blocks[0];
    const auto exact = collect_head_metrics(block, text, pool);
    block.activation_bits = 2;
    const auto rounded = collect_head_metrics(block, text, pool);
    block.activation_bits = 8;
    const auto nearly = collect_head_metrics(block, text, pool);
    const auto distance = [&](const head_metrics& other) {
        const auto view = [](const magr::matrix<double>& m) { return Eigen::Map<const Eigen::MatrixXd>(m.data(), m.rows(), m.cols()); };
        return (view(other.queries[0]) - view(exact.queries[0])).norm() / view(exact.queries[0]).norm();
    };
    CHECK(distance(rounded) > 0.05);
    CHECK(distance(nearly) > 0);
    CHECK(distance(nearly) < 0.02);
}

TEST_CASE("quantize_model: an option out of range reaches the caller", "[examples][quantize_model]") {
    const llama_model model = tiny::model();
    CHECK_THROWS_AS(quantized(model, tiny::texts(model.config, {50}), {.method = method::rtn, .bits = 4, .beta = 2.0}), magr::option_error);
}
