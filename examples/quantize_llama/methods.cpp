// SPDX-License-Identifier: MIT
#include "quantize_llama/methods.hpp"

#include <algorithm>
#include <exception>
#include <magr/calibration/weaken_correlations.hpp>
#include <magr/error.hpp>
#include <magr/layer/coupled_rows.hpp>
#include <magr/preprocess.hpp>
#include <stdexcept>
#include <utility>

#include "common/text_stream.hpp"
#include "quantize_llama/k_quant_method.hpp"
#include "quantize_llama/layer_settings.hpp"
#include "quantize_llama/published_methods.hpp"

namespace examples {
namespace {

/// Says in the report with what in a layer something was not as usual.
void add_remarks(layer_record& record, const magr::layer_result<float>& result, const magr::layer_options& options) {
    add_remark(record, remark_on_inputs(result.dead_inputs, result.quantized.codes.cols(),
                                        options.optq.dead == magr::dead_columns::zero ? "set to zero" : "rounded to the nearest"));
    add_status(record, result.status);
}

/// What the library is asked to do, MagR's penalty aside.
magr::layer_options layer_options_of(const quantization& how) {
    magr::layer_options options;
    options.quantizer = uses_optq(how.method) ? magr::layer_quantizer::optq : magr::layer_quantizer::rtn;
    options.grid = grid_of(how);
    options.optq = optq_of(how);
    options.target = how.target;
    options.refinement.rounds = traits_of(how.method).refines ? how.refinement_rounds : 0;
    if (how.damping) options.refinement.scales->damping = options.refinement.codes->damping = *how.damping;
    return options;
}

/// Which penalty is best differs from layer to layer; unless one is given, the layer is quantized with each and the smallest output
/// error decides. One of them is 0, so MagR is left out where it does not help.
quantized_layer search_penalty(const std::string& name, const matrix_f& W, const magr::matrix<double>& H, const quantization& how) {
    quantized_layer layer;
    layer_record& record = layer.record;
    magr::layer_options options = layer_options_of(how);
    for (const double alpha : penalties_of(how)) {
        options.preprocess.reset();
        if (alpha > 0) options.preprocess = magr_of(how, alpha);
        auto result = magr::quantize_layer(W, H, options);
        if (!result) throw std::runtime_error(to_string(result.status));
        const bool is_first = !layer.quantized;
        if (!is_first && *result.output_error >= record.output_error) continue;
        record = {.name = name, .output_error = *result.output_error};
        record.alpha = result.preprocess ? alpha : 0;  // without a live input there is nothing for MagR to do
        add_remarks(record, result, options);
        store(layer, std::move(result.quantized));
    }
    if (uses_magr(how.method)) {
        record.largest_before = largest_per_row(W);
        record.largest_after = record.largest_before;
        if (record.alpha > 0) {
            matrix_f M = W;
            magr::preprocess(M, H, magr_of(how, record.alpha));
            record.largest_after = largest_per_row(M);
        }
    }
    return layer;
}

/// As published, on our H: 200 steps of the authors' iteration without damping, their penalty, shrunken ranges, OPTQ, and coordinate
/// descent towards the original weights with the damping of their code.
quantized_layer follow_paper(const std::string& name, const matrix_f& W, const magr::matrix<double>& H, const quantization& how) {
    magr::layer_options options = layer_options_of(how);
    const magr::index_t group = how.group_size.value_or(0);
    options.preprocess = magr::preprocess_options{.alpha = group > 0 ? 1e-4 : 1e-3,
                                                  .group_size = how.group_size,
                                                  .solver = magr::preprocess_solver::proximal_gradient,
                                                  .damping = 0.0,
                                                  .max_iterations = 200,
                                                  .tolerance = 0.0};
    const auto shrink_per_channel = [](int bits) { return bits == 2 ? 0.8 : bits == 3 ? 0.9 : 1.0; };
    options.grid.range = magr::range_search::min_max;
    options.grid.range_factor = group == 0 ? shrink_per_channel(how.bits) : group >= 128 ? 0.95 : 1.0;
    options.optq = {.damping = 1e-2, .dead = magr::dead_columns::zero, .precision = magr::factor_precision::float64};
    options.refinement.rounds = 1;
    options.refinement.scales.reset();
    options.refinement.codes =
        magr::code_refinement_options{.max_passes = how.bits == 2 ? 30 : 1, .damping = 0.75, .denominator_offset = 0.1};

    auto result = magr::quantize_layer(W, H, options);
    if (!result) throw std::runtime_error(to_string(result.status));
    quantized_layer layer;
    layer.record = {.name = name, .output_error = *result.output_error};
    add_remarks(layer.record, result, options);
    if (result.preprocess) layer.record.alpha = *options.preprocess->alpha;
    store(layer, std::move(result.quantized));
    return layer;
}

/// A Gram matrix of a text for the work on another: the fewer tokens each of its rows had, the less its correlations count. `auto` fits
/// more to the calibration text than the other methods do. The usual damping, a multiple of the mean, would treat only inputs of like size
/// alike: a few large ones raise the mean above all others.
template <class Scalar>
magr::matrix<Scalar> with_weaker_correlations(magr::matrix<Scalar> H, magr::index_t tokens, double least) {
    constexpr double per_input = 10;
    magr::weaken_correlations(H, std::max(least, per_input * static_cast<double>(H.cols()) / static_cast<double>(tokens)));
    return H;
}

/// The weights first make up for the drift of their inputs and of the residual stream. Rows are then rounded so that they make up for each
/// other, in the metric of the outputs.
quantized_layer weigh_outputs(const std::string& name, const matrix_f& W, const layer_calibration& calibration, const output_metric& metric,
                              const quantization& how, magr::thread_pool& pool) {
    magr::coupled_options options;
    options.layer = layer_options_of(how);
    options.layer.target = magr::rounding_target::preprocessed;
    if (!how.range) options.layer.grid.range = magr::range_search::output_error;
    options.layer.grid.range_factor = 1;
    options.layer.refinement.rounds = how.refinement_rounds;

    const magr::hessian H(with_weaker_correlations(calibration.gram, calibration.tokens, 0.1), 0, pool);
    matrix_f target = W;
    const std::string drift_remark = compensate(target, H, calibration, how, 0.01, pool);
    auto result = magr::quantize_coupled_rows(target, H, with_weaker_correlations(metric.all, calibration.tokens, 0), options, pool);
    if (!result) throw std::runtime_error(to_string(result.status));
    quantized_layer layer;
    layer.record = {.name = name};
    add_remark(layer.record, remark_on_inputs(result.dead_inputs, W.cols(), "rounded to the nearest"));
    add_remark(layer.record, drift_remark);
    add_status(layer.record, result.status);
    store(layer, std::move(result.quantized));
    layer.record.output_error = magr::output_error(W, layer.values, calibration.gram, pool);
    return layer;
}

}  // namespace

std::vector<float> largest_per_row(const matrix_f& W) {
    std::vector<float> largest(static_cast<std::size_t>(W.rows()));
    Eigen::Map<Eigen::VectorXf>(largest.data(), W.rows()) = W.cwiseAbs().rowwise().maxCoeff();
    return largest;
}

std::string remark_on_inputs(magr::index_t dead, magr::index_t inputs, const char* treatment) {
    if (dead == 0) return {};
    text_stream remark;
    if (dead == inputs)
        remark << "all ";
    else
        remark << dead << " of ";
    remark << inputs << " inputs are zero on the calibration text, their weights are " << treatment;
    return remark.str();
}

std::vector<method> default_methods() {
    std::vector<method> methods;
    for (const method_traits& traits : method_table)
        if (traits.is_default) methods.push_back(traits.value);
    return methods;
}

bool takes(method m, std::string_view option) {
    const method_traits& traits = traits_of(m);
    const bool paper = m == method::paper, automatic = m == method::automatic, dint = m == method::dint;
    const bool quip = traits.rotates;  // one scale for the whole matrix
    if (option == "--group-size" || option == "--storage") return !quip;
    if (option == "--zero-point") return !quip && !dint;
    if (option == "--range") return !quip && !dint && !paper;
    if (option == "--beta") return !quip && !dint && !paper && !automatic;
    if (option == "--alpha" || option == "--solver") return traits.magr;
    if (option == "--target") return paper || (traits.magr && !traits.published);
    if (option == "--damping") return (traits.magr || traits.optq) && !paper && m != method::gpfq;
    if (option == "--order") return traits.optq && !paper;
    if (option == "--refinement-rounds") return traits.refines || automatic;
    if (option == "--drift" || option == "--effort") return automatic;
    return true;
}

std::vector<double> default_alphas(bool grouped) {
    if (grouped) return {0, 1e-5, 1e-4, 1e-3};
    return {0, 1e-4, 1e-3, 1e-2, 1e-1};
}

namespace {

quantized_layer follow_method(const std::string& name, const matrix_f& W, const layer_calibration& calibration, const output_metric& metric,
                              const quantization& how, magr::thread_pool& pool) {
    if (how.ggml && is_k_quant(*how.ggml)) return on_k_quant_grids(name, W, calibration, how, pool);
    if (how.method == method::paper) return follow_paper(name, W, calibration.gram, how);
    if (how.method == method::automatic) return weigh_outputs(name, W, calibration, metric, how, pool);
    if (traits_of(how.method).published) return follow_published(name, W, calibration, metric, how, pool);
    return search_penalty(name, W, calibration.gram, how);
}

}  // namespace

quantization for_layer(const quantization& how, const llama_config& config, std::int64_t layer, linear kind) {
    if (!how.gguf) return how;
    quantization one = how;
    one.ggml = type_in_mix(*how.gguf, config, layer, kind).type;
    const magr::grid_options grid = grid_options_of(*one.ggml);
    one.bits = grid.bits;
    one.zero_point = grid.zero_point;
    one.group_size = grid.group_size;
    one.storage = grid.storage;
    return one;
}

quantized_layer quantize_layer(const std::string& name, const matrix_f& W, const layer_calibration& calibration,
                               const output_metric& metric, const quantization& how, magr::thread_pool& pool) {
    try {
        quantized_layer layer = follow_method(name, W, calibration, metric, how, pool);
        layer.record.weights = W.size();
        if (how.ggml) {
            const ggml_block block = block_of(*how.ggml);
            layer.record.stored_bits =
                8.0 * static_cast<double>(block.bytes) / static_cast<double>(block.weights) * static_cast<double>(W.size());
        }
        return layer;
    } catch (const magr::option_error& error) {
        throw magr::option_error(name + " cannot be quantized: " + error.what());
    } catch (const std::exception& error) {
        throw std::runtime_error(name + " cannot be quantized: " + error.what());
    }
}

}  // namespace examples
