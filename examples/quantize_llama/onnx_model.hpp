// SPDX-License-Identifier: MIT
#pragma once

#include <filesystem>
#include <magr/grid/quantized_matrix.hpp>
#include <span>

#include "quantize_llama/finished_model.hpp"

namespace examples {

/// Writes an ONNX model of one node, com.microsoft::MatMulNBits: Y = A Q^T + bias, with A tokens x in and Y tokens x out in float32, for
/// any number of tokens. The file appears complete or not at all.
/// @param bias  one number per output; empty for none
/// @throws input_error  if the operator cannot hold the codes or the grids, or the file cannot be written
void write_onnx_layer(const std::filesystem::path& file, const magr::quantized_matrix<float>& q, std::span<const float> bias);

/// Writes such a model for each linear layer into `folder`, which is made if it does not exist: model.layers.0.self_attn.q_proj.onnx and so
/// on. The operator rounds no inputs: activations stay float32. Every layer is read twice, so that nothing is written if one is refused.
/// @throws input_error  naming the layer that the operator cannot hold, and why; if a file cannot be written
void write_onnx_model(const finished_model& model, const std::filesystem::path& folder);

}  // namespace examples
