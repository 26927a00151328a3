// SPDX-License-Identifier: MIT
#include "quantize_llama/output_metrics.hpp"

#include <algorithm>
#include <magr/calibration/gram.hpp>
#include <random>
#include <utility>

#include "quantize_llama/backward.hpp"
#include "quantize_llama/forward.hpp"
#include "quantize_llama/sampling.hpp"

namespace examples {
namespace {

using block_sums = std::vector<magr::gram_accumulator<float>>;

block_sums empty_sums(const llama_config& config) {
    block_sums sums;
    for (const linear kind : all_linears) sums.emplace_back(shape_of(config, kind).rows);
    return sums;
}

/// How many tokens may be on their way at once.
std::int64_t tokens_at_once(const llama_config& config) {
    constexpr std::int64_t most_bytes = std::int64_t{1} << 30;
    const std::int64_t bytes_per_token = (config.num_hidden_layers + 1) * config.hidden_size * std::int64_t{sizeof(float)};
    return std::max<std::int64_t>(1, most_bytes / bytes_per_token);
}

/// The chunks of a text, in groups that fit into memory at once.
std::vector<std::span<const chunk>> groups_of(std::span<const chunk> chunks, std::span<const sequence> text, std::int64_t most_tokens) {
    std::vector<std::span<const chunk>> groups;
    std::size_t first = 0;
    std::int64_t tokens = 0;
    for (std::size_t c = 0; c < chunks.size(); ++c) {
        const std::int64_t own = count_tokens(text.subspan(chunks[c].first, chunks[c].count));
        if (c > first && tokens + own > most_tokens) {
            groups.push_back(chunks.subspan(first, c - first));
            first = c;
            tokens = 0;
        }
        tokens += own;
    }
    groups.push_back(chunks.subspan(first));
    return groups;
}

}  // namespace

std::vector<block_metrics> output_metrics(const model_folder& model, std::span<const sequence> text, std::uint32_t seed,
                                          magr::thread_pool& pool, progress& progress) {
    const llama_config& config = model.config();
    const auto blocks = static_cast<std::size_t>(config.num_hidden_layers);
    const rope_table rope = make_rope_table(config, text);
    const std::vector<chunk> chunks = split_into_chunks(text);
    const matrix_f embedding = model.embedding(), head = model.head();
    const row_f norm = model.final_norm();
    std::vector<block_sums> sums(blocks);
    for (block_sums& block : sums) block = empty_sums(config);

    for (const std::span<const chunk> group : groups_of(chunks, text, tokens_at_once(config))) {
        const auto sequences = [&](std::size_t c) { return text.subspan(group[c].first, group[c].count); };
        const auto for_each_chunk = [&](const auto& task) {
            pool.parallel_for(static_cast<magr::index_t>(group.size()),
                              [&](magr::index_t c, magr::index_t) { task(static_cast<std::size_t>(c)); });
        };
        std::vector<std::vector<matrix_f>> hidden(blocks + 1, std::vector<matrix_f>(group.size()));  // in front of each block
        for_each_chunk([&](std::size_t c) { hidden[0][c] = embed(embedding, sequences(c)); });
        for (std::size_t b = 0; b < blocks; ++b) {
            const llama_block block = model.block(static_cast<std::int64_t>(b));
            for_each_chunk([&](std::size_t c) {
                hidden[b + 1][c] = hidden[b][c];
                forward_block(config, block, rope, sequences(c), hidden[b + 1][c]);
                progress.advance(static_cast<double>(count_tokens(sequences(c))) / static_cast<double>(blocks));
            });
        }
        std::vector<matrix_f> gradients(group.size());
        for_each_chunk([&](std::size_t c) {
            std::seed_seq words{seed, static_cast<std::uint32_t>(group[c].first)};
            std::mt19937 random(words);
            const auto loss = [&](Eigen::Index, matrix_f& logits) {  // minus the logarithm of the label's probability
                for (Eigen::Index i = 0; i < logits.rows(); ++i) {
                    const token label = draw(logits.row(i), 1, random);
                    softmax(logits.row(i));
                    logits(i, static_cast<Eigen::Index>(label)) -= 1;
                }
            };
            gradients[c] = backward_head(head, norm, config.rms_norm_eps, hidden[blocks][c], loss);
        });
        for (std::size_t b = blocks; b-- > 0;) {
            const llama_block block = model.block(static_cast<std::int64_t>(b));
            std::vector<block_gradients> found(group.size());
            for_each_chunk([&](std::size_t c) {
                matrix_f passing = hidden[b][c];
                const block_trace trace = trace_block(config, block, rope, sequences(c), passing);
                found[c] = backward_block(config, block, rope, sequences(c), trace, gradients[c]);
                progress.advance(2 * static_cast<double>(count_tokens(sequences(c))) / static_cast<double>(blocks));
            });
            for (const linear kind : all_linears)
                for (std::size_t c = 0; c < group.size(); ++c) {
                    sums[b][static_cast<std::size_t>(kind)].add(found[c][kind], pool);
                    found[c][kind].resize(0, 0);
                }
        }
    }
    std::vector<block_metrics> metrics(blocks);
    for (std::size_t b = 0; b < blocks; ++b) {
        for (std::size_t k = 0; k < all_linears.size(); ++k) metrics[b][k].all = sums[b][k].gram(pool);
        sums[b].clear();
    }
    return metrics;
}

}  // namespace examples
