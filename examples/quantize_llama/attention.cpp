// SPDX-License-Identifier: MIT
#include "quantize_llama/attention.hpp"

#include <algorithm>
#include <cmath>

namespace examples {
namespace {

/// Softmax of one row of scores, in place.
template <class Row>
void softmax(Row&& scores) {
    scores.array() = (scores.array() - scores.maxCoeff()).exp();
    scores /= scores.sum();
}

}  // namespace

rope_table::rope_table(const llama_config& config, std::int64_t positions)
    : cos_(positions, config.head_dim / 2), sin_(positions, config.head_dim / 2) {
    for (std::int64_t i = 0; i < cos_.cols(); ++i) {
        const double frequency = std::pow(config.rope_theta, -2.0 * static_cast<double>(i) / static_cast<double>(config.head_dim));
        for (std::int64_t p = 0; p < positions; ++p) {
            cos_(p, i) = static_cast<float>(std::cos(static_cast<double>(p) * frequency));
            sin_(p, i) = static_cast<float>(std::sin(static_cast<double>(p) * frequency));
        }
    }
}

void rope_table::rotate(Eigen::Ref<row_f> heads, std::int64_t position) const {
    const auto cos = cos_.row(position).array(), sin = sin_.row(position).array();
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
    constexpr Eigen::Index tile = 64;  // queries at once, so that most of the scores above the diagonal are never computed
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
                const Eigen::Index count = std::min(tile, length - first), visible = first + count;
                scores.noalias() = scale * queries.block(begin + first, h * d, count, d) * k.topRows(visible).transpose();
                for (Eigen::Index i = 0; i < count; ++i) {
                    softmax(scores.row(i).head(first + i + 1));
                    scores.row(i).tail(visible - (first + i + 1)).setZero();
                }
                out.block(begin + first, h * d, count, d).noalias() = scores * v.topRows(visible);
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
        for (Eigen::Index h = 0; h < heads_; ++h) {
            const auto k = keys_[s].block(0, h / shared_by * d, positions[s] + 1, d);
            const auto v = values_[s].block(0, h / shared_by * d, positions[s] + 1, d);
            scores.noalias() = scale * queries.row(row).segment(h * d, d) * k.transpose();
            softmax(scores);
            out.row(row).segment(h * d, d).noalias() = scores * v;
        }
    }
    return out;
}

}  // namespace examples
