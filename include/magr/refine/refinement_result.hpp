// SPDX-License-Identifier: MIT
#pragma once

#include <magr/matrix/matrix_view.hpp>

namespace magr {

/// What a refinement of a quantized matrix did. Losses are tr((Q - W) (H + damping mean(diag H) I) (Q - W)^T) / 2, where both the trace and
/// the mean cover live columns only.
struct refinement_result {
    index_t passes = 0;      ///< passes over the columns, of the slowest rows
    index_t changes = 0;     ///< codes, or scales and zero points, that changed; each change counts
    double loss_before = 0;  ///< unit of H times that of W squared
    double loss_after = 0;   ///< at most loss_before
};

}  // namespace magr
