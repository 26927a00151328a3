// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include <magr/detail/contract.hpp>
#include <magr/fit/fit_grid.hpp>
#include <magr/fit/grid_fitter.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar Scalar>
affine_grid<Scalar> fit_grid(std::span<const Scalar> weights, const grid_options& options, std::span<const double> importance) {
    using panel = detail::row_major_matrix<Scalar>;
    const panel row = Eigen::Map<const panel>(weights.data(), 1, static_cast<index_t>(weights.size()));
    const std::vector<index_t> live = detail::live_positions(importance);
    const auto search = [&](const panel& taking_part, std::span<const double> its_importance) {
        const auto metric = detail::grid_metric<Scalar>::diagonal(options, its_importance);
        return detail::grid_search<Scalar>(options, metric, taking_part).run().front();
    };
    if (live.empty()) return search(row, importance);
    std::vector<double> of_live;
    for (const index_t j : live) of_live.push_back(importance[static_cast<std::size_t>(j)]);
    return search(detail::columns_of<Scalar>(row, live), of_live);
}

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar Scalar>
weight_grids<Scalar> fit_all(const matrix_ref& w, const hessian& H, const grid_options& options, executor_ref exec) {
    const matrix_ref& h = H.live().view();
    const index_t group_size = columns_per_group(options, w.cols());
    const std::vector<index_t> order = order_columns(h, column_order::natural, group_size);
    return fit_all<Scalar>(w, options, grid_fitter<Scalar>(options, h, group_runs(order, group_size, false), order), exec);
}

template <compute_scalar Scalar>
weight_grids<Scalar> run_fit_grids(const char* function, const matrix_ref& W, const gram_argument& H, const grid_options& options,
                                   executor_ref exec) {
    validate(options);
    const used_hessian h(function, W, H, options.dead_threshold, exec);
    return fit_all<Scalar>(W, *h, options, exec);
}

/// Refuses searches that use H when there is none.
inline void require_search_without_gram(const char* function, const grid_options& options) {
    if (options.range == range_search::output_error || options.range == range_search::row_output_error)
        raise<option_error>(concat(function, ": range must be min_max or mse where no H is passed, it is an output-error search"));
}

template <compute_scalar Scalar>
weight_grids<Scalar> run_fit_grids(const char* function, const matrix_ref& W, const grid_options& options, executor_ref exec) {
    validate(options);
    require_not_empty(function, "W", W);
    require_distinct(function, "W", W);
    require_finite(function, "W", W, exec);
    return fit_all<Scalar>(function, W, options, exec);
}

template <compute_scalar Scalar>
weight_grids<Scalar> fit_all(const char* function, const matrix_ref& w, const grid_options& options, executor_ref exec) {
    require_search_without_gram(function, options);
    return fit_all<Scalar>(w, options, grid_fitter<Scalar>(options), exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr
