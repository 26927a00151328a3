// SPDX-License-Identifier: MIT
#include "quantize_llama/published_methods.hpp"

#include <magr/attention/boa.hpp>
#include <magr/calibration/output_error.hpp>
#include <magr/grid/dint.hpp>
#include <magr/preprocess.hpp>
#include <magr/quantize/gpfq_drift.hpp>
#include <magr/quantize/gptaq.hpp>
#include <magr/quantize/optq.hpp>
#include <magr/quantize/owq.hpp>
#include <magr/quantize/qronos.hpp>
#include <magr/quantize/round_onto_drift.hpp>
#include <magr/quantize_quip.hpp>
#include <stdexcept>
#include <utility>

#include "common/content_hash.hpp"
#include "quantize_llama/stored_bits.hpp"

namespace examples {
namespace {

magr::grid_options grid_of(const quantization& how) {
    return {.bits = how.bits,
            .zero_point = how.zero_point,
            .group_size = how.group_size,
            .storage = how.storage,
            .range = how.range.value_or(magr::range_search::min_max),
            .range_factor = how.beta};
}

magr::optq_options optq_of(const quantization& how) {
    magr::optq_options options{.order = how.order};
    options.precision = magr::factor_precision::float64;
    if (how.damping) options.damping = *how.damping;
    return options;
}

/// Random numbers of a layer of their own.
std::uint64_t seed_of(const std::string& layer) {
    content_hash hash;
    hash.add(layer);
    return std::stoull(hash.text().substr(0, 15), nullptr, 16);
}

template <class Result>
Result checked(Result result) {
    if (!result) throw std::runtime_error(to_string(result.status));
    return result;
}

template <class Matrix>
Matrix checked(std::optional<Matrix> result) {
    if (!result) throw std::runtime_error("the Gram matrix of the inputs could not be factored");
    return *std::move(result);
}

matrix_f values_of(const magr::matrix<float>& m) { return Eigen::Map<const matrix_f>(m.data(), m.rows(), m.cols()); }

quantized_layer layer_of(magr::quantized_matrix<float> q) {
    quantized_layer layer;
    layer.values = values_of(q.dequantize());
    layer.record.stored_bits = stored_bits(q);
    layer.quantized = std::move(q);
    return layer;
}

/// Rounds weights that make up for the drift of their inputs.
template <class Method>
quantized_layer with_drift(const matrix_f& W, const magr::hessian& H, const layer_calibration& calibration, const Method& method,
                           const quantization& how, magr::thread_pool& pool) {
    const auto grids = magr::fit_grids(W, H, grid_of(how), pool);
    return layer_of(checked(magr::round_onto_drift(grids, W, H, calibration.drift, method, {}, {.order = how.order}, pool)));
}

quantized_layer quip(const std::string& name, const matrix_f& W, const magr::hessian& H, const quantization& how, magr::thread_pool& pool) {
    magr::quip_options options;
    options.bits = how.bits;
    options.incoherence.seed = seed_of(name);
    options.optq = optq_of(how);
    options.optq.dead = magr::dead_columns::zero;
    const auto result = checked(magr::quantize_quip(W, H, options, pool));
    quantized_layer layer;
    layer.values = values_of(result.weights);
    // codes, the scale of the whole matrix, the seed, and the diagonal in 16 bits
    layer.record.stored_bits = static_cast<double>(W.size()) * how.bits + 32 + 64 + 16.0 * static_cast<double>(W.cols());
    return layer;
}

quantized_layer owq(const matrix_f& W, const magr::hessian& H, const quantization& how, magr::thread_pool& pool) {
    constexpr double more_bits = 0.1;  // for weak columns: 2.1, 3.1, 4.1, as in the paper
    magr::owq_options options;
    options.grid = grid_of(how);
    options.optq = optq_of(how);
    if (how.range || how.beta != 1)
        options.clips.reset();
    else
        options.grid.range.reset();  // it has a search of its own
    options.weak_columns = magr::owq_weak_columns(how.bits + more_bits, how.bits, magr::matrix_shape{W.rows(), W.cols()});
    const auto result = checked(magr::quantize_owq(W, H, options, pool));
    quantized_layer layer;
    layer.values = values_of(result.quantized.dequantize());
    layer.record.stored_bits = result.quantized.bits_per_weight() * static_cast<double>(W.size());
    return layer;
}

quantized_layer dint(const matrix_f& W, const magr::hessian& H, const quantization& how, magr::thread_pool& pool) {
    const auto grids = magr::fit_dint_grids(W, H, {.bits = how.bits, .group_size = how.group_size, .storage = how.storage}, pool);
    const magr::ldl_feedback feedback{.damping = how.damping.value_or(1e-2)};
    const auto q = checked(magr::round_onto(grids, W, H, feedback, {}, {.order = how.order}, pool));
    quantized_layer layer;
    layer.values = values_of(q.dequantize());
    layer.record.stored_bits = static_cast<double>(W.size()) * how.bits +
                               static_cast<double>(grids.scales.rows() * grids.scales.cols()) * (bits_of(how.storage) + how.bits);
    return layer;
}

/// Only attention's queries and keys have a metric of rows; other layers are OPTQ's.
quantized_layer boa(const matrix_f& W, const magr::hessian& H, const output_metric& metric, const quantization& how,
                    magr::thread_pool& pool) {
    if (metric.heads.empty()) return layer_of(checked(magr::quantize_optq(W, H, grid_of(how), optq_of(how), pool)).quantized);
    magr::boa_options options{.order = how.order};
    if (how.damping) options.damping = *how.damping;
    return layer_of(checked(magr::quantize_boa(W, H, metric.heads, grid_of(how), options, pool)).quantized);
}

quantized_layer round_by(const std::string& name, const matrix_f& W, const magr::hessian& H, const layer_calibration& calibration,
                         const output_metric& metric, const quantization& how, magr::thread_pool& pool) {
    switch (how.method) {
        case method::quip:
        case method::magr_quip: return quip(name, W, H, how, pool);
        case method::gpfq: return with_drift(W, H, calibration, magr::gpfq_drift{}, how, pool);
        case method::gptaq: return with_drift(W, H, calibration, magr::gptaq{}, how, pool);
        case method::qronos:
        case method::magr_qronos: return with_drift(W, H, calibration, magr::qronos{}, how, pool);
        case method::boa: return boa(W, H, metric, how, pool);
        case method::owq: return owq(W, H, how, pool);
        case method::dint: return dint(W, H, how, pool);
        default: break;
    }
    magr::optq_options options = optq_of(how);
    if (how.method == method::optq_stochastic) {
        options.rounding = magr::rounding_mode::stochastic;
        options.seed = seed_of(name);
    }
    return layer_of(checked(magr::quantize_optq(W, H, grid_of(how), options, pool)).quantized);
}

}  // namespace

quantized_layer follow_published(const std::string& name, const matrix_f& W, const layer_calibration& calibration,
                                 const output_metric& metric, const quantization& how, magr::thread_pool& pool) {
    const magr::hessian H(calibration.gram, 0, pool);
    std::vector<double> penalties = {0};
    if (uses_magr(how.method)) penalties = how.alpha ? std::vector<double>{*how.alpha} : default_alphas(how.group_size.has_value());
    std::optional<quantized_layer> best;
    for (const double alpha : penalties) {
        matrix_f M = W;
        if (alpha > 0 && H.dead_inputs() < H.inputs())
            magr::preprocess(M, H, {.alpha = alpha, .group_size = how.group_size, .solver = how.solver, .damping = how.damping}, {}, pool);
        quantized_layer layer = round_by(name, M, H, calibration, metric, how, pool);
        layer.record.output_error = magr::output_error(W, layer.values, H, pool);
        if (best && layer.record.output_error >= best->record.output_error) continue;
        layer.record.alpha = alpha;
        if (uses_magr(how.method)) {
            layer.record.largest_before = largest_per_row(W);
            layer.record.largest_after = largest_per_row(M);
        }
        best = std::move(layer);
    }
    best->record.name = name;
    best->record.remark = remark_on_inputs(H.dead_inputs(), H.inputs(), "rounded to the nearest");
    return *std::move(best);
}

}  // namespace examples
