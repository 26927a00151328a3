// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <vector>

namespace examples {

using token = std::uint32_t;

/// How rotary frequencies are changed for texts longer than those of the first training. NTK scaling ("dynamic") is `none` here: it
/// leaves texts of up to max_position_embeddings tokens alone, and no others are computed.
enum class rope_scaling_kind { none, linear, llama3, yarn };

/// Pair i of a head's entries turns by f = rope_theta^(-2 i / head_dim) per token, which is f L / (2 pi) full turns over the
/// L = original_max_position_embeddings tokens of the first training.
///
/// `linear` divides every f by the factor. `llama3` and `yarn` keep the f of pairs that make at least `high_turns` turns and divide that of
/// pairs that make at most `low_turns`; in between, the share that is kept is linear in the turns (llama3) or in i (yarn).
struct rope_scaling {
    rope_scaling_kind kind = rope_scaling_kind::none;
    double factor = 1;
    double original_max_position_embeddings = 0;
    double low_turns = 1;         ///< low_freq_factor, beta_slow
    double high_turns = 32;       ///< high_freq_factor, beta_fast
    bool truncate = true;         ///< yarn: between whole numbers i
    double attention_factor = 1;  ///< yarn: of rotated queries and keys

    bool operator==(const rope_scaling&) const = default;
};

/// Architecture of a Llama model, or of one that differs from it by what is here, named as in config.json.
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
    rope_scaling scaling;
    /// A token attends to this many, itself included; by default to all before it.
    std::int64_t sliding_window = std::numeric_limits<std::int64_t>::max();
    bool qkv_bias = false;
    bool o_bias = false;
    bool mlp_bias = false;
    bool tie_word_embeddings = false;
    std::optional<token> bos_token_id;
    std::vector<token> eos_token_ids;
};

/// Reads config.json of a model of type llama, mistral or qwen2. Every key must be one that is used, one that is known to change no output,
/// or have a value that asks for nothing: null, false, empty, or neutral in an architecture that has the key, as a multiplier of 1 is. Any
/// other key is refused by name rather than ignored, as the forward pass may not implement what it means. Ids of bos and eos that are not
/// below vocab_size are ignored.
/// @throws input_error  naming file, key and value
[[nodiscard]] llama_config read_config(const std::filesystem::path& file);

}  // namespace examples
