// SPDX-License-Identifier: MIT
#include "quantize_llama/quantize_model.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <ctime>
#include <functional>
#include <iterator>
#include <magr/drift/drift.hpp>
#include <optional>
#include <string>
#include <utility>

#include "quantize_llama/calibration_gram.hpp"
#include "quantize_llama/forward.hpp"
#include "quantize_llama/head_metrics.hpp"
#include "quantize_llama/layer_settings.hpp"
#include "quantize_llama/output_folder.hpp"
#include "quantize_llama/output_metrics.hpp"
#include "quantize_llama/published_methods.hpp"
#include "quantize_llama/scale_inputs.hpp"
#include "quantize_llama/tune.hpp"

namespace examples {

namespace {

constexpr std::uint32_t metric_seed = 1;  // of the labels that gradients are taken for

/// An empty sum for the inputs at a site of a block.
calibration_gram gram_at(site where, std::int64_t layer, const llama_config& config, const quantization& how) {
    magr::index_t inputs = 0;
    bool chooses = false;
    for (const linear kind : all_linears) {
        if (input_of(kind) != where) continue;
        inputs = shape_of(config, kind).cols;
        chooses = chooses || chooses_damping(for_layer(how, config, layer, kind));
    }
    return {inputs, chooses};
}

/// The Gram matrices of the inputs at the four sites of a block, which it computes from the text in front of it.
std::array<layer_calibration, site_count> collect_grams(std::int64_t layer, const llama_block& block, const text_states& text,
                                                        const quantization& how, magr::thread_pool& pool,
                                                        const std::function<void(std::int64_t)>& chunk_done) {
    std::vector<calibration_gram> grams;
    for (const site where : all_sites) grams.push_back(gram_at(where, layer, text.config(), how));

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
            for (std::size_t s = 0; s < site_count; ++s) {
                require_finite(inputs[i][s], text.sequences(first + i), text.first_sequence(first + i),
                               "calibration text: " + input_name(layer, all_sites[s]));
                grams[s].add(first + i, text.chunks(), inputs[i][s], pool);
            }
    }
    inputs.clear();

    std::array<layer_calibration, site_count> result;
    for (std::size_t s = 0; s < site_count; ++s) grams[s].finish(result[s], pool);
    return result;
}

/// The sum over tokens of (r - s) y^T, with r and s the residual stream in full precision and quantized, and y the inputs.
magr::matrix<double> residual_drift(const text_states& untouched, const text_states& calibration, const std::vector<matrix_f>& inputs,
                                    magr::thread_pool& pool) {
    using matrix_d = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    constexpr magr::index_t strip = 64;  // rows of the result that a task sums, over all chunks in order
    const Eigen::Index rows = calibration.hidden(0).cols();
    magr::matrix<double> sum(rows, inputs.front().cols());
    pool.parallel_for((rows + strip - 1) / strip, [&](magr::index_t task, magr::index_t) {
        const Eigen::Index first = task * strip, count = std::min<Eigen::Index>(strip, rows - first);
        matrix_d part = matrix_d::Zero(count, sum.cols());
        for (std::size_t c = 0; c < inputs.size(); ++c) {
            const matrix_d lost = (untouched.hidden(c) - calibration.hidden(c)).middleCols(first, count).cast<double>();
            part.noalias() += lost.transpose() * inputs[c].cast<double>();
        }
        Eigen::Map<matrix_d>(sum.data() + first * sum.cols(), count, sum.cols()) = part;
    });
    return sum;
}

/// Rounds a block as a reader of the files will see it.
using block_rounding = std::function<void(llama_block&)>;

/// Quantizes a layer on the grid that the run has for it, and says in the report if that is a substitute.
quantized_layer quantize_for_file(std::int64_t layer, linear kind, const matrix_f& W, const layer_calibration& calibration,
                                  const output_metric& metric, const llama_config& config, const quantization& how,
                                  magr::thread_pool& pool) {
    quantized_layer done = quantize_layer(layer_name(layer, kind), W, calibration, metric, for_layer(how, config, layer, kind), pool);
    if (how.gguf) add_remark(done.record, type_in_mix(*how.gguf, config, layer, kind).remark(W.cols()));
    return done;
}

/// Quantizes the linear layers of one block, and lets the text pass it. The unquantized weights produce the layers' inputs.
quantized_block quantize_block(std::int64_t layer, llama_block block, text_states& calibration, const quantization& how,
                               const block_rounding& round, magr::thread_pool& pool, const std::function<void(std::int64_t)>& chunk_done) {
    block.activation_bits = how.activation_bits;
    block_metrics metrics;
    if (how.method == method::boa) {
        head_metrics heads = collect_head_metrics(block, calibration, pool);
        metrics[static_cast<std::size_t>(linear::q_proj)].heads = std::move(heads.queries);
        metrics[static_cast<std::size_t>(linear::k_proj)].heads = std::move(heads.keys);
    }
    if (how.method == method::aqas) block = scale_inputs(block, calibration, how, pool);
    std::array<layer_calibration, site_count> inputs = collect_grams(layer, block, calibration, how, pool, chunk_done);
    if (traits_of(how.method).rotates)
        for (const site where : all_sites) {
            std::vector<const matrix_f*> readers;
            for (const linear kind : all_linears)
                if (input_of(kind) == where) readers.push_back(&block[kind]);
            layer_calibration& found = inputs[static_cast<std::size_t>(where)];
            found.basis = common_basis(input_name(layer, where), readers, found.gram, pool);
        }
    std::array<std::atomic<int>, site_count> layers_left{};  // at each site; after the last one its Gram matrices are not needed
    for (const linear kind : all_linears) ++layers_left[static_cast<std::size_t>(input_of(kind))];

    quantized_block result;
    pool.parallel_for(std::ssize(all_linears), [&](magr::index_t task, magr::index_t) {
        const linear kind =
            all_linears[all_linears.size() - 1 - static_cast<std::size_t>(task)];  // down_proj, the longest, must not be last
        const auto where = static_cast<std::size_t>(input_of(kind));
        quantized_layer& done = result.layers[static_cast<std::size_t>(kind)];
        done = quantize_for_file(layer, kind, block[kind], inputs[where], metrics[static_cast<std::size_t>(kind)], calibration.config(),
                                 how, pool);
        if (--layers_left[where] == 0) inputs[where] = {};
        block[kind] = std::move(done.values);
    });
    round(block);
    calibration.pass(block, pool, chunk_done);
    result.block = std::move(block);
    return result;
}

/// The same layer after layer, each on inputs that come from the quantized ones before it, and with its drift.
/// @param untouched  the text in front of the block in full precision; passes it, too
/// @param metrics    of the outputs; all empty if the method does without
quantized_block quantize_block_in_order(std::int64_t layer, const llama_block& original, text_states& calibration, text_states& untouched,
                                        const block_metrics& metrics, const quantization& how, const block_rounding& round,
                                        magr::thread_pool& pool, const std::function<void(std::int64_t)>& chunk_done) {
    quantized_block result{original, {}};
    round(result.block);
    result.block.activation_bits = how.activation_bits;
    std::vector<matrix_f> inputs(calibration.chunks()), original_inputs(calibration.chunks());
    const auto for_each_chunk = [&](const auto& task) {
        pool.parallel_for(static_cast<magr::index_t>(inputs.size()),
                          [&](magr::index_t c, magr::index_t) { task(static_cast<std::size_t>(c)); });
    };
    for (const site where : all_sites) {
        for_each_chunk([&](std::size_t c) {
            inputs[c] = calibration.site_input(c, result.block, where, inputs[c]);
            original_inputs[c] = untouched.site_input(c, original, where, original_inputs[c]);
        });
        calibration_gram gram = gram_at(where, layer, calibration.config(), how);
        magr::drift_accumulator<double> drift(inputs.front().cols());
        for (std::size_t c = 0; c < inputs.size(); ++c) {
            for (const matrix_f& x : {std::cref(inputs[c]), std::cref(original_inputs[c])})
                require_finite(x, calibration.sequences(c), calibration.first_sequence(c), "calibration text: " + input_name(layer, where));
            gram.add(c, inputs.size(), inputs[c], pool);
            drift.add(original_inputs[c], inputs[c], pool);
        }
        layer_calibration found{.drift = drift.drift()};
        gram.finish(found, pool);
        if (where == site::attention_output || where == site::mlp_hidden)
            found.residual_drift = residual_drift(untouched, calibration, inputs, pool);
        std::vector<linear> here;
        std::copy_if(all_linears.begin(), all_linears.end(), std::back_inserter(here),
                     [&](linear kind) { return input_of(kind) == where; });
        pool.parallel_for(std::ssize(here), [&](magr::index_t task, magr::index_t) {
            const linear kind = here[static_cast<std::size_t>(task)];
            const auto at = static_cast<std::size_t>(kind);
            result.layers[at] = quantize_for_file(layer, kind, original[kind], found, metrics[at], calibration.config(), how, pool);
            result.block[kind] = std::move(result.layers[at].values);
        });
        round(result.block);
    }
    for_each_chunk([&](std::size_t c) {
        calibration.finish_block(c, result.block, inputs[c]);
        untouched.finish_block(c, original, original_inputs[c]);
        chunk_done(2 * count_tokens(calibration.sequences(c)));
    });
    return result;
}

/// Whether scales and norms are tuned when all blocks are quantized.
bool tunes(const quantization& how) { return how.method == method::automatic && how.effort > 1; }

/// Whether an earlier run has written all blocks, and they are as they were.
bool has_all_blocks(const output_folder& out, std::int64_t blocks) {
    for (std::int64_t layer = 0; layer < blocks; ++layer)
        if (!out.read(layer)) return false;
    return true;
}

}  // namespace

double calibration_passes(method m, int effort) {
    double passes = 2;  // to collect Gram matrices, and to feed the next block
    if (traits_of(m).weighs_outputs) passes += 3;
    if (m == method::automatic && effort > 1) passes += tuning_passes;
    return passes;
}

double quantization_record::bits_per_weight() const {
    double bits = 0, weights = 0;
    for (const layer_record& layer : layers) {
        bits += layer.stored_bits;
        weights += static_cast<double>(layer.weights);
    }
    return bits / weights;
}

double quantization_record::mean_output_error() const {
    double sum = 0;
    for (const layer_record& layer : layers) sum += layer.output_error;
    return sum / static_cast<double>(layers.size());
}

quantization_record quantize_model(const model_folder& model, std::span<const sequence> calibration, const quantization& how,
                                   magr::thread_pool& pool, progress& progress, const block_observer& finished, output_folder* out,
                                   std::vector<block_metrics>* kept_metrics) {
    using clock = std::chrono::steady_clock;
    const std::int64_t blocks = model.config().num_hidden_layers;
    const auto chunk_done = [&](std::int64_t tokens) { progress.advance(static_cast<double>(tokens) / static_cast<double>(blocks)); };

    quantization_record record;
    text_states states(model.config(), model.embedding(), calibration);
    std::optional<text_states> untouched;  // the text on its way through the model in full precision
    if (traits_of(how.method).in_order) untouched.emplace(states);
    std::vector<block_metrics> own_metrics;
    std::vector<block_metrics>& metrics = kept_metrics ? *kept_metrics : own_metrics;
    const auto begin_metrics = clock::now();
    const std::clock_t processor_begin_metrics = std::clock();
    if (traits_of(how.method).weighs_outputs && metrics.empty()) {
        progress.stage(std::string(name_of(how.method)) + " " + std::to_string(how.bits) + " bits, gradients");
        metrics = output_metrics(model, calibration, metric_seed, pool, progress);
    }
    const block_metrics no_metrics;
    record.seconds += std::chrono::duration<double>(clock::now() - begin_metrics).count();
    record.processor_seconds += static_cast<double>(std::clock() - processor_begin_metrics) / CLOCKS_PER_SEC;
    std::vector<quantized_block> untuned;  // all blocks, if they are tuned together in the end
    const bool goes_on = out && (!tunes(how) || has_all_blocks(*out, blocks));
    for (std::int64_t layer = 0; layer < blocks; ++layer) {
        progress.stage(std::string(name_of(how.method)) + " " + std::to_string(how.bits) + " bits, layer " + std::to_string(layer + 1) +
                       "/" + std::to_string(blocks));
        const auto begin = clock::now();
        const std::clock_t processor_begin = std::clock();
        llama_block block;
        std::optional<finished_block> earlier;
        if (goes_on) earlier = out->read(layer);
        if (earlier) {
            block = std::move(earlier->block);
            block.activation_bits = how.activation_bits;
            std::move(earlier->layers.begin(), earlier->layers.end(), std::back_inserter(record.layers));
            states.pass(block, pool, chunk_done);
            if (untouched) untouched->pass(model.block(layer), pool, [](std::int64_t) {});
            chunk_done(count_tokens(calibration));
        } else {
            const block_rounding round = [&](llama_block& made) {
                if (out && !tunes(how)) out->round_as_stored(made);
            };
            const auto quantize = [&](llama_block original) {
                if (untouched)
                    return quantize_block_in_order(layer, original, states, *untouched,
                                                   metrics.empty() ? no_metrics : metrics[static_cast<std::size_t>(layer)], how, round,
                                                   pool, chunk_done);
                return quantize_block(layer, std::move(original), states, how, round, pool, chunk_done);
            };
            quantized_block result = quantize(model.block(layer));
            if (tunes(how)) {
                block = result.block;
                untuned.push_back(std::move(result));
            } else {
                if (out) out->write(layer, result);
                block = std::move(result.block);
                for (quantized_layer& done : result.layers) record.layers.push_back(std::move(done.record));
            }
        }
        record.seconds += std::chrono::duration<double>(clock::now() - begin).count();
        record.processor_seconds += static_cast<double>(std::clock() - processor_begin) / CLOCKS_PER_SEC;
        states.require_finite("calibration text: the output of layers." + std::to_string(layer));
        if (untuned.empty()) finished(block);
    }
    if (!untuned.empty()) {
        progress.stage(std::string(name_of(how.method)) + " " + std::to_string(how.bits) + " bits, tuning");
        const auto begin = clock::now();
        const std::clock_t processor_begin = std::clock();
        if (!tune_scales(model, untuned, calibration, pool, progress))
            record.remark =
                "tuning did not bring the predictions for the calibration text closer to the original ones, so nothing was tuned";
        for (std::size_t layer = 0; layer < untuned.size(); ++layer) {
            if (out) out->write(static_cast<std::int64_t>(layer), untuned[layer]);
            for (quantized_layer& done : untuned[layer].layers) record.layers.push_back(std::move(done.record));
        }
        record.seconds += std::chrono::duration<double>(clock::now() - begin).count();
        record.processor_seconds += static_cast<double>(std::clock() - processor_begin) / CLOCKS_PER_SEC;
        for (const quantized_block& done : untuned) finished(done.block);
    }
    if (out) out->complete();
    return record;
}

}  // namespace examples
