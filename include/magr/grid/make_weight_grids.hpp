// SPDX-License-Identifier: MIT
#pragma once

#include <magr/grid/grid.hpp>
#include <magr/grid/weight_grids.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Unfitted grids of the right shapes, with groups of neighbouring columns.
template <compute_scalar Scalar>
[[nodiscard]] weight_grids<Scalar> make_weight_grids(index_t rows, index_t cols, const grid_options& options) {
    const index_t groups = groups_per_row(options, cols);
    weight_grids<Scalar> grids;
    grids.bits = options.bits;
    grids.zero_point = options.zero_point;
    grids.storage = options.storage;
    grids.group_size = columns_per_group(options, cols);
    grids.scales = matrix<Scalar>(rows, groups);
    grids.zeros = matrix<Scalar>(rows, groups);
    for (const double level : options.levels) grids.levels.push_back(static_cast<Scalar>(level));
    for (index_t j = 0; j < cols; ++j) grids.group_of_column.push_back(j / grids.group_size);
    return grids;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
