// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstdint>
#include <magr/parallel/thread_pool.hpp>
#include <span>
#include <vector>

#include "common/progress.hpp"
#include "quantize_llama/methods.hpp"
#include "quantize_llama/model.hpp"
#include "quantize_llama/tokens.hpp"

namespace examples {

/// For the linear layers of a block, in the order of `linear`.
using block_metrics = std::array<output_metric, all_linears.size()>;

/// The Fisher matrix of every linear layer's output: the sum over tokens of g g^T, where g is the gradient of the model's loss with respect
/// to the output. The label of a token is drawn from the model's own prediction, so no text's labels enter. One forward and one backward
/// pass in full precision. In memory are the hidden states of part of the text in front of every block, and all matrices.
/// @param pool  does not influence the result
[[nodiscard]] std::vector<block_metrics> output_metrics(const model_folder& model, std::span<const sequence> text, std::uint32_t seed,
                                                        magr::thread_pool& pool, progress& progress);

}  // namespace examples
