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

#include <magr/calibration/gram.hpp>
#include <magr/detail/contract.hpp>
#include <magr/detail/convert.hpp>
#include <magr/detail/finite.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/quantize_layer.hpp>

namespace magr {

/// What `quantize_automatic` may choose from.
struct automatic_options {
    /// MagR's penalties, at least 0; 0, without MagR, is always tried. If empty: 1e-4, 1e-3 and 1e-2, with groups a tenth of these
    std::vector<double> alphas = {};
    std::vector<double> dampings = {1e-2, 1e-1};  ///< of MagR, OPTQ and refinement alike, at least 0; at least one
    std::vector<double> betas = {};               ///< factors of the min_max range to try beside `layer.grid`, in (0, 1]
    double required_gain = 0.1;                   ///< MagR is used only if its error is lower by this fraction, in [0, 1)
    layer_options layer = {};                     ///< shared by all candidates, which replace its penalty and dampings
};

/// One way to quantize a layer, and its error.
struct automatic_candidate {
    double alpha = 0;                          ///< MagR's penalty; 0: without MagR
    double damping = 0;                        ///< of all steps
    std::optional<double> beta = {};           ///< factor of the min_max range; no value: the range of the options
    std::optional<double> output_error = {};   ///< on the validation data, before refinement, if anything was quantized
    std::optional<double> refined_error = {};  ///< after refinement, of the best with MagR and the best without if they compete
};

/// Outcome of `quantize_automatic`.
template <compute_scalar Scalar>
struct [[nodiscard]] automatic_result {
    layer_result<Scalar> layer;                   ///< of the chosen candidate, made from the fitting data, with its report
    std::vector<automatic_candidate> candidates;  ///< all candidates tried, in order of damping, penalty, range
    std::size_t chosen = 0;                       ///< which of them was chosen
    std::optional<double>
        validation_error;  ///< output error of the result, if there is one, on the validation data, which only made the choice

    /// Whether there is a quantized matrix.
    [[nodiscard]] explicit operator bool() const noexcept { return static_cast<bool>(layer); }
};

inline namespace MAGR_ISA_NAMESPACE {

/// What is wrong with these options; empty if nothing is.
[[nodiscard]] inline std::vector<std::string> problems(const automatic_options& options) {
    std::vector<std::string> found = problems(options.layer);
    detail::problem_list own("automatic_options");
    for (const double alpha : options.alphas) own.require(alpha >= 0 && detail::is_finite(alpha), "alphas", "finite and at least 0", alpha);
    own.require(!options.dampings.empty(), "dampings", "at least one", options.dampings.size());
    for (const double damping : options.dampings)
        own.require(damping >= 0 && detail::is_finite(damping), "dampings", "finite and at least 0", damping);
    for (const double beta : options.betas) own.require(beta > 0 && beta <= 1, "betas", "in (0, 1]", beta);
    own.require(options.required_gain >= 0 && options.required_gain < 1, "required_gain", "in [0, 1)", options.required_gain);
    const std::vector<std::string> more = own.take();
    found.insert(found.end(), more.begin(), more.end());
    return found;
}

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// The options of one candidate.
[[nodiscard]] inline layer_options options_of(const automatic_candidate& candidate, const layer_options& shared) {
    layer_options options = shared;
    if (candidate.alpha > 0) {
        if (!options.preprocessing) options.preprocessing = preprocess_options{.group_size = shared.grid.group_size};
        options.preprocessing->alpha = candidate.alpha;
        options.preprocessing->damping = candidate.damping;
    } else {
        options.preprocessing.reset();
    }
    options.optq.damping = candidate.damping;
    if (options.scales) options.scales->damping = candidate.damping;
    if (options.codes) options.codes->damping = candidate.damping;
    if (candidate.beta) {
        options.grid.range = range_search::min_max;
        options.grid.beta = *candidate.beta;
    }
    return options;
}

/// The penalties to choose from, 0 among them, in increasing order and without repetition.
[[nodiscard]] inline std::vector<double> penalties_of(const automatic_options& options) {
    std::vector<double> alphas = options.alphas;
    if (alphas.empty()) alphas = options.layer.grid.group_size ? std::vector{1e-5, 1e-4, 1e-3} : std::vector{1e-4, 1e-3, 1e-2};
    alphas.push_back(0);
    std::sort(alphas.begin(), alphas.end());
    alphas.erase(std::unique(alphas.begin(), alphas.end()), alphas.end());
    return alphas;
}

/// All candidates of one damping.
[[nodiscard]] inline std::vector<automatic_candidate> candidates_of(double damping, std::span<const double> alphas,
                                                                    std::span<const double> betas) {
    std::vector<automatic_candidate> candidates;
    for (const double alpha : alphas) {
        candidates.push_back({.alpha = alpha, .damping = damping});
        for (const double beta : betas) candidates.push_back({.alpha = alpha, .damping = damping, .beta = beta});
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
[[nodiscard]] std::vector<preprocessed_weights<Scalar>> preprocess_each(const layer_input<Scalar, const double>& in,
                                                                        std::span<const double> alphas, const preprocess_options& options,
                                                                        executor_ref exec) {
    if (alphas.empty() || !in.gram().has_live()) return {};
    const row_major_matrix<Scalar>& W = in.weights();
    std::vector<preprocessed_weights<Scalar>> solutions(alphas.size(), {W, {}});
    const solver_settings settings = resolve(options, W.cols());
    const auto problem = make_layer_problem(in.gram().view(), settings.group_size, settings.damping);
    layer_solver<Scalar, double> solver(problem, options.solver, settings);
    for (std::size_t k = 0; k < alphas.size(); ++k) {
        solutions[k].report = solver.solve(alphas[k], as_const_view(W), as_mutable_view(solutions[k].M), {}, exec);
        if (solutions[k].report.stopped == stop_reason::not_factored) return {};
        in.restore_dead(solutions[k].M);
    }
    return solutions;
}

/// Measures the output errors of candidates that share a damping, and keeps the best attempts.
/// @param first   how many candidates came before these
template <compute_scalar Scalar>
void try_candidates(const row_major_matrix<Scalar>& W, const layer_input<Scalar, const double>& in, const output_meter& validation,
                    const layer_options& shared, std::size_t first, std::span<automatic_candidate> candidates, best_attempts<Scalar>& best,
                    executor_ref exec) {
    std::vector<double> alphas;
    for (const automatic_candidate& candidate : candidates)
        if (candidate.alpha > 0 && (alphas.empty() || alphas.back() < candidate.alpha)) alphas.push_back(candidate.alpha);
    const layer_options last = options_of(candidates.back(), shared);
    std::vector<preprocessed_weights<Scalar>> solutions;
    if (last.preprocessing) solutions = preprocess_each(in, alphas, *last.preprocessing, exec);
    std::optional<optq_plan<Scalar>> plan;
    if (last.quantizer == quantizer::optq)
        plan = make_optq_plan<Scalar>(in.gram().view(), columns_per_group(last.grid, W.cols()), last.optq, exec);

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
        const row_major_matrix<Scalar>& fitted = solution ? solution->M : in.weights();
        attempt.grids = fit_grids<Scalar>(as_const_view(fitted), in.gram().view(), options.grid, exec);
        attempt.layer = choose_codes(in, fitted, attempt.grids, plan ? &*plan : nullptr, options, exec);
        if (attempt.layer) {
            const double error = validation.error(as_const_view(W), attempt.layer.quantized.dequantize().view(), exec);
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
[[nodiscard]] automatic_result<Scalar> run_automatic(const row_major_matrix<Scalar>& W, row_major_matrix<double> fitting,
                                                     row_major_matrix<double> validation, std::optional<index_t> tokens,
                                                     const automatic_options& options, executor_ref exec) {
    automatic_result<Scalar> result;
    const auto w = as_const_view(W);
    const layer_options shared = with_defaults(options.layer);
    // an input that is nonzero only in the validation data is not dead
    for (index_t j = 0; j < W.cols(); ++j)
        if (fitting(j, j) == 0) fitting(j, j) = validation(j, j);
    const layer_input<Scalar, const double> in(W, as_const_view(fitting), shared);
    for (index_t j = 0; j < W.cols(); ++j) {  // but one that is dead by the threshold does not affect the choice
        if (!in.gram().is_dead(j)) continue;
        validation.row(j).setZero();
        validation.col(j).setZero();
    }
    const output_meter meter(w, as_const_view(validation), exec);
    const output_meter own_meter(w, in.h(), exec);
    const auto measure = [&](const layer_result<Scalar>& layer) { return meter.error(w, layer.quantized.dequantize().view(), exec); };

    std::vector<double> alphas = penalties_of(options);
    if (objection_to(in, tokens, shared)) {  // nothing to choose from
        result.candidates = candidates_of(options.dampings.front(), std::span(alphas).first(1), {});
        result.layer = run_layer(W, in.h(), tokens, options_of(result.candidates.front(), options.layer), exec);
        if (result.layer) result.validation_error = result.candidates.front().output_error = measure(result.layer);
        return result;
    }
    best_attempts<Scalar> best;
    for (const double damping : options.dampings) {
        std::vector<automatic_candidate> tried = candidates_of(damping, alphas, options.betas);
        try_candidates(W, in, meter, options.layer, result.candidates.size(), std::span(tried), best, exec);
        result.candidates.insert(result.candidates.end(), tried.begin(), tried.end());
        if (best.with && detail::is_finite(best.with->error)) alphas = {0, result.candidates[best.with->candidate].alpha};
    }

    const auto refined = [&](automatic_attempt<Scalar>& attempt) {
        const layer_options own = with_defaults(options_of(result.candidates[attempt.candidate], options.layer));
        layer_result<Scalar>& layer = attempt.layer;
        layer.tokens = tokens;
        measure_optq(layer, in, attempt.M.size() > 0 ? attempt.M : in.weights(), own, exec);
        if (attempt.M.size() > 0) layer.output_error_preprocessed = own_meter.error(w, as_const_view(attempt.M), exec);
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

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// Quantizes the weights of one layer, and chooses MagR's penalty, the damping and the range by their error on held-out data:
///
///     1. every candidate quantizes W (MagR, grids, codes) with the fitting data alone; its error is
///        tr((Q - W) V (Q - W)^T) / tr(W V W^T), where V is the Gram matrix of the validation data. The first damping is tried with all
///        penalties and ranges, each other damping with all ranges, without a penalty and with the best penalty so far
///     2. if the best candidate with MagR beats the best one without by `required_gain`, both are refined, and the one with MagR is taken
///        if it still does; otherwise the one without is refined and taken
///
/// The function returns that very candidate, so its error on held-out data is known. An input that is always zero in the fitting data
/// alone counts there with its energy in the validation data; an input that is dead by the threshold does not count in the errors that
/// choose.
///
/// A penalty tuned on the calibration text may not generalise, and the best one differs between layers and bits by orders of magnitude.
/// Refinement takes longer than everything else, and often undoes what MagR gained. MagR also shrinks the outputs of a layer. Unlike
/// rounding errors, this adds up over layers: on the small networks measured, gains of a few percent in the layers were losses in
/// perplexity. Hence the candidate with MagR must win by a tenth.
///
/// @par Shapes    W: rows x cols; fitting, validation: cols x cols, the Gram matrices H = X^T X of two parts of the calibration data, sums
///                of the same convention. Split by sequence, because tokens of one sequence resemble each other; a quarter for validation
///                works well. Any storage and layout; nothing is written
/// @return        the layer and a table of the candidates
/// @par Cost      for each damping one factorization for MagR and one for OPTQ; the penalties start from each other's solutions; for each
///                candidate OPTQ and half a product to measure; then refinement and the report of one, or two. Allocates a copy of W for
///                each penalty, the codes of three candidates, and three matrices of H's size in double
/// @par Numerics  those of its steps; the same bits for every executor
/// @par Errors    option_error, with every problem of all options; shape_error; value_error if an entry is NaN or infinite, or an
///                argument is not a Gram matrix. All before any work
template <class Weights, class Fitting, class Validation>
    requires dense_matrix<const Fitting> && dense_matrix<const Validation>
auto quantize_automatic(const Weights& W, const Fitting& fitting, const Validation& validation, const automatic_options& options = {},
                        executor_ref exec = {}) {
    const auto w = as_const_view(W);
    const auto f = as_const_view(fitting);
    const auto v = as_const_view(validation);
    using scalar = compute_t<typename decltype(w)::value_type>;
    validate(options);
    detail::require_layer("quantize_automatic", w, f, exec);
    detail::require_gram("quantize_automatic", "validation", v, w.cols());
    return detail::run_automatic(detail::load<scalar>(w), detail::load<double>(f), detail::load<double>(v), std::nullopt, options, exec);
}

/// The same with the Gram matrices of two accumulators; the report then includes their number of tokens.
/// @par Errors    also value_error if an accumulator has seen no token
template <class Weights, compute_scalar Sum>
auto quantize_automatic(const Weights& W, const gram_accumulator<Sum>& fitting, const gram_accumulator<Sum>& validation,
                        const automatic_options& options = {}, executor_ref exec = {}) {
    const auto w = as_const_view(W);
    using scalar = compute_t<typename decltype(w)::value_type>;
    validate(options);
    detail::require_not_empty("quantize_automatic", "W", w);
    const matrix<Sum> fitting_gram = fitting.gram(exec), validation_gram = validation.gram(exec);
    const auto f = fitting_gram.view(), v = validation_gram.view();
    detail::require_gram("quantize_automatic", "fitting", f, w.cols());
    detail::require_gram("quantize_automatic", "validation", v, w.cols());
    detail::require_finite("quantize_automatic", "W", w);
    return detail::run_automatic(detail::load<scalar>(w), detail::load<double>(f), detail::load<double>(v),
                                 detail::tokens_together("quantize_automatic", fitting.tokens(), validation.tokens()), options, exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
