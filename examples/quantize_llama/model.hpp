// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "quantize_llama/config.hpp"
#include "quantize_llama/safetensors.hpp"

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
inline constexpr std::array all_sites{site::attention_input, site::attention_output, site::mlp_input, site::mlp_hidden};

[[nodiscard]] constexpr site input_of(linear kind) {
    switch (kind) {
        case linear::q_proj:
        case linear::k_proj:
        case linear::v_proj: return site::attention_input;
        case linear::o_proj: return site::attention_output;
        case linear::gate_proj:
        case linear::up_proj: return site::mlp_input;
        case linear::down_proj: break;
    }
    return site::mlp_hidden;
}

/// "self_attn.q_proj", ...: the layer's name in a Hugging Face file, below "model.layers.N."
[[nodiscard]] const char* name_of(linear kind);

/// "layers.0.self_attn.q_proj", ...: how messages and reports call a layer.
[[nodiscard]] std::string layer_name(std::int64_t layer, linear kind);

/// "the input of layers.0.self_attn.q_proj", ...: how messages call what layers read at a site.
[[nodiscard]] std::string input_name(std::int64_t layer, site where);

/// One transformer block.
struct llama_block {
    row_f input_norm;
    row_f post_attention_norm;
    std::array<matrix_f, all_linears.size()> weights;
    std::array<row_f, all_linears.size()> biases;  ///< empty where a layer has none
    std::optional<int> activation_bits;  ///< to which the inputs of linear layers are rounded, token by token; default: not at all

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

/// A Hugging Face folder, config.json and the safetensors file or files, whose weights are read as float32 when they are needed: nothing of
/// the model stays in memory.
class model_folder {
public:
    /// Refuses a folder that is not a Llama model: a missing, unexpected or misshapen tensor, an unsupported architecture. A value that is
    /// not finite is refused when its tensor is read.
    /// @throws input_error  one line that names the file and what is wrong with it, here and below
    model_folder(const std::filesystem::path& folder);

    [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
    [[nodiscard]] const llama_config& config() const noexcept { return config_; }
    [[nodiscard]] const model_tensors& tensors() const noexcept { return tensors_; }

    /// All files that the model is read from.
    [[nodiscard]] std::vector<std::filesystem::path> files() const;

    [[nodiscard]] matrix_f embedding() const { return vocabulary_matrix(embedding_); }
    [[nodiscard]] matrix_f head() const { return vocabulary_matrix(head_); }
    [[nodiscard]] row_f final_norm() const;
    [[nodiscard]] llama_block block(std::int64_t layer) const;

private:
    [[nodiscard]] matrix_f vocabulary_matrix(const std::string& name) const;

    std::filesystem::path path_;
    llama_config config_;
    model_tensors tensors_;
    std::string embedding_, head_;  ///< names of tensors; the same if there is one matrix for both
};

/// The names of a block's tensors begin with this.
[[nodiscard]] std::string block_prefix(std::int64_t layer);

/// Block `layer` of a model of this configuration, out of these tensors.
[[nodiscard]] llama_block read_block(const model_tensors& tensors, const llama_config& config, std::int64_t layer);

/// All of a model.
[[nodiscard]] llama_model load_model(const model_folder& folder);

/// Bytes of a whole model in float32.
[[nodiscard]] std::int64_t size_in_memory(const llama_config& config);

}  // namespace examples
