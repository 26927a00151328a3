// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <magr/parallel/thread_pool.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/progress.hpp"
#include "quantize_llama/methods.hpp"
#include "quantize_llama/model.hpp"
#include "quantize_llama/output_metrics.hpp"
#include "quantize_llama/text_states.hpp"
#include "quantize_llama/tokens.hpp"

namespace examples {

class output_folder;

/// A block after quantization.
struct quantized_block {
    llama_block block;                                       ///< its weights are float32 values of the grid
    std::array<quantized_layer, all_linears.size()> layers;  ///< in the order of `linear`
};

/// What quantizing a model has shown.
struct quantization_record {
    std::vector<layer_record> layers;
    std::string remark;            ///< what was not as usual with the model as a whole
    double seconds = 0;            ///< of calibration, quantization and writing
    double processor_seconds = 0;  ///< the same, of all threads together

    [[nodiscard]] double mean_output_error() const;
    [[nodiscard]] double bits_per_weight() const;  ///< of all layers together
};

/// Sees every finished block, in order.
using block_observer = std::function<void(const llama_block&)>;

/// How many passes over the calibration text a run's progress counts.
[[nodiscard]] double calibration_passes(method m, int effort);

/// Quantizes the linear layers of a model block by block, with one block in memory at a time.
///
/// Each block sees what the already quantized blocks before it put out for the calibration text: its own weights are first left as they
/// are to collect the Gram matrices of its linear layers' inputs, then quantized, and then the block is computed again for the next one.
/// Methods that know the drift go layer by layer instead: each sees what the quantized layers before it in the block put out, and how far
/// that is from what the text is on its way through the original model. Embedding, norms and head keep full precision.
///
/// @param out      if not null, where each block is written; blocks that an earlier run has left there are taken as they are
/// @param metrics  of the outputs, for all runs with this model and calibration text: empty until a method needs them
[[nodiscard]] quantization_record quantize_model(const model_folder& model, std::span<const sequence> calibration, const quantization& how,
                                                 magr::thread_pool& pool, progress& progress, const block_observer& finished,
                                                 output_folder* out = nullptr, std::vector<block_metrics>* metrics = nullptr);

}  // namespace examples
