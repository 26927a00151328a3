// SPDX-License-Identifier: MIT
#pragma once

#include "quantize_llama/output_format.hpp"

/// Rows of the table of formats: folders with packed weights for programs that load a model by its config.json.
namespace examples {

[[nodiscard]] output_format gptq_format();                ///< version 1, whose zero points are stored less one: without zero points
[[nodiscard]] output_format gptq_v2_format();             ///< version 2, with any zero points
[[nodiscard]] output_format compressed_tensors_format();  ///< "pack-quantized"
[[nodiscard]] output_format awq_format();                 ///< version "gemm"
[[nodiscard]] output_format mlx_format();                 ///< affine

}  // namespace examples
