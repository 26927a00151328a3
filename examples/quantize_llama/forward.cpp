// SPDX-License-Identifier: MIT
#include "quantize_llama/forward.hpp"

#include <cmath>
#include <limits>
#include <magr/calibration/activation_quantizer.hpp>
#include <magr/matrix/eigen.hpp>

namespace examples {

matrix_f embed(const matrix_f& embedding, std::span<const sequence> sequences) {
    matrix_f hidden(count_tokens(sequences), embedding.cols());
    Eigen::Index row = 0;
    for (const sequence& s : sequences)
        for (const token id : s) hidden.row(row++) = embedding.row(id);
    return hidden;
}

matrix_f rms_norm(const matrix_f& x, const row_f& weight, double eps) {
    matrix_f out(x.rows(), x.cols());
    for (Eigen::Index i = 0; i < x.rows(); ++i) {
        const float mean_square = x.row(i).squaredNorm() / static_cast<float>(x.cols());
        if (!std::isfinite(mean_square)) {
            out.row(i).setConstant(std::numeric_limits<float>::quiet_NaN());
            continue;
        }
        out.row(i).array() = x.row(i).array() * (1.0f / std::sqrt(mean_square + static_cast<float>(eps))) * weight.array();
    }
    return out;
}

matrix_f apply(const llama_block& block, linear kind, const matrix_f& x) {
    matrix_f y = x * block[kind].transpose();
    if (block.bias(kind).size() != 0) y.rowwise() += block.bias(kind);
    return y;
}

namespace {

/// hidden += x W^T + bias
void add_output(const llama_block& block, linear kind, const matrix_f& x, matrix_f& hidden) {
    hidden.noalias() += x * block[kind].transpose();
    if (block.bias(kind).size() != 0) hidden.rowwise() += block.bias(kind);
}

matrix_f exact_site_input(const llama_block& block, double eps, site where, matrix_f& hidden, const matrix_f& before,
                          const attention_function& attend) {
    switch (where) {
        case site::attention_input: return rms_norm(hidden, block.input_norm, eps);
        case site::attention_output: {
            matrix_f queries = apply(block, linear::q_proj, before);
            matrix_f keys = apply(block, linear::k_proj, before);
            return attend(queries, keys, apply(block, linear::v_proj, before));
        }
        case site::mlp_input: add_output(block, linear::o_proj, before, hidden); return rms_norm(hidden, block.post_attention_norm, eps);
        case site::mlp_hidden: break;
    }
    const matrix_f gate = apply(block, linear::gate_proj, before);
    matrix_f mlp_hidden = apply(block, linear::up_proj, before);
    mlp_hidden.array() *= gate.array() / (1.0f + (-gate.array()).exp());
    return mlp_hidden;
}

}  // namespace

matrix_f site_input(const llama_block& block, double eps, site where, matrix_f& hidden, const matrix_f& before,
                    const attention_function& attend) {
    matrix_f inputs = exact_site_input(block, eps, where, hidden, before, attend);
    if (block.activation_bits && inputs.allFinite()) magr::round_activations(inputs, {.bits = *block.activation_bits});
    return inputs;
}

void finish_block(const llama_block& block, matrix_f& hidden, const matrix_f& mlp_hidden) {
    add_output(block, linear::down_proj, mlp_hidden, hidden);
}

void forward_block(const llama_block& block, double eps, matrix_f& hidden, const attention_function& attend,
                   const input_observer& observe) {
    matrix_f inputs;
    for (const site where : all_sites) {
        inputs = site_input(block, eps, where, hidden, inputs, attend);
        observe(where, inputs);
    }
    finish_block(block, hidden, inputs);
}

void forward_block(const llama_config& config, const llama_block& block, const rope_table& rope, std::span<const sequence> sequences,
                   matrix_f& hidden, const input_observer& observe) {
    const auto attend = [&](matrix_f& queries, matrix_f& keys, const matrix_f& values) {
        return causal_attention(config, rope, sequences, queries, keys, values);
    };
    forward_block(block, config.rms_norm_eps, hidden, attend, observe);
}

matrix_f forward(const llama_model& model, const rope_table& rope, std::span<const sequence> sequences) {
    matrix_f hidden = embed(model.embedding, sequences);
    for (const llama_block& block : model.blocks) forward_block(model.config, block, rope, sequences, hidden);
    return rms_norm(hidden, model.final_norm, model.config.rms_norm_eps);
}

}  // namespace examples
