// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>

#include <magr/calibration/output_meter.hpp>
#include <magr/detail/contract.hpp>
#include <magr/detail/convert.hpp>
#include <magr/layer/core.hpp>
#include <magr/layer/layer_steps.hpp>
#include <magr/preprocess/core.hpp>
#include <magr/refine/error_state.hpp>
#include <magr/refine/packed_gram.hpp>

namespace magr {
namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar Scalar>
layer_result<Scalar> layer_checked(matrix_view<const Scalar> W, const hessian& H, std::optional<index_t> tokens, const layer_options& given,
                                   executor_ref exec) {
    const layer_options options = with_defaults(given);
    const layer_input<Scalar> in(W, H, options);
    const output_meter meter(W, H, exec);
    std::optional<preprocess_result> preprocessed;
    std::optional<double> error_preprocessed;
    std::optional<quantization_status> objection = objection_to(in, tokens, options);

    row_major_matrix<Scalar> M;
    if (!objection && options.preprocess && H.live().has_live()) {
        M = load<Scalar>(in.weights());
        preprocessed = preprocess_checked(as_const_view(M), as_mutable_view(M), H, *options.preprocess, {}, exec);
        in.restore_dead(M);
        error_preprocessed = meter.error(W, as_const_view(M), exec);
        if (preprocessed->stopped == stop_reason::not_factored)
            objection = options.optq.on_failure == factor_fallback::round_to_nearest ? quantization_status::rounded_to_nearest
                                                                                     : quantization_status::failed;
    }
    layer_result<Scalar> result;
    std::optional<weight_grids<Scalar>> grids;
    if (objection) {
        result.status = *objection;
        result.dead_inputs = H.dead_inputs();
        if (objection == quantization_status::dead_columns_refused && options.quantizer == layer_quantizer::optq) {
            result.optq.emplace();
            result.optq->status = quantization_status::dead_columns_refused;
            result.optq->dead_inputs = result.dead_inputs;
        }
    } else {
        const matrix_view<const Scalar> fitted = preprocessed ? as_const_view(M) : in.weights();
        const optq_plan<Scalar>* plan = nullptr;
        if (options.quantizer == layer_quantizer::optq)
            plan = &plan_optq<Scalar>(H, columns_per_group(options.grid, W.cols()), options.optq, exec);
        grids = fit_all<Scalar>(fitted, H, options.grid, exec);
        result = choose_codes(in, fitted, *grids, plan, options, exec);
        measure_optq(result, in, fitted, options, exec);
    }
    result.tokens = tokens;
    result.preprocess = preprocessed;
    result.output_error_preprocessed = error_preprocessed;
    complete(result, W, in, grids && !preprocessed ? &*grids : nullptr, meter, options, exec);
    return result;
}

template <compute_scalar Scalar>
layer_result<Scalar> run_layer(const matrix_ref& W, const gram_argument& H, const char* name_of_H, std::optional<index_t> tokens,
                               const layer_options& options, executor_ref exec) {
    validate(options);
    const used_hessian h("quantize_layer", W, H, with_defaults(options).optq.dead_threshold, exec, name_of_H);
    return layer_checked<Scalar>(weights_in<Scalar>(W).view(), *h, tokens, options, exec);
}

template <compute_scalar Scalar>
std::size_t layer_bytes(index_t rows, index_t cols, const layer_options& given, index_t workers) {
    if (rows < 1 || cols < 1) raise<shape_error>(concat("workspace_bytes: W must not be empty, it is ", rows, " x ", cols));
    validate(given);
    require_option(workers >= 1, "workspace_bytes", "workers", "at least 1", workers);
    const layer_options options = with_defaults(given);
    const auto& [rounds, scales, codes] = options.refinement;
    const bool refines = rounds > 0 && (scales || codes), is_optq = options.quantizer == layer_quantizer::optq;
    const auto bytes = [](index_t numbers, std::size_t size) { return static_cast<std::size_t>(numbers) * size; };
    const std::size_t weights = bytes(rows * cols, sizeof(Scalar)), square = bytes(cols * cols, sizeof(double));
    const std::size_t quantized = bytes(rows * cols, 1) + bytes(2 * rows * groups_per_row(options.grid, cols), sizeof(Scalar));

    // what stays until the end: H for the report, a copy of H without dead inputs, lists of columns, and what remembers all of it
    std::size_t kept = 4096 + bytes(8 * cols, sizeof(index_t)) + square + (options.optq.dead_threshold > 0 ? square : 0);
    if (options.optq.dead == dead_columns::zero) kept += weights;
    const std::size_t magr = options.preprocess ? weights + preprocess_bytes(rows, cols, *options.preprocess, workers) : 0;
    if (options.preprocess) kept += weights + bytes(20 * cols, sizeof(double));  // its result, and directions of H

    const std::size_t measuring = weights + output_meter::bytes(rows, cols, workers) - square;
    optq_options of_optq = options.optq;
    of_optq.dead_threshold = 0;  // already counted
    of_optq.dead = dead_columns::round;
    const std::size_t optq = is_optq ? optq_bytes<Scalar>(rows, cols, options.grid, of_optq, workers) : 0;
    const std::size_t plan = is_optq ? bytes(cols * cols, sizeof(Scalar)) + bytes(4 * cols, sizeof(double)) : 0;

    // H is packed for refinement once for each damping and order
    const bool dampings_differ = scales && codes && scales->damping != codes->damping;
    const bool orders_differ = (codes && codes->order != column_order::natural) || options.optq.order == column_order::act_order;
    const std::size_t grams = refines ? packed_gram::bytes(cols) * (1 + (dampings_differ ? 1 : 0) + (orders_differ ? 1 : 0)) : 0;
    const std::size_t refining = refines ? (std::max)(square, static_cast<std::size_t>(workers) * error_state::bytes(rows, cols)) : 0;
    const std::size_t compared = options.measure_rtn || options.optq.on_failure == factor_fallback::round_to_nearest ? quantized : 0;
    return kept + (std::max)({magr, quantized + (std::max)(optq, plan + measuring),
                              plan + grams + 2 * quantized + compared + (std::max)(refining, measuring)});
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr
