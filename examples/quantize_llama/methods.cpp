// SPDX-License-Identifier: MIT
#include "quantize_llama/methods.hpp"

#include <limits>
#include <magr/preprocess.hpp>
#include <stdexcept>
#include <utility>

namespace examples {
namespace {

std::vector<float> largest_per_row(const matrix_f& W) {
    std::vector<float> largest(static_cast<std::size_t>(W.rows()));
    Eigen::Map<Eigen::VectorXf>(largest.data(), W.rows()) = W.cwiseAbs().rowwise().maxCoeff();
    return largest;
}

/// What the library is asked to do, MagR's penalty aside.
magr::layer_options layer_options_of(const quantization& how) {
    magr::layer_options options;
    options.quantizer = uses_optq(how.method) ? magr::quantizer::optq : magr::quantizer::rtn;
    options.grid = {.bits = how.bits,
                    .zero_point = how.zero_point,
                    .group_size = how.group_size,
                    .storage = how.storage,
                    .range = how.range,
                    .beta = how.beta};
    options.optq.order = how.order;
    options.target = how.target;
    options.refinement_rounds = refines(how.method) ? how.refinement_rounds : 0;
    if (how.damping) options.optq.damping = options.scales.damping = options.codes.damping = *how.damping;
    return options;
}

}  // namespace

const char* name_of(method m) {
    constexpr std::array names{"rtn", "optq", "optq+refine", "magr+rtn", "magr+optq", "magr+optq+refine"};
    return names[static_cast<std::size_t>(m)];
}

std::vector<double> default_alphas(bool grouped) {
    if (grouped) return {0, 1e-5, 1e-4, 1e-3};
    return {0, 1e-4, 1e-3, 1e-2, 1e-1};
}

/// Which penalty is best differs from layer to layer; unless one is given, the layer is quantized with each and the smallest output
/// error decides. One of them is 0, so MagR is left out where it does not help.
quantized_layer quantize_layer(const std::string& name, const matrix_f& W, const layer_calibration& calibration, const quantization& how) {
    const magr::matrix<double>& H = calibration.fitting;
    quantized_layer layer;
    layer_record& record = layer.record;
    record.name = name;
    record.output_error = std::numeric_limits<double>::infinity();
    magr::layer_options options = layer_options_of(how);
    std::vector<double> penalties = {0};
    if (uses_magr(how.method)) penalties = how.alpha ? std::vector<double>{*how.alpha} : default_alphas(how.group_size.has_value());
    for (const double alpha : penalties) {
        options.preprocessing.reset();
        if (alpha > 0)
            options.preprocessing =
                magr::preprocess_options{.alpha = alpha, .group_size = how.group_size, .solver = how.solver, .damping = how.damping};
        auto result = magr::quantize_layer(W, H, options);
        if (!result) throw std::runtime_error(name + " cannot be quantized: " + to_string(result.status));
        if (result.output_error > record.output_error) continue;
        record.output_error = result.output_error;
        record.alpha = alpha;
        layer.quantized = std::move(result.quantized);
    }
    if (uses_magr(how.method)) {
        record.largest_before = largest_per_row(W);
        record.largest_after = record.largest_before;
        if (record.alpha > 0) {
            matrix_f M = W;
            static_cast<void>(magr::preprocess(
                M, H, {.alpha = record.alpha, .group_size = how.group_size, .solver = how.solver, .damping = how.damping}));
            record.largest_after = largest_per_row(M);
        }
    }
    return layer;
}

}  // namespace examples
