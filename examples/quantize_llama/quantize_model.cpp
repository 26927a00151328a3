// SPDX-License-Identifier: MIT
#include "quantize_llama/quantize_model.hpp"

#include <algorithm>
#include <chrono>
#include <magr/calibration/gram.hpp>

#include "common/parallel_for.hpp"
#include "quantize_llama/forward.hpp"

namespace examples {
namespace {

using gram = magr::gram_accumulator<double>;

/// The calibration text on its way through the model.
struct calibration_state {
    std::span<const sequence> text;
    std::vector<chunk> chunks;
    std::vector<matrix_f> hidden;  ///< input of the current block, per chunk

    [[nodiscard]] std::span<const sequence> sequences(std::size_t c) const { return text.subspan(chunks[c].first, chunks[c].count); }
};

std::array<gram, site_count> empty_grams(const llama_config& config) {
    const auto inputs = [&](linear kind) { return gram(shape_of(config, kind).cols); };
    return {inputs(linear::q_proj), inputs(linear::o_proj), inputs(linear::gate_proj), inputs(linear::down_proj)};
}

/// Gram matrices of the inputs at the four sites of a block.
std::array<gram, site_count> collect_grams(const llama_config& config, const llama_block& block, const rope_table& rope,
                                           const calibration_state& state, int threads,
                                           const std::function<void(std::size_t)>& chunk_done) {
    // Each part sums every eighth chunk; more threads than that find nothing to do, but the sum is the same for any number of threads.
    constexpr std::size_t most_parts = 8;
    std::vector<std::array<gram, site_count>> parts(std::min(most_parts, state.chunks.size()), empty_grams(config));
    parallel_for(parts.size(), threads, [&](std::size_t p) {
        for (std::size_t c = p; c < state.chunks.size(); c += parts.size()) {
            matrix_f hidden = state.hidden[c];
            forward_block(config, block, rope, state.sequences(c), hidden,
                          [&](site where, const matrix_f& inputs) { parts[p][static_cast<std::size_t>(where)].add(inputs); });
            chunk_done(c);
        }
    });
    for (std::size_t p = 1; p < parts.size(); ++p)
        for (std::size_t s = 0; s < site_count; ++s) parts[0][s].merge(parts[p][s]);
    return std::move(parts[0]);
}

}  // namespace

double quantized_llama::mean_output_error() const {
    double sum = 0;
    for (const layer_record& layer : layers) sum += layer.output_error;
    return sum / static_cast<double>(layers.size());
}

quantized_llama quantize_model(const llama_model& model, std::span<const sequence> calibration, const quantization& how, int threads,
                               progress& progress) {
    const auto begin = std::chrono::steady_clock::now();
    quantized_llama result{model, {}, 0};
    const llama_config& config = model.config;
    const rope_table rope = make_rope_table(config, calibration);
    calibration_state state{calibration, split_into_chunks(calibration), {}};
    for (std::size_t c = 0; c < state.chunks.size(); ++c) state.hidden.push_back(embed(model, state.sequences(c)));
    const auto chunk_done = [&](std::size_t c) {
        progress.advance(static_cast<double>(count_tokens(state.sequences(c))) / static_cast<double>(config.num_hidden_layers));
    };

    for (std::size_t layer = 0; layer < result.model.blocks.size(); ++layer) {
        progress.stage(std::string(name_of(how.method)) + " " + std::to_string(how.bits) + " bits, layer " + std::to_string(layer + 1) +
                       "/" + std::to_string(result.model.blocks.size()));
        llama_block& block = result.model.blocks[layer];
        std::array<gram, site_count> grams = collect_grams(config, block, rope, state, threads, chunk_done);
        std::array<layer_calibration, site_count> inputs;
        for (std::size_t s = 0; s < site_count; ++s) inputs[s].fitting = grams[s].gram();

        std::array<layer_record, all_linears.size()> records;
        parallel_for(all_linears.size(), threads, [&](std::size_t i) {
            const linear kind = all_linears[all_linears.size() - 1 - i];  // down_proj, the longest, must not be the last to start
            const std::string name = "layers." + std::to_string(layer) + "." + name_of(kind);
            quantized_layer done = quantize_layer(name, block[kind], inputs[static_cast<std::size_t>(input_of(kind))], how);
            const magr::matrix<float> values = done.quantized.dequantize();
            block[kind] = Eigen::Map<const matrix_f>(values.data(), values.rows(), values.cols());
            records[static_cast<std::size_t>(kind)] = std::move(done.record);
        });
        std::move(records.begin(), records.end(), std::back_inserter(result.layers));

        parallel_for(state.chunks.size(), threads, [&](std::size_t c) {
            forward_block(config, block, rope, state.sequences(c), state.hidden[c]);
            chunk_done(c);
        });
    }
    result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    return result;
}

}  // namespace examples
