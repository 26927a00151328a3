// SPDX-License-Identifier: MIT
#include "quantize_llama/published_methods.hpp"

#include <magr/attention/boa.hpp>
#include <magr/calibration/output_error.hpp>
#include <magr/drift/gpfq_drift.hpp>
#include <magr/drift/gptaq.hpp>
#include <magr/drift/qronos.hpp>
#include <magr/drift/round_onto_drift.hpp>
#include <magr/fit/dint.hpp>
#include <magr/owq/owq.hpp>
#include <magr/preprocess.hpp>
#include <magr/quantize/optq.hpp>
#include <magr/quantize_quip.hpp>
#include <magr/transform/column_scaling.hpp>
#include <magr/transform/incoherence.hpp>
#include <optional>
#include <stdexcept>
#include <utility>

#include "common/content_hash.hpp"
#include "quantize_llama/layer_settings.hpp"

namespace examples {
namespace {

/// Random numbers of a layer or site of their own.
std::uint64_t seed_of(const std::string& name) {
    content_hash hash;
    hash.add(name);
    return std::stoull(hash.text().substr(0, 15), nullptr, 16);
}

/// The layer of a result, or its reason not to be one.
template <class Result, class Store>
quantized_layer layer_of(Result result, const Store& store_in) {
    if (!result) throw std::runtime_error(to_string(result.status));
    quantized_layer layer;
    add_status(layer.record, result.status);
    store_in(layer, std::move(result));
    return layer;
}

/// The same for results that are codes and grids.
template <class Result>
quantized_layer layer_of(Result result) {
    return layer_of(std::move(result), [](quantized_layer& layer, Result done) { store(layer, std::move(done.quantized)); });
}

/// What could be rounded with this H.
template <class Matrix>
Matrix required(std::optional<Matrix> rounded) {
    if (!rounded) throw std::runtime_error("the Gram matrix of the inputs could not be factored");
    return *std::move(rounded);
}

/// Rounds weights that make up for the drift of their inputs.
template <class Method>
quantized_layer with_drift(const matrix_f& W, const magr::hessian& H, const layer_calibration& calibration, const Method& method,
                           const quantization& how, magr::thread_pool& pool) {
    const auto grids = magr::fit_grids(W, H, grid_of(how), pool);
    quantized_layer layer;
    store(layer, required(magr::round_onto_drift(grids, W, H, calibration.drift, method, {}, {.order = how.order}, pool)));
    return layer;
}

/// The library scales the inputs of each layer for itself; here the layers of a site share the scales.
quantized_layer quip(const matrix_f& W, const layer_calibration& calibration, const quantization& how, magr::thread_pool& pool) {
    const input_basis& basis = calibration.basis.value();
    magr::quip_options options;
    options.bits = how.bits;
    options.incoherence = {.seed = basis.seed, .rescale = false};
    options.optq = optq_of(how);
    options.optq.dead = magr::dead_columns::zero;
    const magr::column_scaling scaling(basis.scales);
    matrix_f scaled = W;
    scaling.weights(magr::as_mutable_view(scaled));
    magr::matrix<double> gram = calibration.gram;
    scaling.gram(gram.view());
    return layer_of(magr::quantize_quip(scaled, gram, options, pool), [&](quantized_layer& layer, const auto& result) {
        layer.values = values_of(result.weights);
        scaling.undo(magr::as_mutable_view(layer.values));
        // codes, the scale of the whole matrix, and a share of seed and scales, which the library keeps in double
        layer.record.stored_bits = static_cast<double>(W.size()) * how.bits + 32 + 64.0 * static_cast<double>(1 + W.cols()) / basis.layers;
    });
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
    return layer_of(magr::quantize_owq(W, H, options, pool), [&](quantized_layer& layer, const auto& result) {
        layer.values = values_of(result.quantized.dequantize());
        layer.record.stored_bits = result.quantized.bits_per_weight() * static_cast<double>(W.size());
    });
}

quantized_layer dint(const matrix_f& W, const magr::hessian& H, const quantization& how, magr::thread_pool& pool) {
    const auto grids = magr::fit_dint_grids(W, H, {.bits = how.bits, .group_size = how.group_size, .storage = how.storage}, pool);
    const magr::ldl_feedback feedback{.damping = how.damping.value_or(1e-2)};
    const auto q = required(magr::round_onto(grids, W, H, feedback, {}, {.order = how.order}, pool));
    quantized_layer layer;
    layer.values = values_of(q.dequantize());
    layer.record.stored_bits = static_cast<double>(W.size()) * how.bits +
                               static_cast<double>(grids.scales.rows() * grids.scales.cols()) * (bits_of(how.storage) + how.bits);
    return layer;
}

/// Only attention's queries and keys have a metric of rows; other layers are OPTQ's.
quantized_layer boa(const matrix_f& W, const magr::hessian& H, const output_metric& metric, const quantization& how,
                    magr::thread_pool& pool) {
    if (metric.heads.empty()) return layer_of(magr::quantize_optq(W, H, grid_of(how), optq_of(how), pool));
    magr::boa_options options{.order = how.order};
    if (how.damping) options.damping = *how.damping;
    return layer_of(magr::quantize_boa(W, H, metric.heads, grid_of(how), options, pool));
}

/// What an error costs at the output, without what all weights of the layer have in common: tr(E H E^T) - 2 tr(W C E^T), E = Q - W, which
/// is
/// ||X W^T - Y Q^T||^2 up to a constant. C is 0 for methods that do not know the drift.
double cost_of(const matrix_f& W, const matrix_f& Q, const layer_calibration& calibration) {
    using matrix_d = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    const Eigen::Map<const matrix_d> H(calibration.gram.data(), W.cols(), W.cols());
    const matrix_d E = Q.cast<double>() - W.cast<double>();
    const double cost = (E * H).cwiseProduct(E).sum();
    if (calibration.drift.empty()) return cost;
    const Eigen::Map<const matrix_d> C(calibration.drift.data(), W.cols(), W.cols());
    return cost - 2 * (W.cast<double>() * C).cwiseProduct(E).sum();
}

quantized_layer round_by(const std::string& name, const matrix_f& W, const magr::hessian& H, const layer_calibration& calibration,
                         const output_metric& metric, const quantization& how, magr::thread_pool& pool) {
    switch (how.method) {
        case method::quip:
        case method::magr_quip: return quip(W, calibration, how, pool);
        case method::gpfq: return with_drift(W, H, calibration, magr::gpfq_drift{}, how, pool);
        case method::gptaq: {
            magr::gptaq gptaq;
            if (how.damping) gptaq.damping = *how.damping;
            return with_drift(W, H, calibration, gptaq, how, pool);
        }
        case method::qronos:
        case method::magr_qronos: {
            magr::qronos qronos;
            if (how.damping) {
                qronos.damping = *how.damping;
                qronos.unit = magr::qronos_damping_unit::mean;
            }
            return with_drift(W, H, calibration, qronos, how, pool);
        }
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
    return layer_of(magr::quantize_optq(W, H, grid_of(how), options, pool));
}

}  // namespace

input_basis common_basis(const std::string& name, std::span<const matrix_f* const> layers, const magr::matrix<double>& gram,
                         magr::thread_pool& pool) {
    Eigen::RowVectorXd energies = Eigen::RowVectorXd::Zero(gram.cols());
    for (const matrix_f* W : layers) energies += W->cast<double>().colwise().squaredNorm();
    const Eigen::RowVectorXd one_row = energies.cwiseSqrt();  // which has the scales of all rows
    const std::uint64_t seed = seed_of(name);
    return {seed, magr::fit_incoherence(one_row, gram, {.seed = seed}, pool).recipe().diagonal, static_cast<int>(layers.size())};
}

quantized_layer follow_published(const std::string& name, const matrix_f& W, const layer_calibration& calibration,
                                 const output_metric& metric, const quantization& how, magr::thread_pool& pool) {
    const magr::hessian H(calibration.gram, 0, pool);
    std::optional<quantized_layer> best;
    double least = 0;
    for (const double wanted : penalties_of(how)) {
        const double alpha = H.dead_inputs() < H.inputs() ? wanted : 0;  // without a live input there is nothing for MagR to do
        matrix_f M = W;
        if (alpha > 0) magr::preprocess(M, H, magr_of(how, alpha), {}, pool);
        quantized_layer layer = round_by(name, M, H, calibration, metric, how, pool);
        const double cost = cost_of(W, layer.values, calibration);
        if (best && !(cost < least)) continue;
        least = cost;
        layer.record.alpha = alpha;
        if (uses_magr(how.method)) {
            layer.record.largest_before = largest_per_row(W);
            layer.record.largest_after = largest_per_row(M);
        }
        best = std::move(layer);
    }
    layer_record& record = best->record;
    record.name = name;
    record.output_error = magr::output_error(W, best->values, H, pool);
    add_remark(record, remark_on_inputs(H.dead_inputs(), H.inputs(), "rounded to the nearest"));
    return *std::move(best);
}

}  // namespace examples
