// SPDX-License-Identifier: MIT
// Calls every function that processes a whole layer, for tests of hosts.
#pragma once

#include <cmath>
#include <random>
#include <vector>

#include <magr/drift/gpfq_drift.hpp>
#include <magr/drift/gptaq.hpp>
#include <magr/drift/qronos.hpp>
#include <magr/drift/round_onto_drift.hpp>
#include <magr/magr.hpp>
#include <magr/quantize/round_onto.hpp>

namespace tests {

using magr::index_t;

constexpr index_t outputs = 100, inputs = 300;

struct layer {
    magr::matrix<float> W{outputs, inputs};
    magr::matrix<double> H{inputs, inputs}, D{inputs, inputs};
    magr::matrix<float> X{600, inputs}, Y{600, inputs};
};

inline layer make_layer() {
    std::mt19937 random(5);
    std::normal_distribution<float> normal;
    layer made;
    for (index_t i = 0; i < outputs; ++i)
        for (index_t j = 0; j < inputs; ++j) made.W(i, j) = 0.05F * normal(random);
    for (index_t t = 0; t < made.X.rows(); ++t) {
        const float common = normal(random);
        for (index_t j = 0; j < inputs; ++j) {
            made.X(t, j) = normal(random) + common;
            made.Y(t, j) = made.X(t, j) + 0.1F * normal(random);
        }
    }
    return made;
}

/// The results of these functions, as numbers.
struct numbers {
    std::vector<double> all;

    template <class T>
    void add(const magr::matrix<T>& m) {
        for (index_t i = 0; i < m.rows(); ++i)
            for (index_t j = 0; j < m.cols(); ++j) all.push_back(static_cast<double>(m(i, j)));
    }
    void add(double number) { all.push_back(number); }
    void add(const magr::quantized_matrix<float>& q) {
        add(q.codes);
        add(q.scales);
        add(q.zeros);
    }
};

/// Calls every function that processes a whole layer.
template <class Executor>
numbers run_all(layer l, Executor&& exec) {
    numbers out;
    magr::gram_accumulator<double> gram(inputs);
    gram.add(l.Y, exec);
    l.H = gram.gram(exec);
    magr::gram_accumulator<float> parts(inputs), part(inputs);
    parts.add(l.X, exec);
    part.add(l.Y, exec);
    parts.merge(part, exec);
    out.add(parts.gram(exec));
    magr::drift_accumulator<double> drift(inputs);
    drift.add(l.X, l.Y, exec);
    out.add(l.H);
    out.add(drift.drift());

    for (const double error : magr::choose_damping(magr::hessian(l.H), magr::hessian(parts), magr::default_dampings, exec).errors)
        out.add(error);

    const auto grids = magr::fit_grids(l.W, l.H, {.bits = 3, .range = magr::range_search::row_output_error}, exec);
    const auto optq = magr::quantize_optq(l.W, l.H, grids, {}, exec);
    out.add(optq.quantized);
    out.add(optq.output_error.value());
    out.add(magr::output_error(l.W, optq.quantized.dequantize(exec), l.H, exec));
    const auto live = magr::quantize_optq(l.W, l.H, {.bits = 3, .group_size = 64, .range = magr::range_search::mse},
                                          {.order = magr::column_order::act_order, .groups = magr::group_update::live}, exec);
    out.add(live.quantized);
    magr::matrix<float> cosines(600, 10), sines(600, 10);
    for (index_t t = 0; t < 600; ++t)
        for (index_t p = 0; p < 10; ++p) {
            cosines(t, p) = std::cos(static_cast<float>(t * (p + 1)));
            sines(t, p) = std::sin(static_cast<float>(t * (p + 1)));
        }
    const auto keys = magr::as_const_view(l.X).block(0, 0, 600, 25);
    const std::vector<magr::matrix<double>> rows = {magr::row_hessian_from_keys(keys, magr::rope_means(cosines, sines), exec),
                                                    magr::row_hessian_from_queries(magr::as_const_view(l.Y).block(0, 0, 600, 50), 2, exec)};
    for (const auto& H_row : rows) out.add(H_row);
    out.add(magr::value_hessian(magr::as_const_view(l.X).block(0, 0, 25, inputs), rows.front(), exec));
    const auto boa = magr::quantize_boa(l.W, l.H, rows, grids, {.rows_per_step = 4, .scale_passes = 1}, exec);
    out.add(boa.quantized);
    out.add(boa.loss);
    const auto owq = magr::quantize_owq(l.W, l.H, {.weak_columns = 6, .grid = {.bits = 3, .group_size = 64}, .clips = 4}, exec);
    out.add(owq.quantized.codes);
    out.add(owq.quantized.dequantize());
    const auto dint = magr::fit_dint_grids(l.W, l.H, {.group_size = 64, .range = magr::range_search::mse}, exec);
    out.add(dint.scales);
    out.add(magr::round_onto(dint, l.W, l.H, magr::ldl_feedback{}, magr::round_half_even{}, {}, exec)->dequantize());
    out.add(magr::round_onto_drift(grids, l.W, l.H, drift, magr::gpfq_drift{}, {}, {}, exec).value());
    out.add(magr::round_onto_drift(grids, l.W, l.H, drift, magr::gptaq{}, {}, {.order = magr::column_order::act_order}, exec).value());
    out.add(magr::round_onto_drift(grids, l.W, l.H, drift, magr::qronos{}, {}, {}, exec).value());
    out.add(magr::drift_target(l.W, l.H, drift, magr::qronos{}, magr::column_order::natural, {}, exec).value());
    const auto quip = magr::quantize_quip(l.W, l.H, {.bits = 3, .greedy_passes = 1}, exec);
    out.add(quip.quantized.quantized);
    out.add(quip.weights);
    magr::gram_accumulator<double> outputs_gram(outputs);
    outputs_gram.add(magr::as_const_view(l.X).block(0, 0, 600, outputs), exec);
    magr::coupled_options coupled_options;
    coupled_options.layer.grid.bits = 3;
    coupled_options.passes = 1;
    const auto coupled = magr::quantize_coupled_rows(l.W, l.H, outputs_gram.gram(exec), coupled_options, exec);
    out.add(coupled.quantized);
    for (const double loss : coupled.losses) out.add(loss);
    const auto bounds = magr::bound_errors(l.W, optq.quantized, l.H, l.Y, {}, exec);
    out.add(bounds.loss);
    out.add(bounds.loss_bound);
    out.add(bounds.largest_output_error.value());
    out.add(magr::measure_underflow(l.W, owq.quantized.dequantize(), l.H, exec).cross);
    auto refined =
        magr::quantize_rtn(l.W, {.bits = 3, .zero_point = magr::zero_point::offset, .group_size = 50}, magr::round_half_even{}, exec);
    magr::refine_scales(refined, l.W, l.H, {}, exec);
    magr::refine_codes(refined, l.W, l.H, {}, exec);
    out.add(refined);
    magr::matrix<double> compensated(outputs, inputs);
    for (index_t i = 0; i < outputs; ++i)
        for (index_t j = 0; j < inputs; ++j) compensated(i, j) = static_cast<double>(l.W(i, j));
    out.add(magr::compensate_drift(compensated, l.H, drift.drift(), {}, exec).change);
    out.add(compensated);
    out.add(magr::quantize_automatic(l.W, l.H, l.H, {}, exec).layer.quantized);
    out.add(
        magr::quantize_layer(l.W, l.H, {.grid = {.bits = 3, .group_size = 64}, .preprocess = magr::preprocess_options{}}, exec).quantized);

    magr::matrix<float> magr_weights = l.W, by_gradient = l.W, in_double = l.W;
    out.add(magr::preprocess(magr_weights, l.H, {}, magr::ignore_progress{}, exec).objective);
    out.add(magr_weights);
    magr::matrix<double> dominated = l.H;
    for (index_t i = 0; i < inputs; ++i)
        for (index_t j = 0; j < inputs; ++j) dominated(i, j) += 1e6;
    const auto report = magr::preprocess(in_double, dominated, {.damping = 1e-4}, magr::ignore_progress{}, exec);
    out.add(static_cast<double>(report.rows_in_double));
    out.add(in_double);
    out.add(magr::preprocess(by_gradient, l.H, {.solver = magr::preprocess_solver::proximal_gradient}, magr::ignore_progress{}, exec)
                .objective);

    magr::prox_linf(l.W, 0.1, {.along = magr::vector_axis::columns}, exec);
    magr::project_l1_ball(l.W, 1.0, {}, exec);
    out.add(l.W);
    magr::matrix<float> wide(32, 4096);
    for (index_t i = 0; i < wide.rows(); ++i)
        for (index_t j = 0; j < wide.cols(); ++j) wide(i, j) = l.X(i, j % inputs);
    magr::prox_linf(wide, 0.1, {}, exec);
    const auto k_quant =
        magr::quantize_rtn(wide, magr::fit_k_quant_grids(wide, magr::ggml_type::q4_k, exec), magr::round_half_even{}, exec);
    out.add(magr::unpack_gguf(magr::pack_gguf(k_quant, magr::ggml_type::q4_k)));
    const auto awq = magr::quantize_rtn(wide, magr::grid_options_for(magr::packed_format::awq), magr::round_half_even{}, exec);
    out.add(magr::unpack_awq(magr::pack_awq(awq)));
    return out;
}

}  // namespace tests
