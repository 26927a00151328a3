// SPDX-License-Identifier: MIT
#pragma once

#include <magr/parallel/thread_pool.hpp>
#include <string>

#include "quantize_llama/methods.hpp"

namespace examples {

/// Quantizes a layer on the grids of a k-quant, `how.ggml`, whose scales are products of shared ones. They are fitted to the weights that
/// are rounded, with the diagonal of the Gram matrix as importance; then codes are chosen on them. The damping, unless it is given, is the
/// one chosen on held-out text. Methods that refine, `automatic` among
/// them, refine the shared scales and the codes. `automatic` makes up for the drift, but rounds each row by itself.
/// @throws magr::option_error  if the method has grids of its own
[[nodiscard]] quantized_layer on_k_quant_grids(const std::string& name, const matrix_f& W, const layer_calibration& calibration,
                                               const quantization& asked, magr::thread_pool& pool);

}  // namespace examples
