// SPDX-License-Identifier: MIT
#pragma once

#include <magr/matrix/matrix.hpp>
#include <magr/parallel/thread_pool.hpp>
#include <span>
#include <string>

#include "quantize_llama/methods.hpp"

namespace examples {

/// Follows one of the methods of the field's papers, each a call or two of the library. `how.method` is one of them, aqas aside: that is
/// optq here, because its scales change the whole block.
[[nodiscard]] quantized_layer follow_published(const std::string& name, const matrix_f& W, const layer_calibration& calibration,
                                               const output_metric& metric, const quantization& how, magr::thread_pool& pool);

/// The basis in which QuIP rounds the layers of a site. Its scales are those of all their rows together.
/// @param name  of the site, from which the seed is made
[[nodiscard]] input_basis common_basis(const std::string& name, std::span<const matrix_f* const> layers, const magr::matrix<double>& gram,
                                       magr::thread_pool& pool);

}  // namespace examples
