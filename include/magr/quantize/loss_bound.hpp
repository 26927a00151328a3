// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include <magr/grid/weight_grids.hpp>
#include <magr/matrix/matrix_view.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// sum_k D_k e_k, for a number e_k of each column. One with D_k = 0 is dead and costs nothing, even if e_k overflowed. Multiplies and adds
/// in one rounding: left to themselves, compilers for processors that can do so use it in one caller and not in the next, and methods that
/// round alike would report losses with other last bits.
[[nodiscard]] inline double weighted_sum(std::span<const double> weights, std::span<const double> of_columns) {
    double sum = 0;
    for (std::size_t k = 0; k < weights.size(); ++k)
        if (weights[k] != 0) sum = std::fma(weights[k], of_columns[k], sum);
    return sum;
}

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
    for (std::size_t k = 0; k < order.size(); ++k) {
        const double square = squares[static_cast<std::size_t>(grids.group_of_column[static_cast<std::size_t>(order[k])])];
        if (pivots[k] != 0) bound += 0.5 * pivots[k] * square;
    }
    return bound;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
