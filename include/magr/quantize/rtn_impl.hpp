// SPDX-License-Identifier: MIT
#pragma once

#include <utility>

#include <magr/detail/contract.hpp>
#include <magr/detail/convert.hpp>
#include <magr/fit/fit_grid.hpp>
#include <magr/grid/round_onto_grids.hpp>
#include <magr/quantize/rtn.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar Scalar>
weight_grids<Scalar> fit_grids_for_rtn(const matrix_ref& W, const grid_options& options, executor_ref exec) {
    validate(options);
    require_not_empty("quantize_rtn", "W", W);
    require_distinct("quantize_rtn", "W", W);
    require_finite("quantize_rtn", "W", W, exec);
    return fit_all<Scalar>("quantize_rtn", W, options, exec);
}

template <compute_scalar Scalar>
weight_grids<Scalar> fit_grids_for_rtn(const matrix_ref& W, const gram_argument& H, const grid_options& options, executor_ref exec) {
    validate(options);
    const used_hessian h("quantize_rtn", W, H, options.dead_threshold, exec);
    return fit_all<Scalar>(W, *h, options, exec);
}

template <compute_scalar Scalar>
quantized_matrix<Scalar> run_rtn(const matrix_ref& W, const grid_options& options, executor_ref exec) {
    weight_grids<Scalar> grids = fit_grids_for_rtn<Scalar>(W, options, exec);
    return round_onto_grids(weights_in<Scalar>(W).view(), std::move(grids), round_half_even{}, exec);
}

template <compute_scalar Scalar>
quantized_matrix<Scalar> run_rtn(const matrix_ref& W, const gram_argument& H, const grid_options& options, executor_ref exec) {
    weight_grids<Scalar> grids = fit_grids_for_rtn<Scalar>(W, H, options, exec);
    return round_onto_grids(weights_in<Scalar>(W).view(), std::move(grids), round_half_even{}, exec);
}

template <compute_scalar Scalar>
void require_roundable(const matrix_ref& W, const weight_grids<Scalar>& grids, executor_ref exec) {
    require_not_empty("quantize_rtn", "W", W);
    require_distinct("quantize_rtn", "W", W);
    require_grids("quantize_rtn", grids, W.rows(), W.cols());
    require_finite("quantize_rtn", "W", W, exec);
}

template <compute_scalar Scalar>
quantized_matrix<Scalar> run_rtn(const matrix_ref& W, const weight_grids<Scalar>& grids, executor_ref exec) {
    require_roundable(W, grids, exec);
    return round_onto_grids(weights_in<Scalar>(W).view(), grids, round_half_even{}, exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
