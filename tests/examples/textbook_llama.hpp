// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "quantize_llama/model.hpp"
#include "quantize_llama/tokens.hpp"

/// A second implementation of the forward pass, in double and one number at a time, as the equations are written.
namespace textbook {

using vector = std::vector<double>;

inline vector product(const examples::matrix_f& W, const vector& x) {
    vector y(static_cast<std::size_t>(W.rows()), 0.0);
    for (Eigen::Index i = 0; i < W.rows(); ++i)
        for (Eigen::Index j = 0; j < W.cols(); ++j)
            y[static_cast<std::size_t>(i)] += static_cast<double>(W(i, j)) * x[static_cast<std::size_t>(j)];
    return y;
}

/// W x + b, where a layer without a bias has b = 0.
inline vector apply(const examples::llama_block& block, examples::linear kind, const vector& x) {
    vector y = product(block[kind], x);
    for (Eigen::Index i = 0; i < block.bias(kind).size(); ++i) y[static_cast<std::size_t>(i)] += static_cast<double>(block.bias(kind)[i]);
    return y;
}

inline vector rms_norm(const vector& x, const examples::row_f& weight, double eps) {
    double sum = 0;
    for (const double value : x) sum += value * value;
    vector y = x;
    for (std::size_t j = 0; j < x.size(); ++j)
        y[j] *= static_cast<double>(weight[static_cast<Eigen::Index>(j)]) / std::sqrt(sum / static_cast<double>(x.size()) + eps);
    return y;
}

/// The angle per position of pair i of a head. In the terms of the papers, a wavelength is the number of tokens in which the pair turns
/// once. Llama 3 divides the frequencies of long waves by the factor, keeps short ones and blends those in between. YaRN blends along i,
/// between the pairs that turn beta_fast and beta_slow times.
inline double frequency(const examples::llama_config& c, std::size_t i) {
    using kind = examples::rope_scaling_kind;
    const double pi = std::acos(-1.0), d = static_cast<double>(c.head_dim), pair = static_cast<double>(i);
    const examples::rope_scaling& s = c.scaling;
    const double plain = std::pow(c.rope_theta, -2.0 * pair / d), wavelength = 2 * pi / plain;
    if (s.kind == kind::linear) return plain / s.factor;
    if (s.kind == kind::llama3) {
        if (wavelength < s.original_max_position_embeddings / s.high_turns) return plain;
        if (wavelength > s.original_max_position_embeddings / s.low_turns) return plain / s.factor;
        const double smooth = (s.original_max_position_embeddings / wavelength - s.low_turns) / (s.high_turns - s.low_turns);
        return (1 - smooth) * plain / s.factor + smooth * plain;
    }
    if (s.kind == kind::yarn) {
        double low = d * std::log(s.original_max_position_embeddings / (s.high_turns * 2 * pi)) / (2 * std::log(c.rope_theta));
        double high = d * std::log(s.original_max_position_embeddings / (s.low_turns * 2 * pi)) / (2 * std::log(c.rope_theta));
        if (s.truncate) low = std::floor(low), high = std::ceil(high);
        low = std::max(low, 0.0), high = std::min(high, d - 1);
        const double ramp = std::min(1.0, std::max(0.0, (pair - low) / (high - low)));
        return plain / s.factor * ramp + plain * (1 - ramp);
    }
    return plain;
}

/// Rotates the pairs (i, i + d/2) of the head that begins at `at` by position * frequency, and scales them.
inline void rotate(vector& x, std::size_t at, const examples::llama_config& c, std::size_t position) {
    const auto d = static_cast<std::size_t>(c.head_dim);
    for (std::size_t i = 0; i < d / 2; ++i) {
        const double angle = static_cast<double>(position) * frequency(c, i), m = c.scaling.attention_factor;
        const double a = x[at + i], b = x[at + i + d / 2];
        x[at + i] = m * (a * std::cos(angle) - b * std::sin(angle));
        x[at + i + d / 2] = m * (b * std::cos(angle) + a * std::sin(angle));
    }
}

/// Logits after each token of one sequence.
inline std::vector<vector> logits(const examples::llama_model& model, const examples::sequence& ids) {
    using examples::linear;
    const examples::llama_config& c = model.config;
    const auto d = static_cast<std::size_t>(c.head_dim);
    const auto heads = static_cast<std::size_t>(c.num_attention_heads), kv_heads = static_cast<std::size_t>(c.num_key_value_heads);
    std::vector<vector> hidden;
    for (const examples::token id : ids) {
        vector row;
        for (Eigen::Index j = 0; j < c.hidden_size; ++j) row.push_back(static_cast<double>(model.embedding(id, j)));
        hidden.push_back(row);
    }
    for (const examples::llama_block& block : model.blocks) {
        std::vector<vector> queries, keys, values;
        for (std::size_t t = 0; t < ids.size(); ++t) {
            const vector x = rms_norm(hidden[t], block.input_norm, c.rms_norm_eps);
            queries.push_back(apply(block, linear::q_proj, x));
            keys.push_back(apply(block, linear::k_proj, x));
            values.push_back(apply(block, linear::v_proj, x));
            for (std::size_t h = 0; h < heads; ++h) rotate(queries[t], h * d, c, t);
            for (std::size_t h = 0; h < kv_heads; ++h) rotate(keys[t], h * d, c, t);
        }
        for (std::size_t t = 0; t < ids.size(); ++t) {
            vector mixed(heads * d, 0.0);
            for (std::size_t h = 0; h < heads; ++h) {
                const std::size_t shared = h * kv_heads / heads;
                vector weights;
                double sum = 0;
                for (std::size_t s = 0; s <= t; ++s) {
                    double score = 0;
                    for (std::size_t i = 0; i < d; ++i) score += queries[t][h * d + i] * keys[s][shared * d + i];
                    const bool visible = static_cast<std::int64_t>(t - s) < c.sliding_window;
                    weights.push_back(visible ? std::exp(score / std::sqrt(static_cast<double>(d))) : 0.0);
                    sum += weights.back();
                }
                for (std::size_t s = 0; s <= t; ++s)
                    for (std::size_t i = 0; i < d; ++i) mixed[h * d + i] += weights[s] / sum * values[s][shared * d + i];
            }
            const vector change = apply(block, linear::o_proj, mixed);
            for (std::size_t j = 0; j < change.size(); ++j) hidden[t][j] += change[j];
        }
        for (vector& row : hidden) {
            const vector x = rms_norm(row, block.post_attention_norm, c.rms_norm_eps);
            vector gate = apply(block, linear::gate_proj, x);
            const vector up = apply(block, linear::up_proj, x);
            for (std::size_t j = 0; j < gate.size(); ++j) gate[j] = gate[j] / (1 + std::exp(-gate[j])) * up[j];
            const vector change = apply(block, linear::down_proj, gate);
            for (std::size_t j = 0; j < change.size(); ++j) row[j] += change[j];
        }
    }
    for (vector& row : hidden) row = product(model.head(), rms_norm(row, model.final_norm, c.rms_norm_eps));
    return hidden;
}

inline vector softmax(const vector& logits) {
    vector p;
    double sum = 0;
    for (const double value : logits) p.push_back(std::exp(value)), sum += p.back();
    for (double& value : p) value /= sum;
    return p;
}

}  // namespace textbook
