// SPDX-License-Identifier: MIT
#include "quantize_llama/k_quant_method.hpp"

#include <magr/calibration/output_error.hpp>
#include <magr/error.hpp>
#include <magr/gguf/k_quants.hpp>
#include <magr/preprocess.hpp>
#include <magr/quantize/optq.hpp>
#include <magr/quantize/rtn.hpp>
#include <magr/refine/refine_codes.hpp>
#include <magr/refine/refine_scales.hpp>
#include <stdexcept>
#include <utility>

#include "quantize_llama/layer_settings.hpp"

namespace examples {
namespace {

/// Codes for W on given grids, and what was not done as asked.
struct chosen_codes {
    magr::quantized_matrix<float> quantized;
    std::string remark;
};

chosen_codes choose_codes(const matrix_f& W, const magr::hessian& H, const magr::weight_grids<float>& grids, const quantization& how,
                          magr::thread_pool& pool) {
    if (!uses_optq(how.method)) return {magr::quantize_rtn(W, grids, {}, pool), {}};
    auto result = magr::quantize_optq(W, H, grids, optq_of(how), pool);
    if (!result) throw std::runtime_error(to_string(result.status));
    return {std::move(result.quantized), result.status == magr::quantization_status::as_requested ? "" : to_string(result.status)};
}

/// What errors of grids are weighed with: the diagonal of H, damped. An input that was active in few tokens may be active in more of
/// another text, so its weights need a grid that fits them, too. A third of the damping of the codes was best on the layers that were
/// measured.
magr::matrix<double> importance_of(const magr::hessian& H, const quantization& how) {
    magr::matrix<double> diagonal(H.inputs(), H.inputs());
    for (magr::index_t j = 0; j < H.inputs(); ++j)
        if (!H.is_dead(j)) diagonal(j, j) = H.given()(j, j) + how.damping.value_or(0) / 3 * H.mean();
    return diagonal;
}

}  // namespace

quantized_layer on_k_quant_grids(const std::string& name, const matrix_f& W, const layer_calibration& calibration,
                                 const quantization& asked, magr::thread_pool& pool) {
    quantization how = asked;
    if (!how.damping) how.damping = calibration.damping;
    if (traits_of(how.method).published || how.method == method::paper)
        throw magr::option_error(std::string(name_of(how.method)) + " has grids of its own, which are not those of " +
                                 to_string(*how.ggml));
    const magr::hessian H(calibration.gram, 0, pool);
    const bool is_automatic = how.method == method::automatic;
    const std::string common_remark = remark_on_inputs(H.dead_inputs(), W.cols(), "rounded to the nearest");
    matrix_f wanted = W;
    std::string drift_remark;
    if (is_automatic) drift_remark = compensate(wanted, H, calibration, how, 0.1, pool);  // H is as the text has it

    magr::scale_refinement_options of_scales;
    magr::code_refinement_options of_codes;
    if (how.damping) of_scales.damping = of_codes.damping = *how.damping;
    const magr::matrix<double> importance = importance_of(H, how);
    const magr::index_t rounds = is_automatic || traits_of(how.method).refines ? how.refinement_rounds : 0;

    quantized_layer layer;
    double least = 0;  // error of the layer towards what is wanted of it
    for (const double alpha : penalties_of(how)) {
        matrix_f preprocessed = wanted;
        const bool has_magr = alpha > 0 && H.dead_inputs() < W.cols();
        if (has_magr) static_cast<void>(magr::preprocess(preprocessed, H, magr_of(how, alpha)));
        const magr::weight_grids<float> grids = magr::fit_k_quant_grids(preprocessed, importance, *how.ggml, 0, pool);
        auto [q, remark] = choose_codes(how.target == magr::rounding_target::original ? wanted : preprocessed, H, grids, how, pool);
        for (magr::index_t round = 0; round < rounds; ++round) {
            const auto scales = magr::refine_scales(q, wanted, H, of_scales, pool);
            const auto codes = magr::refine_codes(q, wanted, H, of_codes, pool);
            if (scales.changes + codes.changes == 0) break;
        }
        const double error = magr::output_error(wanted, values_of(q.dequantize(pool)), H, pool);
        if (layer.quantized && !(error < least)) continue;
        least = error;
        layer.record = {.name = name, .alpha = has_magr ? alpha : 0};
        for (const std::string& part : {common_remark, drift_remark, remark}) add_remark(layer.record, part);
        store(layer, std::move(q));
        if (!uses_magr(how.method)) continue;
        layer.record.largest_before = largest_per_row(W);
        layer.record.largest_after = largest_per_row(preprocessed);
    }
    layer.record.output_error = magr::output_error(W, layer.values, H, pool);
    return layer;
}

}  // namespace examples
