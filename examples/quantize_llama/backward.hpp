// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <functional>
#include <span>

#include "quantize_llama/attention.hpp"
#include "quantize_llama/model.hpp"
#include "quantize_llama/tokens.hpp"

/// The backward pass, block by block: how a loss changes with what the linear layers put out. Activations and their gradients are tokens x
/// channels.
namespace examples {

/// What the forward pass of a block leaves for the backward pass.
struct block_trace {
    matrix_f hidden;                          ///< in front of the block
    matrix_f attended;                        ///< after attention, in front of the MLP's norm
    std::array<matrix_f, site_count> inputs;  ///< of the linear layers at each site
    matrix_f queries, keys;                   ///< rotated
    matrix_f values;
    matrix_f gate, up;
};

/// Computes a block in place, like `forward_block`, and keeps what its backward pass needs.
[[nodiscard]] block_trace trace_block(const llama_config& config, const llama_block& block, const rope_table& rope,
                                      std::span<const sequence> sequences, matrix_f& hidden);

/// The gradients of a block: of what its linear layers put out, and of the weights of its norms.
struct block_gradients {
    std::array<matrix_f, all_linears.size()> outputs;  ///< in the order of `linear`
    row_f input_norm, post_attention_norm;

    [[nodiscard]] const matrix_f& operator[](linear kind) const { return outputs[static_cast<std::size_t>(kind)]; }
    [[nodiscard]] matrix_f& operator[](linear kind) { return outputs[static_cast<std::size_t>(kind)]; }
};

/// @param gradient  in: of the hidden states after the block; out: of those in front of it
[[nodiscard]] block_gradients backward_block(const llama_config& config, const llama_block& block, const rope_table& rope,
                                             std::span<const sequence> sequences, const block_trace& trace, matrix_f& gradient);

/// Turns the logits of some tokens, the rows from `first` on, into the gradients of their losses.
using loss_function = std::function<void(Eigen::Index first, matrix_f& logits)>;

/// The gradient of the sum of all tokens' losses with respect to the hidden states after the last block.
/// @param norm_gradient  if not null, that of the final norm's weights is added to it
[[nodiscard]] matrix_f backward_head(const matrix_f& head, const row_f& norm, double eps, const matrix_f& hidden, const loss_function& loss,
                                     row_f* norm_gradient = nullptr);

/// Softmax of one token's logits, in place.
void softmax(Eigen::Ref<row_f> logits);

}  // namespace examples
