// SPDX-License-Identifier: MIT
#include "quantize_llama/forward.hpp"

#include <cmath>

namespace examples {

matrix_f embed(const llama_model& model, std::span<const sequence> sequences) {
    matrix_f hidden(count_tokens(sequences), model.config.hidden_size);
    Eigen::Index row = 0;
    for (const sequence& s : sequences)
        for (const token id : s) hidden.row(row++) = model.embedding.row(id);
    return hidden;
}

matrix_f rms_norm(const matrix_f& x, const row_f& weight, double eps) {
    matrix_f out(x.rows(), x.cols());
    for (Eigen::Index i = 0; i < x.rows(); ++i) {
        const float mean_square = x.row(i).squaredNorm() / static_cast<float>(x.cols());
        out.row(i).array() = x.row(i).array() * (1.0f / std::sqrt(mean_square + static_cast<float>(eps))) * weight.array();
    }
    return out;
}

void forward_block(const llama_block& block, double eps, matrix_f& hidden, const attention_function& attend,
                   const input_observer& observe) {
    const auto add_bias = [&block](linear kind, matrix_f& y) {
        if (block.bias(kind).size() != 0) y.rowwise() += block.bias(kind);
    };
    const auto apply = [&](linear kind, const matrix_f& x) {
        matrix_f y = x * block[kind].transpose();
        add_bias(kind, y);
        return y;
    };

    const matrix_f attention_input = rms_norm(hidden, block.input_norm, eps);
    observe(site::attention_input, attention_input);
    matrix_f queries = apply(linear::q_proj, attention_input);
    matrix_f keys = apply(linear::k_proj, attention_input);
    const matrix_f values = apply(linear::v_proj, attention_input);
    const matrix_f attention_output = attend(queries, keys, values);
    observe(site::attention_output, attention_output);
    hidden.noalias() += attention_output * block[linear::o_proj].transpose();
    add_bias(linear::o_proj, hidden);

    const matrix_f mlp_input = rms_norm(hidden, block.post_attention_norm, eps);
    observe(site::mlp_input, mlp_input);
    const matrix_f gate = apply(linear::gate_proj, mlp_input);
    matrix_f mlp_hidden = apply(linear::up_proj, mlp_input);
    mlp_hidden.array() *= gate.array() / (1.0f + (-gate.array()).exp());
    observe(site::mlp_hidden, mlp_hidden);
    hidden.noalias() += mlp_hidden * block[linear::down_proj].transpose();
    add_bias(linear::down_proj, hidden);
}

void forward_block(const llama_config& config, const llama_block& block, const rope_table& rope, std::span<const sequence> sequences,
                   matrix_f& hidden, const input_observer& observe) {
    const auto attend = [&](matrix_f& queries, matrix_f& keys, const matrix_f& values) {
        return causal_attention(config, rope, sequences, queries, keys, values);
    };
    forward_block(block, config.rms_norm_eps, hidden, attend, observe);
}

matrix_f forward(const llama_model& model, const rope_table& rope, std::span<const sequence> sequences) {
    matrix_f hidden = embed(model, sequences);
    for (const llama_block& block : model.blocks) forward_block(model.config, block, rope, sequences, hidden);
    return rms_norm(hidden, model.final_norm, model.config.rms_norm_eps);
}

}  // namespace examples
