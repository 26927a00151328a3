// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include <magr/grid/weight_grids.hpp>
#include <magr/matrix/matrix_view.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Half the sum of D_k (s/2)^2 over all weights, where s is the widest step of their grid.
template <compute_scalar Scalar>
[[nodiscard]] double loss_bound_of(const weight_grids<Scalar>& grids, std::span<const index_t> order, std::span<const double> pivots) {
    double widest = 1;
    for (std::size_t c = 1; c < grids.levels.size(); ++c) {
        const double gap = static_cast<double>(grids.levels[c]) - static_cast<double>(grids.levels[c - 1]);
        widest = c == 1 ? gap : (std::max)(widest, gap);
    }
    std::vector<double> squares(static_cast<std::size_t>(grids.scales.cols()));
    for (index_t i = 0; i < grids.scales.rows(); ++i)
        for (index_t g = 0; g < grids.scales.cols(); ++g) {
            const double half = widest * static_cast<double>(grids.scales(i, g)) / 2;
            squares[static_cast<std::size_t>(g)] += half * half;
        }
    double bound = 0;
    for (std::size_t k = 0; k < order.size(); ++k)
        bound += 0.5 * pivots[k] * squares[static_cast<std::size_t>(grids.group_of_column[static_cast<std::size_t>(order[k])])];
    return bound;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
