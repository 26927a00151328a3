// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <magr/grid/quantized_matrix.hpp>

#include "quantize_llama/methods.hpp"
#include "quantize_llama/safetensors.hpp"

/// The file of the codes and grids of a block, from which a run goes on and every format is written.
///
///   NAME.qweight        U8, rows x inputs: codes
///   NAME.scales         F32, rows x groups
///   NAME.zeros          F32, rows x groups
///   NAME.group_index    I32, inputs: the group of each
///   NAME.shared_scales, NAME.scale_codes, NAME.shared_offsets, NAME.offset_codes
///                       F32, I8, F32, U8: the factors of scales and offsets, if these are products (`magr::shared_scales`)
///
/// Its metadata has, as JSON, what is not in tensors (`weight_grids`): for each layer its bits, how a weight comes from a code, and so on.
namespace examples {

/// Writes the layers of a block; all must have codes.
file_digest write_codes(const std::filesystem::path& file, std::int64_t block,
                        const std::array<quantized_layer, all_linears.size()>& layers);

/// A layer of a block, bit for bit.
/// @throws input_error  if the file does not hold it
[[nodiscard]] magr::quantized_matrix<float> read_codes(const safetensors_file& file, std::int64_t block, linear kind);

}  // namespace examples
