// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <magr/layer/options.hpp>
#include <magr/pack/format.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

/// Every reason why `quantize_layer` with these options would refuse a matrix of this shape, or why its result could not be packed in the
/// format; empty if there is none.
///
/// Call this for every layer of a model before starting hours of work. It cannot detect problems that depend on the weights: `pack_gptq`
/// refuses a zero point of 0 in version v1.
///
/// @par Cost      O(1)
[[nodiscard]] MAGR_CORE std::vector<std::string> problems(matrix_shape shape, const layer_options& options,
                                                          std::optional<packed_format> format = std::nullopt);

/// Throws if there are problems.
/// @par Errors    option_error, with all of them
MAGR_CORE void validate(matrix_shape shape, const layer_options& options, std::optional<packed_format> format = std::nullopt);

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/layer/validation_impl.hpp>
#endif
