// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <magr/detail/contract.hpp>
#include <magr/detail/validate.hpp>
#include <magr/fit/fit_grid.hpp>
#include <magr/grid/code_map.hpp>
#include <magr/grid/round_onto_grids.hpp>
#include <magr/transform/aqas.hpp>
#include <magr/transform/input_magnitudes.hpp>
#include <magr/transform/joint_loss.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

MAGR_CORE std::vector<std::string> problems(const aqas_options& options) {
    detail::problem_list found("aqas_options");
    if (options.activations) found.add_all(problems(*options.activations));
    found.require(options.steps >= 1 && options.steps <= 1000, "steps", "in 1..1000", options.steps);
    found.require(options.refine_passes >= 0, "refine_passes", "at least 0", options.refine_passes);
    found.require(options.refine_ratio > 1 && options.refine_ratio <= 16, "refine_ratio", "in (1, 16]", options.refine_ratio);
    return found.take();
}

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar Scalar>
void round_to_fitted_grids(matrix_view<Scalar> w, const grid_options& options, executor_ref exec) {
    validate(options);
    const weight_grids<Scalar> grids = fit_all<Scalar>("aqas_search", w, options, exec);
    const matrix<Scalar> rounded = round_onto_grids<Scalar>(w, grids, round_half_even{}, exec).dequantize();
    for (index_t i = 0; i < w.rows(); ++i) std::copy_n(&rounded(i, 0), w.cols(), &w(i, 0));
}

inline void require_aqas_arguments(std::span<const matrix_ref> W, const matrix_ref& X, const aqas_options& options, executor_ref exec) {
    validate(options);
    require_not_empty("aqas_search", "X", X);
    if (W.empty()) raise<shape_error>("aqas_search: W must have at least one matrix, it has 0");
    for (const matrix_ref& layer : W) {
        require_not_empty("aqas_search", "W", layer);
        require_shape("aqas_search", "W", layer, layer.rows(), X.cols());
    }
    if (!options.tie.empty() && static_cast<index_t>(options.tie.size()) != X.cols())
        raise<shape_error>(concat("aqas_search: tie must have ", X.cols(), " entries, it has ", options.tie.size()));
    for (const index_t group : options.tie) require_option(group >= 0 && group < X.cols(), "aqas_search", "tie", "in 0..inputs-1", group);
    require_finite("aqas_search", "X", X, exec);
    for (const matrix_ref& layer : W) require_finite("aqas_search", "W", layer, exec);
}

template <compute_scalar Scalar>
aqas_result run_aqas(std::span<const matrix_ref> W, const matrix_ref& X, const weight_rounding<Scalar>& rounding,
                     const aqas_options& options, executor_ref exec) {
    require_aqas_arguments(W, X, options, exec);
    const input_magnitudes inputs(W, X, options.tie);
    joint_loss<Scalar> loss_of(W, X, rounding, options.activations, inputs, exec);

    std::vector<double> best(inputs.is_live.size(), 1.0);
    const std::optional<double> identity = loss_of(inputs.by_input(best));
    if (!identity) raise<value_error>("aqas_search: the result of the quantizer must be about as large as W, its outputs overflow");
    double least = *identity;
    const auto lowers = [&](const std::vector<double>& s) {
        const std::optional<double> loss = loss_of(inputs.by_input(s));
        if (!loss || !(*loss < least)) return false;
        least = *loss;
        best = s;
        return true;
    };

    aqas_form form = aqas_form::identity;
    double a = 0, b = 0;
    const auto try_form = [&](aqas_form its_form, double its_a, double its_b) {
        if (!lowers(inputs.scales(its_form, its_a, its_b))) return;
        form = its_form;
        a = its_a;
        b = its_b;
    };
    const double steps = options.steps;
    for (int i = 0; i <= options.steps; ++i) try_form(aqas_form::maxima, i / steps, (options.steps - i) / steps);
    for (int i = 0; i <= options.steps; ++i)
        for (int k = 0; k <= options.steps; ++k) try_form(aqas_form::means, i / steps, k / steps);

    index_t refined = 0;
    for (int pass = 0; pass < options.refine_passes; ++pass) {
        const index_t before = refined;
        for (std::size_t g = 0; g < best.size(); ++g)
            for (const double ratio : {options.refine_ratio, 1 / options.refine_ratio}) {
                if (inputs.is_live[g] == 0) continue;
                std::vector<double> s = best;
                s[g] *= ratio;
                if (!lowers(s)) continue;
                ++refined;
                break;
            }
        if (refined == before) break;
    }

    return {column_scaling(inputs.by_input(best)), form, a, b, refined, std::ldexp(*identity, 2 * loss_of.unit()),
            std::ldexp(least, 2 * loss_of.unit())};
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr
