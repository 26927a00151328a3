// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <span>
#include <vector>

#include <magr/detail/contract.hpp>
#include <magr/detail/finite.hpp>
#include <magr/detail/matrix_ref.hpp>

namespace magr {

/// The order in which the columns of W are quantized.
enum class column_order {
    natural,      ///< first to last
    act_order,    ///< by decreasing diag(H): inputs of large activations first, while many columns can still compensate for their errors
    group_aware,  ///< like act_order inside each group, and groups by their largest diag(H): groups still consist of neighbouring columns
    reversed      ///< last to first, as the code of QuIP does by default
};

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(column_order order) noexcept {
    switch (order) {
        case column_order::natural: return "natural";
        case column_order::act_order: return "act_order";
        case column_order::group_aware: return "group_aware";
        case column_order::reversed: return "reversed";
    }
    return "unknown";
}

inline namespace MAGR_ISA_NAMESPACE {

/// The columns in the order in which they are quantized.
///
/// @par Shapes    H: n x n; only its diagonal is read
/// @param group_size  columns per group, >= 1; only used by group_aware
/// @return        n original column indices; equal diagonal entries keep their order
/// @par Cost      O(n log n)
/// @par Errors    shape_error if H is empty or not square; option_error; value_error if a diagonal entry is NaN or infinite
[[nodiscard]] inline std::vector<index_t> order_columns(const detail::matrix_ref& H, column_order order, index_t group_size) {
    detail::require_not_empty("order_columns", "H", H);
    detail::require_shape("order_columns", "H", H, H.cols(), H.cols());
    detail::require_enumerator("order_columns", "order", order);
    detail::require_option(group_size >= 1, "order_columns", "group_size", "at least 1", group_size);
    for (index_t j = 0; j < H.cols(); ++j)
        if (!detail::is_finite(H(j, j)))
            detail::raise<value_error>(detail::concat("order_columns: H must be finite, entry (row ", j, ", column ", j, ") is ", H(j, j)));
    std::vector<index_t> columns(static_cast<std::size_t>(H.cols()));
    std::iota(columns.begin(), columns.end(), index_t{0});
    const auto by_energy = [&](index_t a, index_t b) { return H(a, a) != H(b, b) ? H(a, a) > H(b, b) : a < b; };
    if (order == column_order::natural) return columns;
    if (order == column_order::reversed) {
        std::reverse(columns.begin(), columns.end());
        return columns;
    }
    std::sort(columns.begin(), columns.end(), by_energy);
    if (order == column_order::act_order) return columns;

    // a group comes where its first column does
    std::vector<index_t> next(columns.size(), -1);  // for each group: where its next column goes
    std::vector<index_t> sorted(columns.size());
    index_t end = 0;
    for (const index_t j : columns) {
        const index_t group = j / group_size;
        index_t& at = next[static_cast<std::size_t>(group)];
        if (at < 0) {
            at = end;
            end += (std::min)(group_size, H.cols() - group * group_size);
        }
        sorted[static_cast<std::size_t>(at++)] = j;
    }
    return sorted;
}

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Consecutive positions in the order of processing that share their grids.
struct group_run {
    index_t begin;  ///< first position
    index_t end;    ///< one past the last
    index_t group;  ///< column of `weight_grids::scales`
};

/// The groups in the order of processing, for orders that keep groups together.
///
/// @param by_position  whether groups are neighbours in the order of processing, rather than neighbouring columns
[[nodiscard]] inline std::vector<group_run> group_runs(std::span<const index_t> order, index_t group_size, bool by_position) {
    std::vector<group_run> runs;
    for (index_t k = 0; k < static_cast<index_t>(order.size()); ++k) {
        const index_t group = (by_position ? k : order[static_cast<std::size_t>(k)]) / group_size;
        if (runs.empty() || runs.back().group != group) runs.push_back({k, k, group});
        runs.back().end = k + 1;
    }
    return runs;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr
