// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <magr/calibration/hessian.hpp>
#include <magr/calibration/token_sum.hpp>
#include <magr/detail/contract.hpp>
#include <magr/detail/convert.hpp>
#include <magr/detail/finite.hpp>
#include <magr/layer/automatic.hpp>
#include <magr/layer/core.hpp>
#include <magr/layer/layer_steps.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

MAGR_CORE std::vector<std::string> problems(const automatic_options& options) {
    detail::problem_list own("automatic_options");
    own.add_all(problems(options.layer));
    for (const double alpha : options.alphas) own.require(alpha >= 0 && detail::is_finite(alpha), "alphas", "finite and at least 0", alpha);
    own.require(!options.dampings.empty(), "dampings", "at least one", options.dampings.size());
    for (const double damping : options.dampings)
        own.require(damping >= 0 && detail::is_finite(damping), "dampings", "finite and at least 0", damping);
    for (const double factor : options.range_factors) own.require(factor > 0 && factor <= 1, "range_factors", "in (0, 1]", factor);
    own.require(options.required_gain >= 0 && options.required_gain < 1, "required_gain", "in [0, 1)", options.required_gain);
    return own.take();
}

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// The options of one candidate.
[[nodiscard]] inline layer_options options_of(const automatic_candidate& candidate, const layer_options& shared) {
    layer_options options = shared;
    if (candidate.alpha > 0) {
        if (!options.preprocess) options.preprocess.emplace();
        options.preprocess->alpha = candidate.alpha;
        options.preprocess->damping = candidate.damping;
    } else {
        options.preprocess.reset();
    }
    options.optq.damping = candidate.damping;
    if (options.refinement.scales) options.refinement.scales->damping = candidate.damping;
    if (options.refinement.codes) options.refinement.codes->damping = candidate.damping;
    if (candidate.range_factor) {
        options.grid.range = range_search::min_max;
        options.grid.range_factor = *candidate.range_factor;
    }
    return options;
}

/// The penalties to choose from, 0 among them, in increasing order and without repetition.
template <int Instance = 0>  // compiled only where it is called
[[nodiscard]] std::vector<double> penalties_of(const automatic_options& options) {
    std::vector<double> alphas = options.alphas;
    if (alphas.empty()) alphas = options.layer.grid.group_size ? std::vector{1e-5, 1e-4, 1e-3} : std::vector{1e-4, 1e-3, 1e-2};
    alphas.push_back(0);
    std::sort(alphas.begin(), alphas.end());
    alphas.erase(std::unique(alphas.begin(), alphas.end()), alphas.end());
    return alphas;
}

/// All candidates of one damping.
[[nodiscard]] inline std::vector<automatic_candidate> candidates_of(double damping, std::span<const double> alphas,
                                                                    std::span<const double> range_factors) {
    std::vector<automatic_candidate> candidates;
    for (const double alpha : alphas) {
        candidates.push_back({.alpha = alpha, .damping = damping});
        for (const double factor : range_factors) candidates.push_back({.alpha = alpha, .damping = damping, .range_factor = factor});
    }
    return candidates;
}

/// The result of one candidate, before refinement.
template <compute_scalar Scalar>
struct automatic_attempt {
    std::size_t candidate = 0;
    double error = std::numeric_limits<double>::infinity();  ///< of the codes, on the validation data
    layer_result<Scalar> layer;
    row_major_matrix<Scalar> M;  ///< the output of MagR; empty without MagR
    weight_grids<Scalar> grids;  ///< of M, or of the weights
};

/// The best attempt so far with MagR, and the best one without. The others are not kept.
template <compute_scalar Scalar>
struct best_attempts {
    std::optional<automatic_attempt<Scalar>> with, without;
};

/// The weights after MagR with one penalty, and its report.
template <compute_scalar Scalar>
struct preprocessed_weights {
    row_major_matrix<Scalar> M;
    preprocess_result report;
};

/// The weights after MagR with each of some increasing penalties; empty if H has no factor or no live input.
template <compute_scalar Scalar>
[[nodiscard]] std::vector<preprocessed_weights<Scalar>> preprocess_weights(const layer_input<Scalar>& in, std::span<const double> alphas,
                                                                           const preprocess_options& options, executor_ref exec) {
    if (alphas.empty() || !in.H().live().has_live()) return {};
    const matrix_view<const Scalar> W = in.weights();
    std::vector<preprocessed_weights<Scalar>> solutions(alphas.size(), {load<Scalar>(W), {}});
    std::vector<mutable_matrix_ref> out;
    for (auto& solution : solutions) out.emplace_back(as_mutable_view(solution.M));
    const auto reports = preprocess_each(W, out, alphas, in.H(), options, {}, exec);
    for (std::size_t k = 0; k < alphas.size(); ++k) {
        if (reports[k].stopped == stop_reason::not_factored) return {};
        solutions[k].report = reports[k];
        in.restore_dead(solutions[k].M);
    }
    return solutions;
}

/// Measures the output errors of candidates that share a damping, and keeps the best attempts.
/// @param first   how many candidates came before these
template <compute_scalar Scalar>
void try_candidates(matrix_view<const Scalar> W, const layer_input<Scalar>& in, const output_meter& validation, const layer_options& shared,
                    std::size_t first, std::span<automatic_candidate> candidates, best_attempts<Scalar>& best, executor_ref exec) {
    std::vector<double> alphas;
    for (const automatic_candidate& candidate : candidates)
        if (candidate.alpha > 0 && (alphas.empty() || alphas.back() < candidate.alpha)) alphas.push_back(candidate.alpha);
    const layer_options last = with_defaults(options_of(candidates.back(), shared));
    std::vector<preprocessed_weights<Scalar>> solutions;
    if (last.preprocess) solutions = preprocess_weights(in, alphas, *last.preprocess, exec);
    const optq_plan<Scalar>* plan = nullptr;
    if (last.quantizer == layer_quantizer::optq) plan = &plan_optq<Scalar>(in.H(), columns_per_group(last.grid, W.cols()), last.optq, exec);

    for (std::size_t k = 0; k < candidates.size(); ++k) {
        automatic_candidate& candidate = candidates[k];
        const bool with_magr = candidate.alpha > 0;
        if (with_magr && solutions.empty()) continue;
        const auto found = std::find(alphas.begin(), alphas.end(), candidate.alpha);
        const auto* const solution = with_magr ? &solutions[static_cast<std::size_t>(found - alphas.begin())] : nullptr;
        layer_options options = with_defaults(options_of(candidate, shared));
        options.optq.measure_error = false;
        automatic_attempt<Scalar> attempt;
        attempt.candidate = first + k;
        const matrix_view<const Scalar> fitted = solution ? as_const_view(solution->M) : in.weights();
        attempt.grids = fit_all<Scalar>(fitted, in.H(), options.grid, exec);
        attempt.layer = choose_codes(in, fitted, attempt.grids, plan, options, exec);
        if (attempt.layer) {
            const double error = validation.error(W, attempt.layer.quantized.dequantize(exec).view(), exec);
            if (!detail::is_nan(error)) candidate.output_error = attempt.error = error;
        }
        std::optional<automatic_attempt<Scalar>>& slot = with_magr ? best.with : best.without;
        if (slot && !(attempt.error < slot->error)) continue;
        if (solution) {
            attempt.M = solution->M;
            attempt.layer.preprocess = solution->report;
        }
        slot = std::move(attempt);
    }
}

/// Runs after all checks, on a copy of W in the arithmetic type.
template <compute_scalar Scalar>
[[nodiscard]] automatic_result<Scalar> automatic_checked(matrix_view<const Scalar> W, row_major_matrix<double> fitting,
                                                         row_major_matrix<double> validation, std::optional<index_t> tokens,
                                                         const automatic_options& options, executor_ref exec) {
    automatic_result<Scalar> result;
    const layer_options shared = with_defaults(options.layer);
    // an input that is nonzero only in the validation data is not dead
    for (index_t j = 0; j < W.cols(); ++j)
        if (fitting(j, j) == 0) fitting(j, j) = validation(j, j);
    const hessian H(as_const_view(fitting), shared.optq.dead_threshold, false);
    const layer_input<Scalar> in(W, H, shared);
    for (index_t j = 0; j < W.cols(); ++j) {  // but one that is dead by the threshold does not affect the choice
        if (!H.is_dead(j)) continue;
        validation.row(j).setZero();
        validation.col(j).setZero();
    }
    const hessian held_out(as_const_view(validation), 0, false);
    const output_meter meter(W, held_out, exec);
    const output_meter own_meter(W, H, exec);
    const auto measure = [&](const layer_result<Scalar>& layer) { return meter.error(W, layer.quantized.dequantize(exec).view(), exec); };

    std::vector<double> alphas = penalties_of(options);
    if (objection_to(in, tokens, shared)) {  // nothing to choose from
        result.candidates = candidates_of(options.dampings.front(), std::span(alphas).first(1), {});
        result.layer = layer_checked<Scalar>(W, H, tokens, options_of(result.candidates.front(), options.layer), exec);
        if (result.layer) result.validation_error = result.candidates.front().output_error = measure(result.layer);
        return result;
    }
    best_attempts<Scalar> best;
    for (const double damping : options.dampings) {
        std::vector<automatic_candidate> tried = candidates_of(damping, alphas, options.range_factors);
        try_candidates(W, in, meter, options.layer, result.candidates.size(), std::span(tried), best, exec);
        result.candidates.insert(result.candidates.end(), tried.begin(), tried.end());
        H.forget<optq_plan<Scalar>>();
        if (best.with && detail::is_finite(best.with->error)) alphas = {0, result.candidates[best.with->candidate].alpha};
    }

    const auto refined = [&](automatic_attempt<Scalar>& attempt) {
        const layer_options own = with_defaults(options_of(result.candidates[attempt.candidate], options.layer));
        layer_result<Scalar>& layer = attempt.layer;
        layer.tokens = tokens;
        measure_optq(layer, in, attempt.M.size() > 0 ? as_const_view(attempt.M) : in.weights(), own, exec);
        if (attempt.M.size() > 0) layer.output_error_preprocessed = own_meter.error(W, as_const_view(attempt.M), exec);
        complete(layer, W, in, attempt.M.size() > 0 ? nullptr : &attempt.grids, own_meter, own, exec);
        return layer ? measure(layer) : std::numeric_limits<double>::infinity();
    };
    const auto gains_enough = [&](double error, double than) { return error < (1 - options.required_gain) * than; };
    const auto take = [&](automatic_attempt<Scalar>& attempt, double error) {
        result.chosen = attempt.candidate;
        if (attempt.layer) result.validation_error = error;
        result.layer = std::move(attempt.layer);
    };
    const double without = refined(*best.without);
    if (!best.with || !gains_enough(best.with->error, best.without->error)) {
        take(*best.without, without);
        return result;
    }
    const double with = refined(*best.with);
    if (detail::is_finite(best.without->error)) {
        result.candidates[best.with->candidate].refined_error = with;
        result.candidates[best.without->candidate].refined_error = without;
    }
    const bool better = gains_enough(with, without);
    take(better ? *best.with : *best.without, better ? with : without);
    return result;
}

template <compute_scalar Scalar>
automatic_result<Scalar> run_automatic(const matrix_ref& W, const matrix_ref& fitting, const matrix_ref& validation,
                                       std::optional<index_t> fitting_tokens, std::optional<index_t> validation_tokens,
                                       const automatic_options& options, executor_ref exec) {
    validate(options);
    require_not_empty("quantize_automatic", "W", W);
    require_gram("quantize_automatic", "fitting", fitting, W.cols(), exec);
    require_gram("quantize_automatic", "validation", validation, W.cols(), exec);
    require_finite("quantize_automatic", "W", W, exec);
    std::optional<index_t> tokens;
    if (fitting_tokens && validation_tokens) tokens = tokens_together("quantize_automatic", *fitting_tokens, *validation_tokens);
    return automatic_checked<Scalar>(weights_in<Scalar>(W).view(), load<double>(fitting), load<double>(validation), tokens, options, exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr
