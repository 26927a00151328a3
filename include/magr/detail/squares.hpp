// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>

#include <magr/matrix/matrix_view.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Calls `visit(i, j)` for every entry of a rows x cols matrix, in squares: a matrix is transposed without walking across the memory order
/// of either side over long distances. i is the index that changes first.
template <class Visit>
void visit_in_squares(index_t rows, index_t cols, const Visit& visit) {
    constexpr index_t side = 32;
    for (index_t i0 = 0; i0 < rows; i0 += side)
        for (index_t j0 = 0; j0 < cols; j0 += side)
            for (index_t j = j0; j < (std::min)(j0 + side, cols); ++j)
                for (index_t i = i0; i < (std::min)(i0 + side, rows); ++i) visit(i, j);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
