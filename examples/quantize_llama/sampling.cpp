// SPDX-License-Identifier: MIT
#include "quantize_llama/sampling.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "common/error.hpp"
#include "quantize_llama/forward.hpp"

namespace examples {
namespace {

bool ends_sequence(const llama_config& config, token id) {
    return std::find(config.eos_token_ids.begin(), config.eos_token_ids.end(), id) != config.eos_token_ids.end();
}

std::mt19937 seeded(std::uint32_t seed, std::uint32_t stream) {
    std::seed_seq words{seed, stream};
    return std::mt19937(words);
}

/// `length` ids from each of the streams first, first + 1, ..., as whole sequences.
std::vector<sequence> sample_streams(const llama_model& model, std::uint32_t first, std::size_t streams, std::int64_t length,
                                     std::int64_t longest, std::uint32_t seed, progress& progress) {
    decoder next(model, static_cast<std::int64_t>(streams), longest);
    std::vector<std::mt19937> random;
    for (std::size_t s = 0; s < streams; ++s) random.push_back(seeded(seed, first + static_cast<std::uint32_t>(s)));
    std::vector<std::vector<sequence>> written(streams, std::vector<sequence>(1));
    std::vector<token> ids(streams, *model.config.bos_token_id);
    for (std::int64_t step = 0; step < length; ++step) {
        for (std::size_t s = 0; s < streams; ++s) written[s].back().push_back(ids[s]);
        const matrix_f logits = next.step(ids);
        for (std::size_t s = 0; s < streams; ++s) {
            const sequence& text = written[s].back();
            const bool complete = std::ssize(text) == longest || (text.size() > 1 && ends_sequence(model.config, text.back()));
            if (complete) {
                next.restart(s);
                if (step + 1 < length) written[s].emplace_back();
            }
            ids[s] = complete ? *model.config.bos_token_id : draw(logits.row(static_cast<Eigen::Index>(s)), 1.0, random[s]);
        }
        progress.advance(static_cast<double>(streams));
    }
    std::vector<sequence> all;
    for (std::vector<sequence>& stream : written) std::move(stream.begin(), stream.end(), std::back_inserter(all));
    return all;
}

}  // namespace

decoder::decoder(const llama_model& model, std::int64_t sequences, std::int64_t longest)
    : model_(model),
      rope_(model.config, longest),
      caches_(model.blocks.size(), kv_cache(model.config, sequences, longest)),
      positions_(static_cast<std::size_t>(sequences)) {}

matrix_f decoder::step(std::span<const token> ids) {
    matrix_f hidden(std::ssize(ids), model_.config.hidden_size);
    for (std::size_t s = 0; s < ids.size(); ++s) hidden.row(static_cast<Eigen::Index>(s)) = model_.embedding.row(ids[s]);
    for (std::size_t layer = 0; layer < caches_.size(); ++layer) {
        const auto attend = [&](matrix_f& queries, matrix_f& keys, const matrix_f& values) {
            return caches_[layer].attend(rope_, positions_, queries, keys, values);
        };
        forward_block(model_.blocks[layer], model_.config.rms_norm_eps, hidden, attend);
    }
    for (std::int64_t& position : positions_) ++position;
    return rms_norm(hidden, model_.final_norm, model_.config.rms_norm_eps) * model_.head().transpose();
}

token draw(const Eigen::Ref<const row_f>& logits, double temperature, std::mt19937& random) {
    const Eigen::ArrayXd weights = ((logits.array() - logits.maxCoeff()).cast<double>() / temperature).exp();
    // std::uniform_real_distribution may differ between standard libraries.
    double rest = weights.sum() * (static_cast<double>(random()) / 4294967296.0);
    Eigen::Index id = 0;
    while (id + 1 < weights.size() && rest >= weights[id]) rest -= weights[id++];
    return static_cast<token>(id);
}

std::vector<sequence> sample_sequences(const llama_model& model, std::int64_t tokens, std::int64_t longest, std::uint32_t seed,
                                       magr::thread_pool& pool, progress& progress) {
    constexpr std::size_t batch = 32;  // streams that share one pass over the weights
    if (!model.config.bos_token_id) refuse("the model has no bos_token_id to begin its own texts with; give files of token ids");
    const std::int64_t length = std::min(longest, tokens);
    const auto streams = static_cast<std::size_t>((tokens + length - 1) / length);
    std::vector<std::vector<sequence>> parts((streams + batch - 1) / batch);
    pool.parallel_for(std::ssize(parts), [&](magr::index_t task, magr::index_t) {
        const auto p = static_cast<std::size_t>(task);
        parts[p] = sample_streams(model, static_cast<std::uint32_t>(p * batch), std::min(batch, streams - p * batch), length, longest, seed,
                                  progress);
    });
    std::vector<sequence> all;
    for (std::vector<sequence>& part : parts) std::move(part.begin(), part.end(), std::back_inserter(all));
    return all;
}

sequence continue_sequence(const llama_model& model, std::span<const token> prompt, std::int64_t count, double temperature,
                           std::uint32_t seed) {
    decoder next(model, 1, std::ssize(prompt) + count);
    std::mt19937 random = seeded(seed, 0);
    matrix_f logits;
    for (const token& id : prompt) logits = next.step({&id, 1});
    sequence text;
    while (std::ssize(text) < count) {
        text.push_back(draw(logits.row(0), temperature, random));
        if (ends_sequence(model.config, text.back())) break;
        logits = next.step({&text.back(), 1});
    }
    return text;
}

}  // namespace examples
