// SPDX-License-Identifier: MIT
#pragma once

#include <magr/matrix/matrix_view.hpp>

namespace magr {

/// Rows and columns of a weight matrix.
struct matrix_shape {
    index_t rows;
    index_t cols;
};

}  // namespace magr
