#include "quantize_llama/quantize_model.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <magr/calibration/gram.hpp>
#include <set>
#include <sstream>

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

TEST_CASE("collect_grams: every fourth sequence is held out if the method validates, else none", "[examples][quantize_model]") {
    const llama_model model = tiny::model();
    std::vector<std::size_t> lengths;
    for (std::size_t i = 0; i < 45; ++i)
        lengths.push_back(20 + 7 * (i % 9));  // two chunks, whose first sequences are not both multiples of 4
    const auto texts = tiny::texts(model.config, lengths);
    text_states states(model.config, model.embedding, texts);
    REQUIRE(states.chunks() > 1);
    REQUIRE(states.first_sequence(1) % 4 != 0);
    std::vector<sequence> fitted, held_out;
    for (std::size_t i = 0; i < texts.size(); ++i) (i % 4 == 3 ? held_out : fitted).push_back(texts[i]);
    magr::thread_pool pool(2);
    std::atomic<std::int64_t> tokens{0};
    const auto collect = [&](bool validates) {
        return collect_grams(model.blocks[0], states, validates, pool, [&](std::int64_t count) { tokens += count; });
    };
    const auto split = collect(true), all = collect(false);
    CHECK(tokens == 2 * count_tokens(texts));
    for (const linear kind : {linear::q_proj, linear::o_proj, linear::up_proj, linear::down_proj}) {
        const auto where = static_cast<std::size_t>(input_of(kind));
        const auto check = [&](const magr::matrix<double>& actual, const std::vector<sequence>& sequences) {
            magr::gram_accumulator<double> expected(shape_of(model.config, kind).cols);
            matrix_f hidden = embed(model.embedding, sequences);
            forward_block(model.config, model.blocks[0], make_rope_table(model.config, sequences), sequences, hidden,
                          [&](site at, const matrix_f& x) {
                              if (at == input_of(kind)) expected.add(x);
                          });
            const magr::matrix<double>& H = expected.gram();
            double largest = 0, difference = 0;
            REQUIRE(actual.rows() == H.rows());
            for (magr::index_t i = 0; i < H.rows(); ++i)
                for (magr::index_t j = 0; j < H.cols(); ++j) {
                    largest = std::max(largest, std::abs(H(i, j)));
                    difference = std::max(difference, std::abs(H(i, j) - actual(i, j)));
                }
            CHECK(difference < 1e-5 * largest);  // the inputs are float, computed in other batches
        };
        check(split[where].fitting, fitted);
        check(split[where].validation, held_out);
        check(all[where].fitting, texts);
        CHECK(all[where].validation.empty());
    }
}

TEST_CASE("quantize_model: an option out of range reaches the caller", "[examples][quantize_model]") {
    const llama_model model = tiny::model();
    CHECK_THROWS_AS(quantized(model, tiny::texts(model.config, {50}), {.method = method::rtn, .bits = 4, .beta = 2.0}), magr::option_error);
}
