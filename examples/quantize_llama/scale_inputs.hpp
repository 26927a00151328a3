// SPDX-License-Identifier: MIT
#pragma once

#include <magr/parallel/thread_pool.hpp>

#include "quantize_llama/methods.hpp"
#include "quantize_llama/model.hpp"
#include "quantize_llama/text_states.hpp"

namespace examples {

/// A block that computes the same, with scales at the inputs of its linear layers that let both inputs and weights be rounded (AQAS). The
/// division of the inputs is in what comes before: in the norms, the rows of v_proj, and those of up_proj.
/// @param text  in front of the block; some of its tokens are what errors are measured on
[[nodiscard]] llama_block scale_inputs(const llama_block& block, const text_states& text, const quantization& how, magr::thread_pool& pool);

}  // namespace examples
