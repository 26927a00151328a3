// SPDX-License-Identifier: MIT
#pragma once

#include <magr/compensate_drift.hpp>
#include <magr/grid/grid.hpp>
#include <magr/preprocess/options.hpp>
#include <magr/quantize/optq_options.hpp>
#include <string>
#include <utility>
#include <vector>

#include "quantize_llama/methods.hpp"
#include "quantize_llama/stored_bits.hpp"

/// The library's options for a run, and results as layers: what all methods share.
namespace examples {

/// The grid that methods without one of their own use.
[[nodiscard]] inline magr::grid_options grid_of(const quantization& how) {
    return {.bits = how.bits,
            .zero_point = how.zero_point,
            .group_size = how.group_size,
            .storage = how.storage,
            .range = how.range.value_or(magr::range_search::min_max),
            .range_factor = how.beta};
}

[[nodiscard]] inline magr::optq_options optq_of(const quantization& how) {
    magr::optq_options options;
    options.order = how.order;
    options.precision = magr::factor_precision::float64;  // more than enough, so that no difference between methods is one of rounding
    if (how.damping) options.damping = *how.damping;
    return options;
}

/// MagR's penalties that a layer is quantized with; the smallest error decides. 0 alone without MagR.
[[nodiscard]] inline std::vector<double> penalties_of(const quantization& how) {
    if (!uses_magr(how.method)) return {0};
    return how.alpha ? std::vector<double>{*how.alpha} : default_alphas(how.group_size.has_value());
}

[[nodiscard]] inline magr::preprocess_options magr_of(const quantization& how, double alpha) {
    return {.alpha = alpha, .group_size = how.group_size, .solver = how.solver, .damping = how.damping};
}

[[nodiscard]] inline matrix_f values_of(const magr::matrix<float>& m) { return Eigen::Map<const matrix_f>(m.data(), m.rows(), m.cols()); }

/// Makes these codes and grids the layer's weights.
inline void store(quantized_layer& layer, magr::quantized_matrix<float> q) {
    layer.values = values_of(q.dequantize());
    layer.record.stored_bits = stored_bits(q);
    layer.quantized = std::move(q);
}

/// Adds to what a report says about a layer.
inline void add_remark(layer_record& record, const std::string& remark) {
    if (!remark.empty()) record.remark.append(record.remark.empty() ? "" : "; ").append(remark);
}

/// Says in the report if a step was not done as asked.
template <class Status>
void add_status(layer_record& record, Status status) {
    if (status != Status::as_requested) add_remark(record, to_string(status));
}

/// Makes the weights of a layer make up for the drift of its inputs and of the residual stream. Returns what to say in the report if that
/// is not possible.
/// @param damping  of H
[[nodiscard]] inline std::string compensate(matrix_f& W, const magr::hessian& H, const layer_calibration& calibration,
                                            const quantization& how, double damping, magr::thread_pool& pool) {
    const magr::drift_options drift{.fraction = how.drift, .damping = damping};
    const bool compensated =
        (calibration.residual_drift.empty() ? magr::compensate_drift(W, H, calibration.drift, drift, pool)
                                            : magr::compensate_drift(W, H, calibration.drift, calibration.residual_drift, drift, pool))
            .compensated;
    return compensated || H.dead_inputs() == H.inputs() ? "" : "the drift of the inputs could not be compensated";
}

}  // namespace examples
