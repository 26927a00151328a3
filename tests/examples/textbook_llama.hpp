#pragma once

#include <cmath>
#include <vector>

#include "quantize_llama/model.hpp"
#include "quantize_llama/tokens.hpp"

/// The forward pass once more, in double and one number at a time, as the equations are written.
namespace textbook {

using vector = std::vector<double>;

inline vector product(const examples::matrix_f& W, const vector& x) {
    vector y(static_cast<std::size_t>(W.rows()), 0.0);
    for (Eigen::Index i = 0; i < W.rows(); ++i)
        for (Eigen::Index j = 0; j < W.cols(); ++j)
            y[static_cast<std::size_t>(i)] += static_cast<double>(W(i, j)) * x[static_cast<std::size_t>(j)];
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

/// Rotates the pairs (i, i + d/2) of the head of size d that begins at `at` by position * theta^(-2 i / d).
inline void rotate(vector& x, std::size_t at, std::size_t d, std::size_t position, double theta) {
    for (std::size_t i = 0; i < d / 2; ++i) {
        const double angle = static_cast<double>(position) * std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(d));
        const double a = x[at + i], b = x[at + i + d / 2];
        x[at + i] = a * std::cos(angle) - b * std::sin(angle);
        x[at + i + d / 2] = b * std::cos(angle) + a * std::sin(angle);
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
            queries.push_back(product(block[linear::q_proj], x));
            keys.push_back(product(block[linear::k_proj], x));
            values.push_back(product(block[linear::v_proj], x));
            for (std::size_t h = 0; h < heads; ++h) rotate(queries[t], h * d, d, t, c.rope_theta);
            for (std::size_t h = 0; h < kv_heads; ++h) rotate(keys[t], h * d, d, t, c.rope_theta);
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
                    weights.push_back(std::exp(score / std::sqrt(static_cast<double>(d))));
                    sum += weights.back();
                }
                for (std::size_t s = 0; s <= t; ++s)
                    for (std::size_t i = 0; i < d; ++i) mixed[h * d + i] += weights[s] / sum * values[s][shared * d + i];
            }
            const vector change = product(block[linear::o_proj], mixed);
            for (std::size_t j = 0; j < change.size(); ++j) hidden[t][j] += change[j];
        }
        for (vector& row : hidden) {
            const vector x = rms_norm(row, block.post_attention_norm, c.rms_norm_eps);
            vector gate = product(block[linear::gate_proj], x);
            const vector up = product(block[linear::up_proj], x);
            for (std::size_t j = 0; j < gate.size(); ++j) gate[j] = gate[j] / (1 + std::exp(-gate[j])) * up[j];
            const vector change = product(block[linear::down_proj], gate);
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
