// SPDX-License-Identifier: MIT
#pragma once

#include <optional>

#include <magr/detail/contract.hpp>
#include <magr/detail/convert.hpp>
#include <magr/layer/core.hpp>
#include <magr/layer/layer_steps.hpp>
#include <magr/preprocess/core.hpp>

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

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr
