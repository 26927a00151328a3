// SPDX-License-Identifier: MIT
#include "quantize_llama/attention.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace examples {
namespace {

/// Softmax of one row of scores, in place.
template <class Row>
void softmax(Row&& scores) {
    scores.array() = (scores.array() - scores.maxCoeff()).exp();
    scores /= scores.sum();
}

/// The first position that the token at `position` attends to.
Eigen::Index first_visible(Eigen::Index position, std::int64_t window) { return std::max<Eigen::Index>(0, position - window + 1); }

}  // namespace

std::vector<double> rope_frequencies(const llama_config& config) {
    const rope_scaling& s = config.scaling;
    const auto d = static_cast<double>(config.head_dim);
    const double turns_per_frequency = s.original_max_position_embeddings / (2 * std::numbers::pi);
    double first = 0, last = 0;  // yarn: the pairs between which the kept share falls from 1 to 0
    if (s.kind == rope_scaling_kind::yarn) {
        const auto pair_of = [&](double turns) { return d * std::log(turns_per_frequency / turns) / (2 * std::log(config.rope_theta)); };
        const double high = pair_of(s.high_turns), low = pair_of(s.low_turns);
        first = std::clamp(s.truncate ? std::floor(high) : high, 0.0, d - 1);
        last = std::clamp(s.truncate ? std::ceil(low) : low, 0.0, d - 1);
        if (first == last) last += 0.001;
    }
    std::vector<double> frequencies;
    for (std::int64_t i = 0; i < config.head_dim / 2; ++i) {
        const auto pair = static_cast<double>(i);
        const double frequency = std::pow(config.rope_theta, -2 * pair / d);
        double kept = 1;
        switch (s.kind) {
            case rope_scaling_kind::none: break;
            case rope_scaling_kind::linear: kept = 0; break;
            case rope_scaling_kind::llama3:
                kept = std::clamp((frequency * turns_per_frequency - s.low_turns) / (s.high_turns - s.low_turns), 0.0, 1.0);
                break;
            case rope_scaling_kind::yarn: kept = 1 - std::clamp((pair - first) / (last - first), 0.0, 1.0); break;
        }
        frequencies.push_back(frequency * (kept + (1 - kept) / s.factor));
    }
    return frequencies;
}

rope_table::rope_table(const llama_config& config, std::int64_t positions)
    : cos_(positions, config.head_dim / 2), sin_(positions, config.head_dim / 2) {
    const std::vector<double> frequencies = rope_frequencies(config);
    for (std::int64_t i = 0; i < cos_.cols(); ++i)
        for (std::int64_t p = 0; p < positions; ++p) {
            const double angle = static_cast<double>(p) * frequencies[static_cast<std::size_t>(i)];
            cos_(p, i) = static_cast<float>(config.scaling.attention_factor * std::cos(angle));
            sin_(p, i) = static_cast<float>(config.scaling.attention_factor * std::sin(angle));
        }
}

void rope_table::rotate(Eigen::Ref<row_f> heads, std::int64_t position) const { turn(heads, position, 1); }

void rope_table::rotate_gradient(Eigen::Ref<row_f> heads, std::int64_t position) const { turn(heads, position, -1); }

void rope_table::turn(Eigen::Ref<row_f> heads, std::int64_t position, float direction) const {
    const auto cos = cos_.row(position).array();
    const Eigen::Array<float, 1, Eigen::Dynamic> sin = direction * sin_.row(position).array();
    const Eigen::Index half = cos_.cols();
    Eigen::Array<float, 1, Eigen::Dynamic> low(half);
    for (Eigen::Index h = 0; h < heads.cols(); h += 2 * half) {
        auto a = heads.segment(h, half).array(), b = heads.segment(h + half, half).array();
        low = a;
        a = low * cos - b * sin;
        b = b * cos + low * sin;
    }
}

rope_table make_rope_table(const llama_config& config, std::span<const sequence> sequences) {
    std::size_t longest = 0;
    for (const sequence& s : sequences) longest = std::max(longest, s.size());
    return rope_table(config, static_cast<std::int64_t>(longest));
}

matrix_f causal_attention(const llama_config& config, const rope_table& rope, std::span<const sequence> sequences, matrix_f& queries,
                          matrix_f& keys, const matrix_f& values) {
    constexpr Eigen::Index tile = 64;  // queries at once, so that most of the scores beyond the diagonal and the window are never computed
    const Eigen::Index d = config.head_dim, shared_by = config.num_attention_heads / config.num_key_value_heads;
    const float scale = 1.0f / std::sqrt(static_cast<float>(d));
    matrix_f out(queries.rows(), queries.cols());
    matrix_f scores;
    Eigen::Index begin = 0;
    for (const sequence& s : sequences) {
        const Eigen::Index length = std::ssize(s);
        for (Eigen::Index p = 0; p < length; ++p) {
            rope.rotate(queries.row(begin + p), p);
            rope.rotate(keys.row(begin + p), p);
        }
        for (Eigen::Index h = 0; h < config.num_attention_heads; ++h) {
            const auto k = keys.block(begin, h / shared_by * d, length, d);
            const auto v = values.block(begin, h / shared_by * d, length, d);
            for (Eigen::Index first = 0; first < length; first += tile) {
                const Eigen::Index count = std::min(tile, length - first);
                const Eigen::Index oldest = first_visible(first, config.sliding_window), visible = first + count - oldest;
                scores.noalias() = scale * queries.block(begin + first, h * d, count, d) * k.middleRows(oldest, visible).transpose();
                for (Eigen::Index i = 0; i < count; ++i) {
                    const Eigen::Index hidden = first_visible(first + i, config.sliding_window) - oldest, end = first + i + 1 - oldest;
                    scores.row(i).head(hidden).setZero();
                    softmax(scores.row(i).segment(hidden, end - hidden));
                    scores.row(i).tail(visible - end).setZero();
                }
                out.block(begin + first, h * d, count, d).noalias() = scores * v.middleRows(oldest, visible);
            }
        }
        begin += length;
    }
    return out;
}

kv_cache::kv_cache(const llama_config& config, std::int64_t sequences, std::int64_t longest)
    : heads_(config.num_attention_heads),
      kv_heads_(config.num_key_value_heads),
      head_dim_(config.head_dim),
      window_(config.sliding_window),
      keys_(static_cast<std::size_t>(sequences), matrix_f(longest, kv_heads_ * head_dim_)),
      values_(keys_) {}

matrix_f kv_cache::attend(const rope_table& rope, std::span<const std::int64_t> positions, matrix_f& queries, matrix_f& keys,
                          const matrix_f& values) {
    const Eigen::Index d = head_dim_, shared_by = heads_ / kv_heads_;
    const float scale = 1.0f / std::sqrt(static_cast<float>(d));
    matrix_f out(queries.rows(), queries.cols());
    row_f scores;
    for (std::size_t s = 0; s < positions.size(); ++s) {
        const auto row = static_cast<Eigen::Index>(s);
        rope.rotate(queries.row(row), positions[s]);
        rope.rotate(keys.row(row), positions[s]);
        keys_[s].row(positions[s]) = keys.row(row);
        values_[s].row(positions[s]) = values.row(row);
        const Eigen::Index oldest = first_visible(positions[s], window_), visible = positions[s] + 1 - oldest;
        for (Eigen::Index h = 0; h < heads_; ++h) {
            const auto k = keys_[s].block(oldest, h / shared_by * d, visible, d);
            const auto v = values_[s].block(oldest, h / shared_by * d, visible, d);
            scores.noalias() = scale * queries.row(row).segment(h * d, d) * k.transpose();
            softmax(scores);
            out.row(row).segment(h * d, d).noalias() = scores * v;
        }
    }
    return out;
}

}  // namespace examples
