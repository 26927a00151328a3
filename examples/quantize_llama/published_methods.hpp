// SPDX-License-Identifier: MIT
#pragma once

#include <magr/parallel/thread_pool.hpp>
#include <string>

#include "quantize_llama/methods.hpp"

namespace examples {

/// Follows one of the methods of the field's papers, each a call or two of the library. `how.method` is one of them, aqas aside: that is
/// optq here, because its scales change the whole block.
[[nodiscard]] quantized_layer follow_published(const std::string& name, const matrix_f& W, const layer_calibration& calibration,
                                               const output_metric& metric, const quantization& how, magr::thread_pool& pool);

}  // namespace examples
