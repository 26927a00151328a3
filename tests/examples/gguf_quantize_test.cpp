// SPDX-License-Identifier: MIT
#include <algorithm>
#include <magr/calibration/gram.hpp>
#include <magr/calibration/output_error.hpp>
#include <magr/error.hpp>
#include <magr/gguf/gguf.hpp>
#include <string>
#include <vector>

#include "quantize_llama/calibration_gram.hpp"
#include "quantize_llama/codes_file.hpp"
#include "quantize_llama/k_quant_method.hpp"
#include "quantize_llama/methods.hpp"
#include "quantize_llama/output_folder.hpp"
#include "quantize_llama/quantize_model.hpp"
#include "scratch_folder.hpp"
#include "support/catch.hpp"
#include "tiny_llama.hpp"

using namespace examples;
using magr::ggml_type;

namespace {

/// Weights, and inputs that depend on each other.
struct random_layer {
    explicit random_layer(std::int64_t rows = 16, std::int64_t cols = 256) {
        tiny::random_values random(5);
        W = random.matrix(rows, cols, 0.1f);
        const matrix_f X = random.matrix(2 * cols, cols / 2, 1) * random.matrix(cols / 2, cols, 1) + random.matrix(2 * cols, cols, 0.5f);
        magr::gram_accumulator<double> gram(cols);
        gram.add(X);
        calibration.gram = gram.gram();
        calibration.tokens = gram.tokens();
        calibration.drift = magr::matrix<double>(cols, cols);
        metric.all = magr::matrix<float>(rows, rows);
        for (magr::index_t i = 0; i < rows; ++i) metric.all(i, i) = 1;
    }

    [[nodiscard]] quantized_layer quantized(method m, ggml_type type) const {
        quantization how;
        how.method = m;
        how.ggml = type;
        const magr::grid_options grid = grid_options_of(type);
        how.bits = grid.bits;
        how.group_size = grid.group_size;
        how.zero_point = grid.zero_point;
        how.storage = grid.storage;
        magr::thread_pool pool(1);
        return quantize_layer("layer", W, calibration, metric, how, pool);
    }

    matrix_f W;
    layer_calibration calibration;
    output_metric metric;
};

}  // namespace

TEST_CASE("GGUF quantization: codes on the grids of every type can be packed", "[examples][gguf]") {
    const random_layer layer;
    for (const ggml_type type : {ggml_type::q4_0, ggml_type::q4_1, ggml_type::q5_0, ggml_type::q5_1, ggml_type::q8_0, ggml_type::q2_k,
                                 ggml_type::q3_k, ggml_type::q4_k, ggml_type::q5_k, ggml_type::q6_k})
        for (const method m : {method::rtn, method::optq, method::automatic}) {
            CAPTURE(to_string(type), name_of(m));
            const quantized_layer done = layer.quantized(m, type);
            const magr::gguf_tensor packed = pack_gguf(*done.quantized, type);
            const magr::matrix<float> values = unpack_gguf(packed).dequantize();
            CHECK(std::equal(values.data(), values.data() + done.values.size(), done.values.data()));
            CHECK(done.record.stored_bits == 8.0 * static_cast<double>(packed.data.size()));
        }
}

TEST_CASE("GGUF quantization: on grids of shared scales OPTQ is better than rounding, and refinement better than OPTQ",
          "[examples][gguf]") {
    const random_layer layer;
    for (const ggml_type type : {ggml_type::q2_k, ggml_type::q3_k, ggml_type::q4_k, ggml_type::q5_k, ggml_type::q6_k}) {
        CAPTURE(to_string(type));
        const double rtn = layer.quantized(method::rtn, type).record.output_error,
                     optq = layer.quantized(method::optq, type).record.output_error;
        const double refined = layer.quantized(method::optq_refine, type).record.output_error;
        CHECK(optq < 0.7 * rtn);
        CHECK(refined < optq);
        CHECK(layer.quantized(method::magr_optq, type).record.output_error <= optq);  // without MagR is one of its choices
    }
}

TEST_CASE("GGUF quantization: on k-quants held-out text chooses the damping, and other text profits", "[examples][gguf]") {
    constexpr std::int64_t cols = 256;
    tiny::random_values random(6);
    const matrix_f W = random.matrix(16, cols, 0.1f), mixing = random.matrix(cols, cols, 1);
    const auto tokens = [&](std::int64_t count) -> matrix_f { return random.matrix(count, cols, 1) * mixing; };
    magr::thread_pool pool(1);
    quantization how;
    how.method = method::optq_refine;
    how.ggml = ggml_type::q4_k;
    REQUIRE(chooses_damping(how));

    calibration_gram sum(cols, true);
    magr::gram_accumulator<double> all(cols), other(cols);
    for (std::size_t c = 0; c < 8; ++c) {
        const matrix_f X = tokens(48);
        sum.add(c, 8, X, pool);
        all.add(X);
    }
    other.add(tokens(1000));
    layer_calibration found;
    sum.finish(found, pool);
    REQUIRE(found.damping);
    CHECK(*found.damping > 0.01);
    const auto matrix_of = [](const magr::matrix<double>& m) { return Eigen::Map<const Eigen::MatrixXd>(m.data(), m.rows(), m.cols()); };
    CHECK(matrix_of(found.gram).isApprox(matrix_of(all.gram()), 1e-12));

    const magr::matrix<double> other_gram = other.gram();
    const auto error = [&](const quantization& as) {
        return magr::output_error(W, on_k_quant_grids("layer", W, found, as, pool).values, other_gram, pool);
    };
    quantization little = how, same = how;
    little.damping = 0.01;
    same.damping = found.damping;
    CHECK(error(how) < 0.95 * error(little));
    CHECK(error(how) == error(same));
}

TEST_CASE("GGUF quantization: a damping that is given is not chosen, nor one for other types and methods", "[examples][gguf]") {
    quantization how;
    how.method = method::optq;
    CHECK_FALSE(chooses_damping(how));
    how.ggml = ggml_type::q4_0;
    CHECK_FALSE(chooses_damping(how));
    how.ggml = ggml_type::q4_k;
    CHECK(chooses_damping(how));
    how.damping = 0.01;
    CHECK_FALSE(chooses_damping(how));
    how.damping = {};
    how.method = method::rtn;
    CHECK_FALSE(chooses_damping(how));

    const auto held_out = [](std::size_t chunks) {
        std::size_t count = 0;
        for (std::size_t c = 0; c < chunks; ++c) count += is_held_out(c, chunks) ? 1 : 0;
        return count;
    };
    CHECK(held_out(1) == 0);  // the Gram matrix needs it
    for (const std::size_t chunks : {2U, 3U, 4U, 7U}) CHECK(held_out(chunks) == 1);
    CHECK(held_out(8) == 2);
    magr::thread_pool pool(1);
    calibration_gram single(2, true);
    single.add(0, 1, matrix_f::Ones(3, 2), pool);
    layer_calibration found;
    single.finish(found, pool);
    CHECK_FALSE(found.damping);
    CHECK(found.gram(0, 1) == 3);
}

TEST_CASE("GGUF quantization: methods with grids of their own are refused for k-quants", "[examples][gguf]") {
    const random_layer layer;
    for (const method m : {method::paper, method::qronos, method::dint})
        CHECK_THROWS_AS(static_cast<void>(layer.quantized(m, ggml_type::q4_k)), magr::option_error);
}

TEST_CASE("GGUF quantization: a report says where a mix takes a substitute", "[examples][gguf]") {
    llama_config c = tiny::config();
    c.hidden_size = 64;
    c.head_dim = 16;
    c.intermediate_size = 256;
    const tiny::model_in_folder model(tiny::model(c));
    quantization how;
    how.method = method::optq;
    how.gguf = gguf_mix::q4_k_m;
    magr::thread_pool pool(1);
    progress display;
    const auto text = tiny::texts(c, {40, 50, 60});
    const quantization_record record = quantize_model(model.get(), text, how, pool, display, [](const llama_block&) {});
    for (const layer_record& layer : record.layers) {
        const bool is_wide = layer.name.ends_with("down_proj");
        CAPTURE(layer.name, layer.remark);
        CHECK(layer.remark.empty() == is_wide);
        const bool is_value = layer.name.ends_with("v_proj"), is_last = layer.name.starts_with("layers.1");
        const double bits = is_wide ? (is_last ? 6.5625 : 4.5) : is_value && is_last ? 8.5 : 5.5;
        CHECK(layer.stored_bits == bits * static_cast<double>(layer.weights));
    }
}

TEST_CASE("GGUF quantization: tuned scales are still products of shared ones, and files get the tuned norms", "[examples][gguf]") {
    llama_config c = tiny::config();
    c.hidden_size = 256;
    c.head_dim = 64;
    c.intermediate_size = 256;
    c.num_hidden_layers = 1;
    c.tie_word_embeddings = false;
    llama_model original = tiny::model(c);
    original.own_head *= 0.1f;  // so that predictions are not certain, which would leave nothing to tune
    const tiny::model_in_folder model(original);
    quantization how;
    how.method = method::automatic;
    how.effort = 2;
    how.gguf = gguf_mix::q3_k_s;
    magr::thread_pool pool(1);
    progress display;
    const auto text = tiny::texts(c, {40, 50, 60});
    const scratch_folder scratch;
    llama_block tuned;
    output_folder out(scratch.path() / "run");
    out.begin(model.get(), text, how, {});
    static_cast<void>(quantize_model(
        model.get(), text, how, pool, display, [&](const llama_block& block) { tuned = block; }, &out));
    CHECK(tuned.input_norm != original.blocks[0].input_norm);

    const safetensors_file codes(scratch.path() / "run" / "codes" / "block-00000.safetensors");
    for (const linear kind : {linear::q_proj, linear::down_proj}) {
        const magr::quantized_matrix<float> q = read_codes(codes, 0, kind);
        const magr::matrix<float> unpacked = magr::unpack_gguf(magr::pack_gguf(q, ggml_type::q3_k)).dequantize();  // refuses other scales
        CHECK(unpacked == q.dequantize());
        CHECK(std::equal(unpacked.data(), unpacked.data() + unpacked.rows() * unpacked.cols(), tuned[kind].data()));
    }
}
