// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include <magr/calibration/column_order.hpp>
#include <magr/calibration/live_gram.hpp>
#include <magr/detail/convert.hpp>
#include <magr/fit/grid_metric.hpp>
#include <magr/fit/grid_search.hpp>
#include <magr/grid/grid.hpp>
#include <magr/grid/make_weight_grids.hpp>
#include <magr/grid/weight_grids.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// The columns that a search considers, those with positive importance; empty if it considers all, as when all importances are 0.
[[nodiscard]] inline std::vector<index_t> live_positions(std::span<const double> importance) {
    std::vector<index_t> live;
    for (std::size_t j = 0; j < importance.size(); ++j)
        if (importance[j] > 0) live.push_back(static_cast<index_t>(j));
    if (live.size() == importance.size()) live.clear();
    return live;
}

/// The given columns of some weights.
template <compute_scalar Scalar, class Weights>
[[nodiscard]] row_major_matrix<Scalar> columns_of(const Weights& weights, std::span<const index_t> columns) {
    row_major_matrix<Scalar> out(weights.rows(), static_cast<index_t>(columns.size()));
    for (index_t i = 0; i < out.rows(); ++i)
        for (index_t k = 0; k < out.cols(); ++k) out(i, k) = weights(i, columns[static_cast<std::size_t>(k)]);
    return out;
}

/// Fits the grids of any rows of a group of columns. One object handles all groups.
template <compute_scalar Scalar>
class grid_fitter {
public:
    using panel = row_major_matrix<Scalar>;

    /// Without H: all columns count the same.
    explicit grid_fitter(const grid_options& options) : options_(options), groups_(1, {grid_metric<Scalar>::plain(options), {}}) {}

    /// Dead columns of H are ignored, unless all columns of a group are dead.
    /// @param runs     the groups in the order of processing
    grid_fitter(const grid_options& options, const matrix_ref& H, std::span<const group_run> runs, std::span<const index_t> order)
        : grid_fitter(options) {
        groups_.resize(runs.size(), groups_.front());
        for (const group_run& run : runs) {
            const auto columns = order.subspan(static_cast<std::size_t>(run.begin), static_cast<std::size_t>(run.end - run.begin));
            std::vector<double> energies;
            for (const index_t j : columns) energies.push_back(H(j, j));
            group_metric& g = groups_[static_cast<std::size_t>(run.group)];
            g.live = live_positions(energies);
            std::vector<index_t> taking_part(columns.begin(), columns.end());
            for (std::size_t k = 0; k < g.live.size(); ++k) taking_part[k] = columns[static_cast<std::size_t>(g.live[k])];
            if (!g.live.empty()) taking_part.resize(g.live.size());
            if (options.range == range_search::output_error || options.range == range_search::row_output_error)
                g.metric = grid_metric<Scalar>::of_columns(options, H, taking_part);
        }
    }

    /// The grids of these rows in group `group`.
    [[nodiscard]] std::vector<affine_grid<Scalar>> fit(index_t group, const panel& weights) const {
        const auto& [metric, live] = groups_.size() == 1 ? groups_.front() : groups_[static_cast<std::size_t>(group)];
        if (live.empty()) return grid_search<Scalar>(options_, metric, weights).run();
        const panel taking_part = columns_of<Scalar>(weights, live);
        return grid_search<Scalar>(options_, metric, taking_part).run();
    }

private:
    struct group_metric {
        grid_metric<Scalar> metric;
        std::vector<index_t> live;  ///< positions of the columns that count; empty: all
    };

    const grid_options& options_;
    std::vector<group_metric> groups_;
};

/// Fits all grids, each to its group of neighbouring columns of W.
template <compute_scalar Scalar>
[[nodiscard]] weight_grids<Scalar> fit_all(const matrix_ref& w, const grid_options& options, const grid_fitter<Scalar>& fitter,
                                           executor_ref exec) {
    constexpr index_t panel_rows = 32;  // enough to make a product worthwhile
    weight_grids<Scalar> grids = make_weight_grids<Scalar>(w.rows(), w.cols(), options);
    exec.parallel_for((w.rows() + panel_rows - 1) / panel_rows, [&](index_t task, index_t) {
        const index_t first_row = task * panel_rows;
        const index_t rows = (std::min)(panel_rows, w.rows() - first_row);
        for (index_t g = 0; g < grids.scales.cols(); ++g) {
            const index_t first = g * grids.group_size;
            const auto group = w.block(first_row, first, rows, (std::min)(grids.group_size, w.cols() - first));
            const auto found = fitter.fit(g, load<Scalar>(group));
            for (index_t i = 0; i < rows; ++i) {
                grids.scales(first_row + i, g) = found[static_cast<std::size_t>(i)].scale;
                grids.zeros(first_row + i, g) = found[static_cast<std::size_t>(i)].zero;
            }
        }
    });
    return grids;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
