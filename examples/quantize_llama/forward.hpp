// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <span>

#include "quantize_llama/attention.hpp"
#include "quantize_llama/model.hpp"
#include "quantize_llama/tokens.hpp"

/// The forward pass, block by block, so that calibration can stop between blocks. Activations are tokens x channels.
namespace examples {

/// What a block does with queries, keys (both before rotation, and its to overwrite) and values.
using attention_function = std::function<matrix_f(matrix_f& queries, matrix_f& keys, const matrix_f& values)>;

/// Sees the input of the linear layers at each site of a block.
using input_observer = std::function<void(site, const matrix_f& inputs)>;
inline void ignore_inputs(site, const matrix_f&) {}

/// The rows of the embedding that belong to the tokens of all sequences, one sequence after the other.
[[nodiscard]] matrix_f embed(const matrix_f& embedding, std::span<const sequence> sequences);

/// RMSNorm of every row: x / sqrt(mean(x^2) + eps) * weight. A row whose squares leave float32 becomes NaN, so that it is not taken for one
/// that is zero.
[[nodiscard]] matrix_f rms_norm(const matrix_f& x, const row_f& weight, double eps);

/// What a linear layer puts out: x W^T + bias.
[[nodiscard]] matrix_f apply(const llama_block& block, linear kind, const matrix_f& x);

/// The input of the linear layers at a site, from that of the site before it; `hidden` goes along with it.
/// @param before  what this function gave for the site before; of no use for the first
[[nodiscard]] matrix_f site_input(const llama_block& block, double eps, site where, matrix_f& hidden, const matrix_f& before,
                                  const attention_function& attend);

/// What remains of a block after its last site.
void finish_block(const llama_block& block, matrix_f& hidden, const matrix_f& mlp_hidden);

/// One block in place: hidden += o(attend(q, k, v)) of the normed input, then hidden += down(silu(gate) * up) of the normed result.
void forward_block(const llama_block& block, double eps, matrix_f& hidden, const attention_function& attend,
                   const input_observer& observe = ignore_inputs);

/// `forward_block` for whole sequences.
void forward_block(const llama_config& config, const llama_block& block, const rope_table& rope, std::span<const sequence> sequences,
                   matrix_f& hidden, const input_observer& observe = ignore_inputs);

/// Everything but the head: the normed output of the last block.
[[nodiscard]] matrix_f forward(const llama_model& model, const rope_table& rope, std::span<const sequence> sequences);

}  // namespace examples
