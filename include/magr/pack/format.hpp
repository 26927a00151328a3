// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <magr/grid/grid.hpp>
#include <magr/matrix/matrix_shape.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/pack/packed_format.hpp>

namespace magr {

inline namespace MAGR_ISA_NAMESPACE {

/// Every reason why a matrix of this shape that is quantized with these options cannot be packed in this format; empty if there is none.
///
/// Call this before starting hours of work. It cannot know what depends on the weights: `gptq_v1` cannot hold a zero point 0 (without zero
/// points it is never 0), `mlx` holds an integer zero point only where -scale * zero is exact in the storage type, and the types of GGUF
/// hold only the two middle codes as zero points. Types with scales of two levels (`gguf_q2_k` and below) need the grids of
/// `fit_k_quant_grids`.
///
/// @pre           validate(options) passes
/// @par Cost      O(1)
[[nodiscard]] MAGR_CORE std::vector<std::string> problems(matrix_shape shape, const grid_options& options, packed_format format);

/// Options whose grids fit a format: 4 bits where there is a choice, and a zero point if the format can hold every one that is found.
/// @param group_size  columns per grid; without a value, the usual number of the format
/// @par Errors        none; `problems` says whether the group size suits format and matrix
[[nodiscard]] MAGR_CORE grid_options grid_options_for(packed_format format, std::optional<index_t> group_size = {});

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/pack/format_impl.hpp>
#endif
