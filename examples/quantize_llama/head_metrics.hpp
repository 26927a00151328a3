// SPDX-License-Identifier: MIT
#pragma once

#include <magr/matrix/matrix.hpp>
#include <vector>

#include "quantize_llama/model.hpp"
#include "quantize_llama/text_states.hpp"

namespace examples {

/// What errors at the outputs of attention's queries and keys cost, head by head: the row Hessians of BoA.
struct head_metrics {
    std::vector<magr::matrix<double>> queries;  ///< for each key head, that of the query heads that read it
    std::vector<magr::matrix<double>> keys;     ///< for each key head
};

/// @param text  in front of the block
[[nodiscard]] head_metrics collect_head_metrics(const llama_block& block, const text_states& text, magr::thread_pool& pool);

}  // namespace examples
