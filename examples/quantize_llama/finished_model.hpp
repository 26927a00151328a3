// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <functional>
#include <magr/grid/quantized_matrix.hpp>

#include "quantize_llama/model.hpp"

namespace examples {

/// A model whose linear layers are quantized, as a writer of an engine's files reads it, with one block or layer in memory at a time.
struct finished_model {
    const model_folder& original;                                                         ///< embedding, last norm, head, companions
    std::function<llama_block(std::int64_t block)> block;                                 ///< dequantized weights, norms, biases
    std::function<magr::quantized_matrix<float>(std::int64_t block, linear kind)> layer;  ///< codes and grids
};

}  // namespace examples
