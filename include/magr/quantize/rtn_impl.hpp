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
quantized_matrix<Scalar> run_rtn(const matrix_ref& W, const grid_options& options, executor_ref exec) {
    weight_grids<Scalar> grids = run_fit_grids<Scalar>("quantize_rtn", W, options, exec);
    return round_onto_grids(weights_in<Scalar>(W).view(), std::move(grids), round_half_even{}, exec);
}

template <compute_scalar Scalar>
quantized_matrix<Scalar> run_rtn(const matrix_ref& W, const gram_argument& H, const grid_options& options, executor_ref exec) {
    weight_grids<Scalar> grids = run_fit_grids<Scalar>("quantize_rtn", W, H, options, exec);
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
