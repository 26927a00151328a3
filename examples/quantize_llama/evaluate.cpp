// SPDX-License-Identifier: MIT
#include "quantize_llama/evaluate.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "common/error.hpp"
#include "quantize_llama/forward.hpp"
#include "quantize_llama/log_softmax.hpp"

namespace examples {
namespace {

/// Sums over predicted positions.
struct sums {
    double negative_log_likelihood = 0;
    double kl_divergence = 0;
    std::int64_t predictions = 0;
};

sums score_chunk(const matrix_f& head, std::span<const sequence> sequences, const matrix_f& hidden, const matrix_f& reference) {
    constexpr Eigen::Index tile = 128;  // positions whose logits are in memory at once
    sums total;
    matrix_f logits, reference_logits;
    Eigen::Index begin = 0;
    for (const sequence& s : sequences) {
        const Eigen::Index predictions = std::ssize(s) - 1;
        for (Eigen::Index first = 0; first < predictions; first += tile) {
            const Eigen::Index count = std::min(tile, predictions - first);
            logits.noalias() = hidden.middleRows(begin + first, count) * head.transpose();
            reference_logits.noalias() = reference.middleRows(begin + first, count) * head.transpose();
            for (Eigen::Index i = 0; i < count; ++i) {
                const log_softmax q(logits.row(i)), p(reference_logits.row(i));
                const token next = s[static_cast<std::size_t>(first + i + 1)];
                total.negative_log_likelihood += q.log_sum - static_cast<double>(q.shifted[static_cast<Eigen::Index>(next)]);
                total.kl_divergence += kl_divergence(p, q);
            }
        }
        total.predictions += predictions;
        begin += std::ssize(s);
    }
    return total;
}

evaluation mean_of(const std::vector<sums>& parts) {
    sums total;
    for (const sums& part : parts) {
        total.negative_log_likelihood += part.negative_log_likelihood;
        total.kl_divergence += part.kl_divergence;
        total.predictions += part.predictions;
    }
    const auto n = static_cast<double>(total.predictions);
    return {std::exp(total.negative_log_likelihood / n), total.kl_divergence / n, total.predictions};
}

}  // namespace

evaluator::evaluator(const model_folder& full_precision, std::span<const sequence> text, magr::thread_pool& pool, progress& progress)
    : model_(full_precision), text_(text), pool_(pool), progress_(progress) {
    if (count_tokens(text) == static_cast<std::int64_t>(text.size())) refuse("evaluation needs a sequence of at least two ids");
    text_states states = begin();
    const std::int64_t blocks = model_.config().num_hidden_layers;
    for (std::int64_t layer = 0; layer < blocks; ++layer) {
        progress_.stage("full precision, layer " + std::to_string(layer + 1) + "/" + std::to_string(blocks));
        states.pass_checked(model_.block(layer), layer, "evaluation text", pool_, [&](std::int64_t tokens) { advance(tokens); });
    }
    const row_f norm = model_.final_norm();
    for (std::size_t c = 0; c < states.chunks(); ++c) reference_.push_back(rms_norm(states.hidden(c), norm, model_.config().rms_norm_eps));
    baseline_ = score(states);
    if (std::isnan(baseline_.perplexity)) throw std::runtime_error("evaluation text: the model in full precision has no perplexity for it");
}

void evaluator::pass(text_states& states, const llama_block& block) const {
    states.pass(block, pool_, [&](std::int64_t tokens) { advance(tokens); });
}

void evaluator::advance(std::int64_t tokens) const {
    progress_.advance(static_cast<double>(tokens) / static_cast<double>(model_.config().num_hidden_layers));
}

evaluation evaluator::score(const text_states& passed) const {
    const matrix_f head = model_.head();
    const row_f norm = model_.final_norm();
    std::vector<sums> parts(passed.chunks());
    pool_.parallel_for(std::ssize(parts), [&](magr::index_t task, magr::index_t) {
        const auto c = static_cast<std::size_t>(task);
        const matrix_f hidden = rms_norm(passed.hidden(c), norm, model_.config().rms_norm_eps);
        parts[c] = score_chunk(head, passed.sequences(c), hidden, reference_[c]);
    });
    return mean_of(parts);
}

}  // namespace examples
