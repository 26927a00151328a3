// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <magr/calibration/gram.hpp>
#include <magr/parallel/thread_pool.hpp>
#include <optional>

#include "quantize_llama/methods.hpp"

namespace examples {

/// Whether chunk c of a text is held out when a damping is chosen: every fourth one, or the last one if there are less than four. Chunks
/// consist of whole sequences. A text of a single chunk is all needed for the Gram matrix.
[[nodiscard]] constexpr bool is_held_out(std::size_t c, std::size_t chunks) {
    return chunks < 4 ? chunks > 1 && c + 1 == chunks : c % 4 == 3;
}

/// Whether the damping of a layer is chosen on held-out text: on k-quants, unless it is given. Their groups are small and their codes are
/// refined, so that they take up what only the calibration text has, and llama.cpp's own quantizer, which ignores correlations, does not.
[[nodiscard]] bool chooses_damping(const quantization& how);

/// Sums the Gram matrix of the inputs at a site over the chunks of a text.
class calibration_gram {
public:
    /// @param chooses_damping  whether to choose a damping as well, which takes a second matrix
    calibration_gram(magr::index_t inputs, bool chooses_damping);

    void add(std::size_t c, std::size_t chunks, const matrix_f& x, magr::thread_pool& pool);

    /// The Gram matrix of all chunks with their tokens, and the damping. It gives the memory of the sums back.
    void finish(layer_calibration& found, magr::thread_pool& pool);

private:
    magr::gram_accumulator<double> fitting_;
    std::optional<magr::gram_accumulator<double>> held_out_;
};

}  // namespace examples
