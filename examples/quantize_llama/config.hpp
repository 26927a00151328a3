// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

namespace examples {

using token = std::uint32_t;

/// Architecture of a Llama model, named as in config.json.
struct llama_config {
    std::int64_t vocab_size = 0;
    std::int64_t hidden_size = 0;
    std::int64_t intermediate_size = 0;
    std::int64_t num_hidden_layers = 0;
    std::int64_t num_attention_heads = 0;
    std::int64_t num_key_value_heads = 0;  ///< default: num_attention_heads
    std::int64_t head_dim = 0;             ///< default: hidden_size / num_attention_heads
    std::int64_t max_position_embeddings = 0;
    double rms_norm_eps = 1e-6;
    double rope_theta = 10000.0;
    bool tie_word_embeddings = false;
    std::optional<token> bos_token_id;
    std::vector<token> eos_token_ids;
};

/// Reads config.json. What the forward pass does not implement (scaled RoPE, biases, other activations or architectures, quantized
/// weights) is refused rather than ignored.
/// @throws input_error  naming file, key and value
[[nodiscard]] llama_config read_config(const std::filesystem::path& file);

}  // namespace examples
