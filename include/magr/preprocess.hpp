// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <magr/detail/contract.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/preprocess/admm.hpp>
#include <magr/preprocess/options.hpp>
#include <magr/preprocess/proximal_gradient.hpp>
#include <magr/preprocess/result.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

/// What is wrong with these options, each problem with option, range and value; empty if nothing is.
[[nodiscard]] inline std::vector<std::string> problems(const preprocess_options& options) {
    detail::problem_list found("preprocess_options");
    const auto not_negative = [](double value) { return std::isfinite(value) && value >= 0; };
    found.require(not_negative(options.alpha.value_or(0)), "alpha", "finite and at least 0", options.alpha.value_or(0));
    found.require(options.group_size.value_or(1) >= 1, "group_size", "at least 1", options.group_size.value_or(1));
    found.require(options.solver == solver::admm || options.solver == solver::proximal_gradient, "solver", "admm or proximal_gradient",
                  static_cast<int>(options.solver));
    found.require(not_negative(options.damping.value_or(0)), "damping", "finite and at least 0", options.damping.value_or(0));
    found.require(options.max_iterations.value_or(1) >= 1, "max_iterations", "at least 1", options.max_iterations.value_or(1));
    found.require(not_negative(options.tolerance.value_or(0)), "tolerance", "finite and at least 0", options.tolerance.value_or(0));
    found.require(options.check_interval >= 1, "check_interval", "at least 1", options.check_interval);
    found.require(std::isfinite(options.rho) && options.rho > 0, "rho", "finite and above 0", options.rho);
    found.require(options.relaxation > 0 && options.relaxation < 2, "relaxation", "between 0 and 2 exclusively", options.relaxation);
    return found.take();
}

/// Refuses options outside of their ranges.
/// @par Errors    option_error, with all problems
inline void validate(const preprocess_options& options) { detail::refuse_problems(problems(options)); }

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

[[nodiscard]] inline solver_settings resolve(const preprocess_options& options, index_t inputs) {
    const bool authors = options.solver == solver::proximal_gradient;
    return {.alpha = options.alpha.value_or(options.group_size ? 1e-4 : 1e-3),
            .group_size = options.group_size.value_or(inputs),
            .damping = options.damping.value_or(authors ? 0 : 1e-2),
            .max_iterations = options.max_iterations.value_or(authors ? 200 : 100),
            .tolerance = options.tolerance.value_or(authors ? 0 : 1e-3),
            .check_interval = options.check_interval,
            .rho = options.rho,
            .relaxation = options.relaxation};
}

template <compute_scalar S>
void report_magnitudes(const layer_problem<S>& problem, const row_major_matrix<S>& W, double& largest, double& mean) {
    double total = 0;
    for (index_t i = 0; i < W.rows(); ++i)
        problem.for_each_group([&](index_t, index_t j, index_t size) {
            const auto norm = static_cast<double>(W.row(i).segment(j, size).template lpNorm<Eigen::Infinity>());
            largest = std::max(largest, norm);
            total += norm;
        });
    mean = total / static_cast<double>(W.rows() * problem.groups());
}

/// tr(A H A^T) with the undamped H, by blocks of rows
template <compute_scalar S>
[[nodiscard]] double undamped_energy(const layer_problem<S>& problem, const row_major_matrix<S>& A) {
    constexpr index_t tile = 256;
    double total = 0;
    row_major_matrix<S> product;
    for (index_t first = 0; first < A.rows(); first += tile) {
        const auto rows = A.middleRows(first, std::min(tile, A.rows() - first));
        product.noalias() = rows * problem.H;
        total += (rows.template cast<double>().array() *
                  (product.template cast<double>() - problem.shift * rows.template cast<double>()).array())
                     .sum();
    }
    return std::max(0.0, total);
}

template <compute_scalar S, progress_observer Observer>
[[nodiscard]] preprocess_result solve(const layer_problem<S>& problem, const preprocess_options& options, const solver_settings& settings,
                                      Observer& observer, row_major_matrix<S>& W) {
    const duality_gap<S> gap(problem);
    solve_outcome outcome;
    const auto run = [&](auto&& method) {
        outcome = run_solver(method, gap, settings, observer);
        W = method.point();
    };
    if (options.solver == solver::admm)
        run(admm<S>(problem, settings));
    else
        run(proximal_gradient<S>(problem));

    preprocess_result result;
    result.stopped = outcome.stopped;
    result.iterations = outcome.iterations;
    double dual = 0;
    for (index_t i = 0; i < problem.rows(); ++i) {
        const auto row = static_cast<std::size_t>(i);
        double before = 0;
        problem.for_each_group([&](index_t, index_t j, index_t size) {
            before += settings.alpha * static_cast<double>(problem.W0.row(i).segment(j, size).template lpNorm<Eigen::Infinity>());
        });
        // An early stop must not leave a row worse than it was.
        double primal = outcome.bounds.primal[row];
        if (primal > before) {
            W.row(i) = problem.W0.row(i);
            primal = before;
        }
        const double relative = certificate::relative(primal, outcome.bounds.dual[row]);
        result.objective_before += before;
        result.objective += primal;
        dual += outcome.bounds.dual[row];
        result.largest_gap = std::max(result.largest_gap, relative);
        result.mean_gap += relative / static_cast<double>(problem.rows());
    }
    result.gap = certificate::relative(result.objective, dual);
    return result;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// MagR: reduces the largest magnitude of every row (or group) of a weight matrix while its layer's output changes little, in place.
///
/// Solves for every row w of W, with w0 the row as passed in and H_d = (H + damping mean(diag H) I) / lambda_max(H),
///
///     min_w  1/2 (w - w0)^T H_d (w - w0) + alpha * ||w||_inf          (with groups: alpha * sum over groups of ||w_g||_inf)
///
/// Smaller ranges make finer grids: quantize the result in place of W. Calibrate H on the layer's own inputs.
///
/// @par Shapes    W: out x in, any dense matrix (in/out) · H: in x in, the Gram matrix X^T X of the inputs, any positive multiple of it
/// @par Units     alpha: see `preprocess_options`; W keeps its unit
/// @param observer  called after every iteration, may cancel (see `progress_observer`)
/// @pre           W and H do not overlap in memory
/// @post          no row's objective is above its value at W0, however early the iteration ended
/// @par Errors    before W is written: shape_error (empty W, H not square or not in x in), value_error (NaN, Inf, asymmetric, zero H, or a
///                negative diagonal entry), option_error. What an observer throws passes through and leaves W as it was. That the
///                iteration limit came first is no error: see `preprocess_result::stopped`
/// @par Cost      admm: two factorizations of in^3/3 multiply-adds, then out in^2 per iteration, commonly 8-32; working memory four
///                matrices of W's size and, at its peak, four of H's, in the arithmetic type of W, and one of H's size in double
/// @par Numerics  arithmetic in float, or double for a double W; 16-bit weights are rounded at the end. Objective, gap and Cholesky factor
/// of
///                the certificate are in double. Deterministic
/// @par Source    arXiv 2406.00800, eq. (4) and Algorithm 1. We solve the same problem to a certified gap by ADMM, and damp H by default,
///                which the authors do not; `solver::proximal_gradient` without further options is their iteration
template <class Weights, class Gram, progress_observer Observer = ignore_progress>
preprocess_result preprocess(Weights&& W, const Gram& H, const preprocess_options& options = {}, Observer&& observer = {}) {
    const auto weights = as_mutable_view(W);
    const auto gram = as_const_view(H);
    using S = compute_t<typename decltype(weights)::value_type>;
    validate(options);
    detail::require_not_empty("preprocess", "W", weights);
    detail::require_not_empty("preprocess", "H", gram);
    detail::require_gram("preprocess", "H", gram, weights.cols());
    detail::require_finite("preprocess", "W", weights);

    const detail::solver_settings settings = detail::resolve(options, weights.cols());
    const auto problem = detail::make_layer_problem<S>(weights, gram, settings.alpha, settings.group_size, settings.damping);
    detail::row_major_matrix<S> solution = problem.W0;
    preprocess_result result;
    if (settings.alpha > 0)
        result = detail::solve(problem, options, settings, observer, solution);
    else
        result.stopped = stop_reason::converged;  // W0 is the optimum

    result.alpha = settings.alpha;
    result.damping = settings.damping;
    result.lambda_max = problem.lambda_max;
    detail::report_magnitudes(problem, problem.W0, result.linf_before, result.mean_linf_before);
    detail::report_magnitudes(problem, solution, result.linf_after, result.mean_linf_after);
    const double energy = detail::undamped_energy(problem, problem.W0);
    const detail::row_major_matrix<S> difference = solution - problem.W0;
    const double error = detail::undamped_energy(problem, difference);
    result.output_error = energy > 0 ? error / energy : 0;
    if (settings.alpha > 0) detail::store(solution, weights);
    return result;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
