// SPDX-License-Identifier: MIT
#include "quantize_llama/backward.hpp"

#include <algorithm>
#include <cmath>

#include "quantize_llama/forward.hpp"

namespace examples {
namespace {

/// The gradient of the input of y = x r weight, r = (mean(x^2) + eps)^(-1/2), from that of y; adds that of the weight.
matrix_f backward_norm(const matrix_f& x, const row_f& weight, double eps, const matrix_f& gradient, row_f& weight_gradient) {
    matrix_f out(x.rows(), x.cols());
    const auto n = static_cast<float>(x.cols());
    for (Eigen::Index t = 0; t < x.rows(); ++t) {
        const float r = 1.0f / std::sqrt(x.row(t).squaredNorm() / n + static_cast<float>(eps));
        const auto scaled = (gradient.row(t).array() * weight.array()).eval();
        const float along = (scaled * x.row(t).array()).sum();
        out.row(t) = r * scaled.matrix() - (r * r * r * along / n) * x.row(t);
        weight_gradient.array() += gradient.row(t).array() * x.row(t).array() * r;
    }
    return out;
}

/// The gradients of queries, keys (both before rotation) and values from that of what attention returns.
struct attention_gradients {
    matrix_f queries, keys, values;
};

attention_gradients backward_attention(const llama_config& config, const rope_table& rope, std::span<const sequence> sequences,
                                       const block_trace& trace, const matrix_f& gradient) {
    constexpr Eigen::Index tile = 64;  // queries at once
    const Eigen::Index d = config.head_dim, shared_by = config.num_attention_heads / config.num_key_value_heads;
    const float scale = 1.0f / std::sqrt(static_cast<float>(d));
    attention_gradients out{matrix_f(trace.queries.rows(), trace.queries.cols()), matrix_f::Zero(trace.keys.rows(), trace.keys.cols()),
                            matrix_f::Zero(trace.values.rows(), trace.values.cols())};
    matrix_f shares, changes;
    Eigen::Index begin = 0;
    for (const sequence& s : sequences) {
        const auto length = static_cast<Eigen::Index>(s.size());
        for (Eigen::Index h = 0; h < config.num_attention_heads; ++h) {
            const Eigen::Index shared = h / shared_by * d;
            for (Eigen::Index first = 0; first < length; first += tile) {
                const Eigen::Index count = std::min(tile, length - first);
                const Eigen::Index oldest = std::max<Eigen::Index>(0, first - config.sliding_window + 1), seen = first + count - oldest;
                const auto k = trace.keys.block(begin + oldest, shared, seen, d);
                const auto v = trace.values.block(begin + oldest, shared, seen, d);
                const auto q = trace.queries.block(begin + first, h * d, count, d);
                const auto g = gradient.block(begin + first, h * d, count, d);
                shares.noalias() = scale * q * k.transpose();
                changes.noalias() = g * v.transpose();
                for (Eigen::Index i = 0; i < count; ++i) {
                    const Eigen::Index low = std::max<Eigen::Index>(0, first + i - config.sliding_window + 1) - oldest;
                    const Eigen::Index high = first + i + 1 - oldest;
                    softmax(shares.row(i).segment(low, high - low));
                    shares.row(i).head(low).setZero();
                    shares.row(i).tail(seen - high).setZero();
                    const float mean = shares.row(i).dot(changes.row(i));
                    changes.row(i).array() = shares.row(i).array() * (changes.row(i).array() - mean) * scale;
                }
                out.values.block(begin + oldest, shared, seen, d).noalias() += shares.transpose() * g;
                out.queries.block(begin + first, h * d, count, d).noalias() = changes * k;
                out.keys.block(begin + oldest, shared, seen, d).noalias() += changes.transpose() * q;
            }
        }
        for (Eigen::Index p = 0; p < length; ++p) {
            rope.rotate_gradient(out.queries.row(begin + p), p);
            rope.rotate_gradient(out.keys.row(begin + p), p);
        }
        begin += length;
    }
    return out;
}

}  // namespace

void softmax(Eigen::Ref<row_f> logits) {
    logits.array() = (logits.array() - logits.maxCoeff()).exp();
    logits /= logits.sum();
}

block_trace trace_block(const llama_config& config, const llama_block& block, const rope_table& rope, std::span<const sequence> sequences,
                        matrix_f& hidden) {
    block_trace trace;
    trace.hidden = hidden;
    const auto attend = [&](matrix_f& queries, matrix_f& keys, const matrix_f& values) {
        matrix_f out = causal_attention(config, rope, sequences, queries, keys, values);
        trace.queries = queries;
        trace.keys = keys;
        trace.values = values;
        return out;
    };
    forward_block(block, config.rms_norm_eps, hidden, attend, [&](site where, const matrix_f& inputs) {
        trace.inputs[static_cast<std::size_t>(where)] = inputs;
        if (where == site::mlp_input) trace.attended = hidden;
    });
    const matrix_f& x = trace.inputs[static_cast<std::size_t>(site::mlp_input)];
    trace.gate = apply(block, linear::gate_proj, x);
    trace.up = apply(block, linear::up_proj, x);
    return trace;
}

block_gradients backward_block(const llama_config& config, const llama_block& block, const rope_table& rope,
                               std::span<const sequence> sequences, const block_trace& trace, matrix_f& gradient) {
    block_gradients found;
    found.input_norm = row_f::Zero(block.input_norm.size());
    found.post_attention_norm = row_f::Zero(block.post_attention_norm.size());

    found[linear::down_proj] = gradient;
    const matrix_f of_hidden = gradient * block[linear::down_proj];
    const auto gate = trace.gate.array();
    const auto open = (1.0f / (1.0f + (-gate).exp())).eval();  // silu(g) = g / (1 + exp(-g)), silu'(g) = open (1 + g (1 - open))
    found[linear::up_proj] = of_hidden.array() * gate * open;
    found[linear::gate_proj] = of_hidden.array() * trace.up.array() * open * (1.0f + gate * (1.0f - open));
    const matrix_f of_mlp = found[linear::gate_proj] * block[linear::gate_proj] + found[linear::up_proj] * block[linear::up_proj];
    gradient += backward_norm(trace.attended, block.post_attention_norm, config.rms_norm_eps, of_mlp, found.post_attention_norm);

    found[linear::o_proj] = gradient;
    const matrix_f of_attention = gradient * block[linear::o_proj];
    attention_gradients heads = backward_attention(config, rope, sequences, trace, of_attention);
    const matrix_f of_input =
        heads.queries * block[linear::q_proj] + heads.keys * block[linear::k_proj] + heads.values * block[linear::v_proj];
    found[linear::q_proj] = std::move(heads.queries);
    found[linear::k_proj] = std::move(heads.keys);
    found[linear::v_proj] = std::move(heads.values);
    gradient += backward_norm(trace.hidden, block.input_norm, config.rms_norm_eps, of_input, found.input_norm);
    return found;
}

matrix_f backward_head(const matrix_f& head, const row_f& norm, double eps, const matrix_f& hidden, const loss_function& loss,
                       row_f* norm_gradient) {
    constexpr Eigen::Index tile = 128;  // tokens whose logits are in memory at once
    const matrix_f normed = rms_norm(hidden, norm, eps);
    matrix_f of_normed(hidden.rows(), hidden.cols()), logits;
    for (Eigen::Index first = 0; first < hidden.rows(); first += tile) {
        const Eigen::Index count = std::min(tile, hidden.rows() - first);
        logits.noalias() = normed.middleRows(first, count) * head.transpose();
        loss(first, logits);
        of_normed.middleRows(first, count).noalias() = logits * head;
    }
    row_f of_weights = row_f::Zero(norm.size());
    matrix_f gradient = backward_norm(hidden, norm, eps, of_normed, of_weights);
    if (norm_gradient != nullptr) *norm_gradient += of_weights;
    return gradient;
}

}  // namespace examples
