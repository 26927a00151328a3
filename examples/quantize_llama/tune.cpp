// SPDX-License-Identifier: MIT
#include "quantize_llama/tune.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>
#include <numeric>
#include <random>

#include "quantize_llama/backward.hpp"
#include "quantize_llama/forward.hpp"
#include "quantize_llama/log_softmax.hpp"
#include "quantize_llama/tuned_block.hpp"

namespace examples {
namespace {

constexpr std::size_t chunks_per_step = 2;
constexpr int most_attempts = 2 * tuning_epochs;  ///< at an epoch, those that were taken back included

/// What all chunks share.
struct setting {
    const llama_config& config;
    const rope_table& rope;
    const matrix_f& embedding;
    const matrix_f& head;
    const row_f& norm;
};

/// Adds to each block's sums the derivatives of the KL divergence from the original model's predictions, summed over the tokens of a chunk.
/// @param reference  the normed output of the original model's last block
void add_derivatives(const setting& at, const std::vector<tuned_block>& blocks, std::span<const sequence> sequences,
                     const matrix_f& reference, std::vector<block_sums>& sums) {
    std::vector<matrix_f> hidden{embed(at.embedding, sequences)};  // in front of each block
    for (const tuned_block& block : blocks) {
        hidden.push_back(hidden.back());
        forward_block(at.config, block.now(), at.rope, sequences, hidden.back());
    }
    matrix_f wanted;
    const auto loss = [&](Eigen::Index first, matrix_f& logits) {
        wanted.noalias() = reference.middleRows(first, logits.rows()) * at.head.transpose();
        for (Eigen::Index i = 0; i < logits.rows(); ++i) {
            softmax(logits.row(i));
            softmax(wanted.row(i));
        }
        logits -= wanted;
    };
    matrix_f gradient = backward_head(at.head, at.norm, at.config.rms_norm_eps, hidden.back(), loss);
    for (std::size_t b = blocks.size(); b-- > 0;) {
        matrix_f passing = hidden[b];
        const block_trace trace = trace_block(at.config, blocks[b].now(), at.rope, sequences, passing);
        const block_gradients found = backward_block(at.config, blocks[b].now(), at.rope, sequences, trace, gradient);
        for (const linear kind : all_linears) {
            const matrix_f of_weights = found[kind].transpose() * trace.inputs[static_cast<std::size_t>(input_of(kind))];
            blocks[b].layer(kind).add_gradient(of_weights, sums[b].layers[static_cast<std::size_t>(kind)]);
        }
        sums[b].input_norm = found.input_norm;
        sums[b].post_attention_norm = found.post_attention_norm;
    }
}

/// Sum of KL(original model || quantized model) over the tokens of a chunk.
double divergence_of(const setting& at, const std::vector<tuned_block>& blocks, std::span<const sequence> sequences,
                     const matrix_f& reference) {
    constexpr Eigen::Index tile = 128;  // tokens whose logits are in memory at once
    matrix_f hidden = embed(at.embedding, sequences), wanted, logits;
    for (const tuned_block& block : blocks) forward_block(at.config, block.now(), at.rope, sequences, hidden);
    hidden = rms_norm(hidden, at.norm, at.config.rms_norm_eps);
    double sum = 0;
    for (Eigen::Index first = 0; first < hidden.rows(); first += tile) {
        const Eigen::Index count = std::min(tile, hidden.rows() - first);
        wanted.noalias() = reference.middleRows(first, count) * at.head.transpose();
        logits.noalias() = hidden.middleRows(first, count) * at.head.transpose();
        for (Eigen::Index i = 0; i < count; ++i) sum += kl_divergence(log_softmax(wanted.row(i)), log_softmax(logits.row(i)));
    }
    return sum;
}

/// The rate of a step in units of the highest: it rises over the first tenth, and then falls to 0 along a cosine.
double schedule(int step, int steps) {
    const int rising = std::max(1, steps / 10);
    if (step <= rising) return static_cast<double>(step) / rising;
    return 0.5 * (1 + std::cos(std::numbers::pi * (step - rising) / std::max(1, steps - rising)));
}

}  // namespace

bool tune_scales(const model_folder& model, std::vector<quantized_block>& blocks, std::span<const sequence> text, magr::thread_pool& pool,
                 progress& progress, double rate) {
    const llama_config& config = model.config();
    const rope_table rope = make_rope_table(config, text);
    const matrix_f embedding = model.embedding(), head = model.head();
    const row_f norm = model.final_norm();
    const setting at{config, rope, embedding, head, norm};
    const std::vector<chunk> chunks = split_into_chunks(text);
    const auto sequences = [&](std::size_t c) { return text.subspan(chunks[c].first, chunks[c].count); };
    const auto for_each_chunk = [&](const std::vector<std::size_t>& taken, const auto& work) {
        pool.parallel_for(std::ssize(taken), [&](magr::index_t task, magr::index_t) {
            const auto k = static_cast<std::size_t>(task);
            work(k, taken[k]);
        });
    };
    std::vector<std::size_t> order(chunks.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    const std::vector<std::size_t> all = order;

    std::vector<matrix_f> reference(chunks.size());
    for_each_chunk(all, [&](std::size_t, std::size_t c) { reference[c] = embed(embedding, sequences(c)); });
    for (std::int64_t b = 0; b < config.num_hidden_layers; ++b) {
        const llama_block block = model.block(b);
        for_each_chunk(all, [&](std::size_t, std::size_t c) { forward_block(config, block, rope, sequences(c), reference[c]); });
        progress.advance(static_cast<double>(count_tokens(text)) / static_cast<double>(config.num_hidden_layers));
    }
    for (matrix_f& hidden : reference) hidden = rms_norm(hidden, norm, config.rms_norm_eps);

    std::vector<tuned_block> tuned(blocks.begin(), blocks.end());
    const auto divergence = [&] {
        std::vector<double> parts(chunks.size());
        for_each_chunk(all, [&](std::size_t, std::size_t c) {
            parts[c] = divergence_of(at, tuned, sequences(c), reference[c]);
            progress.advance(static_cast<double>(count_tokens(sequences(c))));
        });
        return std::accumulate(parts.begin(), parts.end(), 0.0);
    };
    std::vector<block_numbers> best;
    const auto remember = [&] {
        best.clear();
        for (const tuned_block& block : tuned) best.push_back(block.numbers());
    };
    remember();
    double least = divergence();
    std::mt19937 random(1);
    const auto steps = static_cast<int>((chunks.size() + chunks_per_step - 1) / chunks_per_step);  // of an epoch
    int epochs = 0;
    for (int attempt = 0; attempt < most_attempts && epochs < tuning_epochs; ++attempt) {
        for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random() % i]);  // std::shuffle may differ
        for (int k = 0; k < steps; ++k) {
            const auto begin = order.begin() + k * static_cast<std::ptrdiff_t>(chunks_per_step);
            const std::vector<std::size_t> taken(begin, begin + std::min(std::ptrdiff_t{chunks_per_step}, order.end() - begin));
            std::vector<std::vector<block_sums>> parts(taken.size(), std::vector<block_sums>(tuned.size()));
            for_each_chunk(taken, [&](std::size_t part, std::size_t c) {
                add_derivatives(at, tuned, sequences(c), reference[c], parts[part]);
                progress.advance(3 * static_cast<double>(count_tokens(sequences(c))));
            });
            const int step = epochs * steps + k + 1;
            for (std::size_t b = 0; b < tuned.size(); ++b) {
                block_sums& sum = parts[0][b];
                for (std::size_t p = 1; p < parts.size(); ++p) sum += parts[p][b];
                tuned[b].descend(sum, rate * schedule(step, tuning_epochs * steps), step);
            }
        }
        const double now = divergence();
        if (now < least) {
            least = now;
            ++epochs;
            remember();
        } else {
            rate /= 4;
            progress.advance(-4 * static_cast<double>(count_tokens(text)));
            for (std::size_t b = 0; b < tuned.size(); ++b) tuned[b].set(best[b]);
        }
    }
    if (epochs == 0) return false;
    for (std::size_t b = 0; b < blocks.size(); ++b) {
        for (const linear kind : all_linears) {
            const auto l = static_cast<std::size_t>(kind);
            tuned[b].layer(kind).store(tuned[b].numbers().layers[l], blocks[b].layers[l]);
            blocks[b].block[kind] = blocks[b].layers[l].values;
        }
        blocks[b].block.input_norm = tuned[b].now().input_norm;
        blocks[b].block.post_attention_norm = tuned[b].now().post_attention_norm;
    }
    return true;
}

}  // namespace examples
