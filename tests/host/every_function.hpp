// SPDX-License-Identifier: MIT
// Calls every function that processes a whole layer, for tests of hosts.
#pragma once

#include <random>
#include <vector>

#include <magr/magr.hpp>

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

    const auto grids = magr::fit_grids(l.W, l.H, {.bits = 3, .range = magr::range_search::row_output_error}, exec);
    const auto optq = magr::quantize_optq(l.W, l.H, grids, {}, exec);
    out.add(optq.quantized);
    out.add(optq.output_error.value());
    out.add(magr::output_error(l.W, optq.quantized.dequantize(exec), l.H, exec));
    const auto live = magr::quantize_optq(l.W, l.H, {.bits = 3, .group_size = 64, .range = magr::range_search::mse},
                                          {.order = magr::column_order::act_order, .groups = magr::group_update::live}, exec);
    out.add(live.quantized);
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
