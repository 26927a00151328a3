// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/progress.hpp"
#include "quantize_llama/methods.hpp"
#include "quantize_llama/model.hpp"
#include "quantize_llama/tokens.hpp"

namespace examples {

/// A quantized model, with its weights as float32 values of the grid.
struct quantized_llama {
    llama_model model;
    std::vector<layer_record> layers;
    double seconds = 0;

    [[nodiscard]] double mean_output_error() const;
};

/// Quantizes the linear layers of a model block by block.
///
/// Each block sees what the already quantized blocks before it put out for the calibration text: its own weights are first left as they
/// are to collect the Gram matrices of its linear layers' inputs, then quantized, and then the block is computed again for the next one.
/// Embedding, norms and head keep full precision.
///
/// @param threads  does not influence the result: the Gram matrices are summed in a fixed number of parts
[[nodiscard]] quantized_llama quantize_model(const llama_model& model, std::span<const sequence> calibration, const quantization& how,
                                             int threads, progress& progress);

}  // namespace examples
