// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <numeric>
#include <type_traits>
#include <vector>

#include <magr/calibration/hessian.hpp>
#include <magr/detail/share_rows.hpp>
#include <magr/grid/code_map.hpp>
#include <magr/grid/weight_grids.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// The number of weights of live columns that are more than half a step outside of their grid.
template <compute_scalar Scalar>
[[nodiscard]] index_t count_clipped(std::type_identity_t<matrix_view<const Scalar>> w, const hessian& H, const weight_grids<Scalar>& grids,
                                    executor_ref exec) {
    std::vector<index_t> of_row(static_cast<std::size_t>(w.rows()));
    with_code_map(grids, [&](const auto& map_of) {
        share_rows(w.rows(), exec, [&](index_t first, index_t last) {
            for (index_t i = first; i < last; ++i) {
                index_t clipped = 0;
                for (index_t j = 0; j < w.cols(); ++j) {
                    if (H.is_dead(j)) continue;
                    const index_t group = grids.group_of_column[static_cast<std::size_t>(j)];
                    const auto map = map_of(grids.scales(i, group), grids.zeros(i, group));
                    const Scalar steps = map.steps(w(i, j));
                    clipped += steps < map.lowest() - Scalar(0.5) || steps > map.highest() + Scalar(0.5) ? 1 : 0;
                }
                of_row[static_cast<std::size_t>(i)] = clipped;
            }
        });
    });
    return std::accumulate(of_row.begin(), of_row.end(), index_t{0});
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
