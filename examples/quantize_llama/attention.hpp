// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "quantize_llama/model.hpp"
#include "quantize_llama/tokens.hpp"

/// Rotary position embedding and grouped-query attention, over whole sequences and token by token.
namespace examples {

/// By how much the pairs of a head's entries turn per position: rope_theta^(-2 i / head_dim), scaled as the configuration says.
[[nodiscard]] std::vector<double> rope_frequencies(const llama_config& config);

/// cos and sin of position * frequency, times the scaling's attention factor.
class rope_table {
public:
    rope_table(const llama_config& config, std::int64_t positions);

    /// positions x head_dim / 2
    [[nodiscard]] const matrix_f& cosines() const noexcept { return cos_; }
    [[nodiscard]] const matrix_f& sines() const noexcept { return sin_; }

    /// Rotates every head of one token's queries or keys: entry i of a head with entry i + head_dim / 2.
    void rotate(Eigen::Ref<row_f> heads, std::int64_t position) const;

    /// Turns the gradient of rotated heads into that of the heads before rotation: the transpose of `rotate`.
    void rotate_gradient(Eigen::Ref<row_f> heads, std::int64_t position) const;

private:
    /// @param direction  1, or -1 for the other way round
    void turn(Eigen::Ref<row_f> heads, std::int64_t position, float direction) const;

    matrix_f cos_, sin_;
};

/// A table for the longest of these sequences.
[[nodiscard]] rope_table make_rope_table(const llama_config& config, std::span<const sequence> sequences);

/// Causal attention, within the configuration's window, in each of several sequences, whose tokens are the rows of the matrices one
/// sequence after the other.
/// @param queries, keys  before rotation; they are rotated in place
/// @return               tokens x (heads * head_dim)
[[nodiscard]] matrix_f causal_attention(const llama_config& config, const rope_table& rope, std::span<const sequence> sequences,
                                        matrix_f& queries, matrix_f& keys, const matrix_f& values);

/// Keys and values of the tokens that some sequences consist of so far, in one block of the model.
class kv_cache {
public:
    kv_cache(const llama_config& config, std::int64_t sequences, std::int64_t longest);

    /// Appends one token to each sequence and returns what it attends to; row s of the matrices belongs to sequence s.
    /// @param positions  how many tokens each sequence has before this one; 0 begins a new sequence
    [[nodiscard]] matrix_f attend(const rope_table& rope, std::span<const std::int64_t> positions, matrix_f& queries, matrix_f& keys,
                                  const matrix_f& values);

private:
    std::int64_t heads_, kv_heads_, head_dim_, window_;
    std::vector<matrix_f> keys_;  ///< per sequence: longest x (kv heads * head_dim), rotated
    std::vector<matrix_f> values_;
};

}  // namespace examples
