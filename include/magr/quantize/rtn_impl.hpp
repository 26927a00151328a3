// SPDX-License-Identifier: MIT
#pragma once

#include <magr/detail/contract.hpp>
#include <magr/detail/convert.hpp>
#include <magr/grid/fit_grid.hpp>
#include <magr/quantize/round_onto_grids.hpp>
#include <magr/quantize/rtn.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar Scalar>
weight_grids<Scalar> fit_grids_for_rtn(const matrix_ref& W, const grid_options& options) {
    validate(options);
    require_not_empty("quantize_rtn", "W", W);
    require_finite("quantize_rtn", "W", W);
    return fit_all<Scalar>("quantize_rtn", W, options, {});
}

template <compute_scalar Scalar>
quantized_matrix<Scalar> run_rtn(const matrix_ref& W, const grid_options& options) {
    weight_grids<Scalar> grids = fit_grids_for_rtn<Scalar>(W, options);
    return round_onto_grids(weights_in<Scalar>(W).view(), std::move(grids), round_half_even{});
}

template <compute_scalar Scalar>
quantized_matrix<Scalar> run_rtn(const matrix_ref& W, const gram_argument& H, const grid_options& options, executor_ref exec) {
    validate(options);
    const used_hessian h("quantize_rtn", W, H, options.dead_threshold, exec);
    return round_onto_grids(weights_in<Scalar>(W).view(), fit_all<Scalar>(W, *h, options, exec), round_half_even{});
}

template <compute_scalar Scalar>
void require_roundable(const matrix_ref& W, const weight_grids<Scalar>& grids) {
    require_not_empty("quantize_rtn", "W", W);
    require_grids("quantize_rtn", grids, W.rows(), W.cols());
    require_finite("quantize_rtn", "W", W);
}

template <compute_scalar Scalar>
quantized_matrix<Scalar> run_rtn(const matrix_ref& W, const weight_grids<Scalar>& grids) {
    require_roundable(W, grids);
    return round_onto_grids(weights_in<Scalar>(W).view(), grids, round_half_even{});
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
