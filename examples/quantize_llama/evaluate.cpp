// SPDX-License-Identifier: MIT
#include "quantize_llama/evaluate.hpp"

#include <algorithm>
#include <cmath>

#include "common/error.hpp"
#include "common/parallel_for.hpp"
#include "quantize_llama/forward.hpp"

namespace examples {
namespace {

/// Sums over predicted positions.
struct sums {
    double negative_log_likelihood = 0;
    double kl_divergence = 0;
    std::int64_t predictions = 0;
};

/// One position's logits, shifted by their maximum, with the logarithm of the sum of their exponentials.
struct log_softmax {
    explicit log_softmax(const Eigen::Ref<const row_f>& logits)
        : shifted(logits.array() - logits.maxCoeff()), exponentials(shifted.exp()), log_sum(std::log(exponentials.cast<double>().sum())) {}

    using array = Eigen::Array<float, 1, Eigen::Dynamic>;
    array shifted;
    array exponentials;
    double log_sum;
};

/// KL(p || q) = sum p (log p - log q)
double kl_divergence(const log_softmax& p, const log_softmax& q) {
    const double difference = (p.exponentials * (p.shifted - q.shifted)).cast<double>().sum() / std::exp(p.log_sum);
    return difference + q.log_sum - p.log_sum;
}

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

evaluator::evaluator(const llama_model& full_precision, std::span<const sequence> text, int threads, progress& progress)
    : full_precision_(full_precision),
      text_(text),
      threads_(threads),
      progress_(progress),
      chunks_(split_into_chunks(text)),
      hidden_(chunks_.size()) {
    if (count_tokens(text) == static_cast<std::int64_t>(text.size())) refuse("evaluation needs a sequence of at least two ids");
    progress_.stage("full precision, evaluation");
    const rope_table rope = make_rope_table(full_precision.config, text);
    std::vector<sums> parts(chunks_.size());
    parallel_for(chunks_.size(), threads_, [&](std::size_t c) {
        const auto part = text_.subspan(chunks_[c].first, chunks_[c].count);
        hidden_[c] = forward(full_precision_, rope, part);
        parts[c] = score_chunk(full_precision_.head(), part, hidden_[c], hidden_[c]);
        progress_.advance(static_cast<double>(count_tokens(part)));
    });
    baseline_ = mean_of(parts);
}

evaluation evaluator::score(const llama_model& model) const {
    const rope_table rope = make_rope_table(model.config, text_);
    std::vector<sums> parts(chunks_.size());
    parallel_for(chunks_.size(), threads_, [&](std::size_t c) {
        const auto part = text_.subspan(chunks_[c].first, chunks_[c].count);
        parts[c] = score_chunk(model.head(), part, forward(model, rope, part), hidden_[c]);
        progress_.advance(static_cast<double>(count_tokens(part)));
    });
    return mean_of(parts);
}

}  // namespace examples
