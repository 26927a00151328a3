// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <array>
#include <filesystem>
#include <vector>

#include "quantize_llama/config.hpp"

namespace examples {

/// Row-major float: weights are out x in, activations tokens x channels.
using matrix_f = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using row_f = Eigen::Matrix<float, 1, Eigen::Dynamic>;

/// The seven linear layers of a block, which are what gets quantized.
enum class linear { q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj };
inline constexpr std::array all_linears{linear::q_proj,    linear::k_proj,  linear::v_proj,   linear::o_proj,
                                        linear::gate_proj, linear::up_proj, linear::down_proj};

/// The four places in a block where linear layers read their input; layers with the same input share one Gram matrix.
enum class site { attention_input, attention_output, mlp_input, mlp_hidden };
inline constexpr std::size_t site_count = 4;

[[nodiscard]] constexpr site input_of(linear kind) {
    switch (kind) {
        case linear::q_proj:
        case linear::k_proj:
        case linear::v_proj:
            return site::attention_input;
        case linear::o_proj:
            return site::attention_output;
        case linear::gate_proj:
        case linear::up_proj:
            return site::mlp_input;
        case linear::down_proj:
            break;
    }
    return site::mlp_hidden;
}

/// "self_attn.q_proj", ...: the layer's name in a Hugging Face file, below "model.layers.N."
[[nodiscard]] const char* name_of(linear kind);

/// One transformer block.
struct llama_block {
    row_f input_norm;
    row_f post_attention_norm;
    std::array<matrix_f, all_linears.size()> weights;
    std::array<row_f, all_linears.size()> biases;  ///< empty where a layer has none

    [[nodiscard]] const row_f& bias(linear kind) const { return biases[static_cast<std::size_t>(kind)]; }
    [[nodiscard]] row_f& bias(linear kind) { return biases[static_cast<std::size_t>(kind)]; }
    [[nodiscard]] const matrix_f& operator[](linear kind) const { return weights[static_cast<std::size_t>(kind)]; }
    [[nodiscard]] matrix_f& operator[](linear kind) { return weights[static_cast<std::size_t>(kind)]; }
};

/// A Llama model in float32.
struct llama_model {
    llama_config config;
    matrix_f embedding;  ///< vocab x hidden
    std::vector<llama_block> blocks;
    row_f final_norm;
    matrix_f own_head;  ///< vocab x hidden; empty when the head is the embedding

    [[nodiscard]] const matrix_f& head() const { return own_head.size() == 0 ? embedding : own_head; }
};

/// Rows and columns that the configuration gives a linear layer.
struct linear_shape {
    std::int64_t rows, cols;
};
[[nodiscard]] linear_shape shape_of(const llama_config& config, linear kind);
[[nodiscard]] bool has_bias(const llama_config& config, linear kind);

/// Reads a Hugging Face folder: config.json and the safetensors file or files.
/// @throws input_error  one line that names the file and what is wrong with it: a missing, unexpected or misshapen tensor, a value that
///                      is not finite, an unsupported architecture
[[nodiscard]] llama_model load_model(const std::filesystem::path& folder);

}  // namespace examples
