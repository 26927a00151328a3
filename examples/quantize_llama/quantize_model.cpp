// SPDX-License-Identifier: MIT
#include "quantize_llama/quantize_model.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <iterator>
#include <magr/calibration/gram.hpp>
#include <optional>
#include <string>

#include "common/error.hpp"
#include "quantize_llama/forward.hpp"
#include "quantize_llama/output_folder.hpp"

namespace examples {
namespace {

using gram = magr::gram_accumulator<double>;

/// Every fourth sequence is held out of the fitting by methods that validate.
constexpr std::size_t validation_period = 4;

/// The Gram matrices of one site's inputs.
struct site_grams {
    explicit site_grams(std::int64_t inputs, bool validates) : fitting(inputs) {
        if (validates) validation.emplace(inputs);
    }

    void add(const matrix_f& inputs, std::span<const sequence> sequences, std::size_t first_sequence, magr::thread_pool& pool) {
        if (!validation) return fitting.add(inputs, pool);
        Eigen::Index row = 0;
        for (std::size_t i = 0; i < sequences.size(); ++i) {
            const bool held_out = (first_sequence + i) % validation_period == validation_period - 1;
            (held_out ? *validation : fitting).add(inputs.middleRows(row, std::ssize(sequences[i])), pool);
            row += std::ssize(sequences[i]);
        }
    }

    gram fitting;
    std::optional<gram> validation;
};

/// Quantizes the linear layers of one block. The unquantized weights produce the layers' inputs.
quantized_block quantize_block(std::int64_t layer, llama_block block, const text_states& calibration, const quantization& how,
                               magr::thread_pool& pool, const std::function<void(std::int64_t)>& chunk_done) {
    std::array<layer_calibration, site_count> inputs = collect_grams(block, calibration, validates(how.method), pool, chunk_done);
    std::array<std::atomic<int>, site_count> layers_left{};  // at each site; after the last one its Gram matrices are not needed
    for (const linear kind : all_linears) ++layers_left[static_cast<std::size_t>(input_of(kind))];

    quantized_block result;
    pool.parallel_for(std::ssize(all_linears), [&](magr::index_t task, magr::index_t) {
        const linear kind = all_linears[all_linears.size() - 1 - static_cast<std::size_t>(task)];  // down_proj, the longest, comes first
        const auto where = static_cast<std::size_t>(input_of(kind));
        quantized_layer& done = result.layers[static_cast<std::size_t>(kind)];
        done = quantize_layer("layers." + std::to_string(layer) + "." + name_of(kind), block[kind], inputs[where], how);
        if (--layers_left[where] == 0) inputs[where] = {};
        const magr::matrix<float> values = done.quantized.dequantize();
        block[kind] = Eigen::Map<const matrix_f>(values.data(), values.rows(), values.cols());
    });
    result.block = std::move(block);
    return result;
}

}  // namespace

std::array<layer_calibration, site_count> collect_grams(const llama_block& block, const text_states& text, bool validates,
                                                        magr::thread_pool& pool, const std::function<void(std::int64_t)>& chunk_done) {
    const auto empty = [&](linear kind) { return site_grams(shape_of(text.config(), kind).cols, validates); };
    std::array<site_grams, site_count> grams{empty(linear::q_proj), empty(linear::o_proj), empty(linear::gate_proj),
                                             empty(linear::down_proj)};

    // Several chunks of the text are computed at once, and then added in order.
    constexpr magr::index_t most_at_once = 8;  // whose inputs are in memory
    std::vector<std::array<matrix_f, site_count>> inputs(static_cast<std::size_t>(std::min(pool.concurrency(), most_at_once)));
    for (std::size_t first = 0; first < text.chunks(); first += inputs.size()) {
        const std::size_t count = std::min(inputs.size(), text.chunks() - first);
        pool.parallel_for(static_cast<magr::index_t>(count), [&](magr::index_t task, magr::index_t) {
            const auto i = static_cast<std::size_t>(task);
            matrix_f hidden = text.hidden(first + i);
            forward_block(text.config(), block, text.rope(), text.sequences(first + i), hidden,
                          [&](site where, const matrix_f& x) { inputs[i][static_cast<std::size_t>(where)] = x; });
            chunk_done(count_tokens(text.sequences(first + i)));
        });
        for (std::size_t i = 0; i < count; ++i)
            for (std::size_t s = 0; s < site_count; ++s)
                grams[s].add(inputs[i][s], text.sequences(first + i), text.first_sequence(first + i), pool);
    }
    inputs.clear();

    std::array<layer_calibration, site_count> result;
    for (std::size_t s = 0; s < site_count; ++s) {
        result[s].fitting = grams[s].fitting.gram(pool);
        if (validates) result[s].validation = grams[s].validation->gram(pool);
        grams[s] = site_grams(1, false);  // gives the memory back
    }
    return result;
}

double quantization_record::mean_output_error() const {
    double sum = 0;
    for (const layer_record& layer : layers) sum += layer.output_error;
    return sum / static_cast<double>(layers.size());
}

quantization_record quantize_model(const model_folder& model, std::span<const sequence> calibration, const quantization& how,
                                   magr::thread_pool& pool, progress& progress, const block_observer& finished, output_folder* out) {
    if (validates(how.method) && calibration.size() < validation_period)
        refuse(name_of(how.method), " holds every fourth calibration text out; it needs at least ", validation_period, ", there are ",
               calibration.size());
    using clock = std::chrono::steady_clock;
    const std::int64_t blocks = model.config().num_hidden_layers;
    const auto chunk_done = [&](std::int64_t tokens) { progress.advance(static_cast<double>(tokens) / static_cast<double>(blocks)); };

    quantization_record record;
    text_states states(model.config(), model.embedding(), calibration);
    for (std::int64_t layer = 0; layer < blocks; ++layer) {
        progress.stage(std::string(name_of(how.method)) + " " + std::to_string(how.bits) + " bits, layer " + std::to_string(layer + 1) +
                       "/" + std::to_string(blocks));
        const auto begin = clock::now();
        llama_block block;
        if (out && layer < out->finished_blocks()) {
            finished_block earlier = out->read(layer);
            block = std::move(earlier.block);
            std::move(earlier.layers.begin(), earlier.layers.end(), std::back_inserter(record.layers));
            chunk_done(count_tokens(calibration));
        } else {
            quantized_block result = quantize_block(layer, model.block(layer), states, how, pool, chunk_done);
            if (out) out->write(layer, result);
            block = std::move(result.block);
            for (quantized_layer& done : result.layers) record.layers.push_back(std::move(done.record));
        }
        states.pass(block, pool, chunk_done);
        record.seconds += std::chrono::duration<double>(clock::now() - begin).count();
        finished(block);
    }
    if (out) out->complete();
    return record;
}

}  // namespace examples
