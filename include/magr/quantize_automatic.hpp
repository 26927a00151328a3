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
#include <magr/parallel/executor.hpp>
#include <magr/quantize_layer.hpp>

namespace magr {

/// What `quantize_automatic` may choose from.
struct automatic_options {
    /// MagR's penalties, at least 0; 0, MagR left out, is one in any case. If empty: 1e-4, 1e-3 and 1e-2, with groups a tenth of these
    std::vector<double> alphas = {};
    std::vector<double> dampings = {1e-2, 1e-1};  ///< of MagR, OPTQ and refinement alike, at least 0; at least one
    std::vector<double> betas = {};               ///< factors of the min_max range that are tried beside `layer.grid`, in (0, 1]
    double required_gain = 0.1;                   ///< MagR is used only if its error is lower by this fraction, in [0, 1)
    layer_options layer = {};                     ///< what all candidates share; its penalty and its dampings are replaced
};

/// One way to quantize a layer, and what came of it.
struct automatic_candidate {
    double alpha = 0;                          ///< MagR's penalty; 0: without MagR
    double damping = 0;                        ///< of all steps
    std::optional<double> beta = {};           ///< factor of the min_max range; none: the range as in the options
    double output_error = 0;                   ///< on the validation data, before refinement; infinite if nothing was quantized
    std::optional<double> refined_error = {};  ///< the same after it, of the best with MagR and the best without if they compete
};

/// Outcome of `quantize_automatic`.
template <compute_scalar Scalar>
struct [[nodiscard]] automatic_result {
    layer_result<Scalar> layer;                   ///< the layer, by the candidate chosen
    std::vector<automatic_candidate> candidates;  ///< all that were tried, in order of damping, penalty, range
    std::size_t chosen = 0;                       ///< which of them was chosen
    double validation_error = 0;                  ///< output error of the result on the validation data, which took part in it

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

/// Refuses options outside of their documented range.
/// @par Errors    option_error, with all problems
inline void validate(const automatic_options& options) { detail::refuse_problems(problems(options)); }

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

/// All candidates of one damping. Their output errors are infinite until they are known.
[[nodiscard]] inline std::vector<automatic_candidate> candidates_of(double damping, std::span<const double> alphas,
                                                                    std::span<const double> betas) {
    constexpr double unknown = std::numeric_limits<double>::infinity();
    std::vector<automatic_candidate> candidates;
    for (const double alpha : alphas) {
        candidates.push_back({.alpha = alpha, .damping = damping, .output_error = unknown});
        for (const double beta : betas) candidates.push_back({.alpha = alpha, .damping = damping, .beta = beta, .output_error = unknown});
    }
    return candidates;
}

/// The candidate of smallest error among those with MagR, or those without; null if there is none.
[[nodiscard]] inline automatic_candidate* best_of(std::span<automatic_candidate> candidates, bool with_magr) {
    automatic_candidate* found = nullptr;
    for (automatic_candidate& candidate : candidates)
        if ((candidate.alpha > 0) == with_magr && (found == nullptr || candidate.output_error < found->output_error)) found = &candidate;
    return found;
}

/// The weights after MagR with each of some penalties. Without a factor of H nothing.
template <compute_scalar Scalar, class Executor>
[[nodiscard]] std::vector<row_major_matrix<Scalar>> preprocess_each(const row_major_matrix<Scalar>& W, matrix_view<const double> h,
                                                                    std::span<const double> alphas, const preprocess_options& options,
                                                                    Executor& exec) {
    std::vector<row_major_matrix<Scalar>> solutions(alphas.size(), W);
    const solver_settings settings = resolve(options, W.cols());
    const auto problem = make_layer_problem(h, settings.group_size, settings.damping);
    if (problem.lambda_max == 0) return solutions;
    layer_solver<Scalar, double> solver(problem, options.solver, settings);
    ignore_progress nobody;
    for (std::size_t k = 0; k < alphas.size(); ++k)
        if (solver.solve(alphas[k], as_const_view(W), as_mutable_view(solutions[k]), nobody, exec).stopped == stop_reason::not_factored)
            return {};
    return solutions;
}

/// Measures the output errors of candidates that share a damping.
template <compute_scalar Scalar, class Executor>
void try_candidates(const row_major_matrix<Scalar>& W, matrix_view<const double> h, const output_meter& validation,
                    const layer_options& shared, std::span<automatic_candidate> candidates, Executor& exec) {
    std::vector<double> alphas;
    for (const automatic_candidate& candidate : candidates)
        if (candidate.alpha > 0 && (alphas.empty() || alphas.back() < candidate.alpha)) alphas.push_back(candidate.alpha);
    const layer_options last = options_of(candidates.back(), shared);
    std::vector<row_major_matrix<Scalar>> solutions;
    if (last.preprocessing) solutions = preprocess_each(W, h, alphas, *last.preprocessing, exec);
    std::optional<optq_plan<Scalar>> plan;
    if (last.quantizer == quantizer::optq) plan = make_optq_plan<Scalar>(h, columns_per_group(last.grid, W.cols()), last.optq, exec);

    for (automatic_candidate& candidate : candidates) {
        const auto found = std::find(alphas.begin(), alphas.end(), candidate.alpha);
        if (candidate.alpha > 0 && solutions.empty()) continue;
        const row_major_matrix<Scalar>& M = candidate.alpha > 0 ? solutions[static_cast<std::size_t>(found - alphas.begin())] : W;
        layer_options options = with_range(options_of(candidate, shared));
        options.optq.measure_error = false;
        const auto m = as_const_view(M);
        const auto measure = [&](const quantized_matrix<Scalar>& q) {
            const double error = validation.error(as_const_view(W), q.dequantize().view(), exec);
            if (!is_nan(error)) candidate.output_error = error;
        };
        const weight_grids<Scalar> grids = fit_grids<Scalar>(m, h, options.grid, exec);
        const auto target = options.target == rounding_target::original ? as_const_view(W) : m;
        if (!plan) {
            measure(round_onto_grids(target, grids, round_half_even{}));
            continue;
        }
        const bool fixed = options.optq.groups == group_update::fixed;
        const auto optq = run_optq<Scalar>(target, h, *plan, fixed ? &grids : nullptr, options.grid, options.optq, exec);
        if (optq) measure(optq.quantized);
    }
}

/// The candidate to take: the best one without MagR, unless the best one with it is better by the gain that is required, when both are
/// refined.
template <compute_scalar Scalar, class Executor>
[[nodiscard]] std::size_t choose(const row_major_matrix<Scalar>& W, matrix_view<const double> h, const output_meter& validation,
                                 const automatic_options& options, std::span<automatic_candidate> candidates, Executor& exec) {
    automatic_candidate* const without = best_of(candidates, false);
    automatic_candidate* const with = best_of(candidates, true);
    const auto index = [&](const automatic_candidate* candidate) { return static_cast<std::size_t>(candidate - candidates.data()); };
    const auto gains_enough = [&](double error, double than) { return error < (1 - options.required_gain) * than; };
    if (with == nullptr || !gains_enough(with->output_error, without->output_error)) return index(without);
    for (automatic_candidate* const candidate : {without, with}) {
        if (!is_finite(candidate->output_error)) return index(with);  // nothing without MagR
        candidate->refined_error = candidate->output_error;
        if (options.layer.refinement_rounds == 0) continue;
        const auto refined = run_layer(W, h, std::nullopt, options_of(*candidate, options.layer), exec);
        if (refined) candidate->refined_error = validation.error(as_const_view(W), refined.quantized.dequantize().view(), exec);
    }
    return index(gains_enough(*with->refined_error, *without->refined_error) ? with : without);
}

/// After all checks, on a copy of W in the arithmetic type.
template <compute_scalar Scalar, class Executor>
[[nodiscard]] automatic_result<Scalar> run_automatic(const row_major_matrix<Scalar>& W, const row_major_matrix<double>& fitting,
                                                     const row_major_matrix<double>& validation, std::optional<index_t> tokens,
                                                     const automatic_options& options, Executor& exec) {
    automatic_result<Scalar> result;
    const output_meter meter(as_const_view(W), as_const_view(validation), exec);
    std::vector<double> alphas = penalties_of(options);
    for (const double damping : options.dampings) {
        std::vector<automatic_candidate> tried = candidates_of(damping, alphas, options.betas);
        try_candidates(W, as_const_view(fitting), meter, options.layer, std::span(tried), exec);
        result.candidates.insert(result.candidates.end(), tried.begin(), tried.end());
        const automatic_candidate* const best = best_of(std::span(result.candidates), true);
        if (best && is_finite(best->output_error)) alphas = {0, best->alpha};
    }
    result.chosen = choose(W, as_const_view(fitting), meter, options, std::span(result.candidates), exec);

    const row_major_matrix<double> all = fitting + validation;
    result.layer = run_layer(W, as_const_view(all), tokens, options_of(result.candidates[result.chosen], options.layer), exec);
    if (result.layer) result.validation_error = meter.error(as_const_view(W), result.layer.quantized.dequantize().view(), exec);
    return result;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// Quantizes the weights of one layer, and chooses MagR's penalty, the damping and the range by what they do to data that had no part
/// in it:
///
///     1. every candidate quantizes W with the fitting data alone, by MagR, grids and codes, and is measured:
///        tr((Q - W) V (Q - W)^T) / tr(W V W^T), V the Gram matrix of the validation data. All penalties and ranges are tried with the
///        first damping; with each other one all ranges with no penalty and with the best penalty so far
///     2. the best one with MagR, if it is better than the best one without by `required_gain`, is refined like that one, and taken if
///        it still is
///     3. `quantize_layer` does the same with all the data
///
/// A penalty that suits the calibration text may suit nothing else, and the best one differs between layers and bits by orders of
/// magnitude. Refinement takes longer than all else, and what MagR has gained is often gone after it. MagR also shrinks the outputs of a
/// layer, which adds up over layers where rounding errors do not: on the small networks measured, gains of a few percent in the layers were
/// losses in perplexity. Hence a gain of a tenth is required.
///
/// @par Shapes    W: rows x cols; fitting, validation: cols x cols, the Gram matrices H = X^T X of two parts of the calibration data, sums
///                of the same convention. Split by sequence, as the tokens of one resemble each other; a quarter for validation serves
///                well. Any storage and layout; nothing is written
/// @return        the layer, and a table of the candidates
/// @par Cost      for each damping one factorization for MagR and one for OPTQ; the penalties start from each other's solutions; for each
///                candidate OPTQ and half a product to measure; then one `quantize_layer`, or three. Allocates a copy of W for each
///                penalty, and three matrices of H's size in double
/// @par Numerics  those of its steps; the same bits for every executor
/// @par Errors    option_error, with every problem of all options; shape_error; value_error if an entry is NaN or infinite, or a Gram
///                matrix is none. All before any work
template <class Weights, class Fitting, class Validation, executor Executor = serial_executor>
    requires dense_matrix<const Fitting> && dense_matrix<const Validation>
auto quantize_automatic(const Weights& W, const Fitting& fitting, const Validation& validation, const automatic_options& options = {},
                        Executor&& exec = {}) {
    const auto w = as_const_view(W);
    const auto f = as_const_view(fitting);
    const auto v = as_const_view(validation);
    using scalar = compute_t<typename decltype(w)::value_type>;
    validate(options);
    detail::require_layer("quantize_automatic", w, f, exec);
    detail::require_gram("quantize_automatic", "validation", v, w.cols());
    return detail::run_automatic(detail::load<scalar>(w), detail::load<double>(f), detail::load<double>(v), std::nullopt, options, exec);
}

/// The same for the Gram matrices that two accumulators have gathered; the number of their tokens is then part of the report.
/// @par Errors    also value_error if one has seen no token
template <class Weights, compute_scalar Sum, executor Executor = serial_executor>
auto quantize_automatic(const Weights& W, gram_accumulator<Sum>& fitting, gram_accumulator<Sum>& validation,
                        const automatic_options& options = {}, Executor&& exec = {}) {
    const auto w = as_const_view(W);
    using scalar = compute_t<typename decltype(w)::value_type>;
    validate(options);
    detail::require_not_empty("quantize_automatic", "W", w);
    const auto f = as_const_view(fitting.gram());
    const auto v = as_const_view(validation.gram());
    detail::require_gram("quantize_automatic", "fitting", f, w.cols());
    detail::require_gram("quantize_automatic", "validation", v, w.cols());
    detail::require_finite("quantize_automatic", "W", w);
    return detail::run_automatic(detail::load<scalar>(w), detail::load<double>(f), detail::load<double>(v),
                                 fitting.tokens() + validation.tokens(), options, exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
