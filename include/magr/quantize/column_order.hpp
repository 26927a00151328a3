// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <vector>

#include <magr/matrix/matrix_view.hpp>

namespace magr {

/// In which order the columns of W are quantized.
enum class column_order {
    natural,   ///< first to last
    act_order  ///< by decreasing diag(H): inputs of large activations first, while many columns are left to make up for their errors
};

inline namespace MAGR_ISA_NAMESPACE {

/// The columns in the order in which they are quantized.
///
/// @par Shapes    H: n x n
/// @return        n original column indices; equal diagonal entries keep their order
/// @par Cost      O(n log n)
template <class T>
[[nodiscard]] std::vector<index_t> order_columns(matrix_view<T> H, column_order order) {
    std::vector<index_t> columns(static_cast<std::size_t>(H.cols()));
    std::iota(columns.begin(), columns.end(), index_t{0});
    if (order == column_order::act_order)
        std::sort(columns.begin(), columns.end(), [&](index_t a, index_t b) { return H(a, a) != H(b, b) ? H(a, a) > H(b, b) : a < b; });
    return columns;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
