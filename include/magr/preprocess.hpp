// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include <magr/detail/contract.hpp>
#include <magr/detail/finite.hpp>
#include <magr/detail/rollback.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/parallel/executor.hpp>
#include <magr/preprocess/admm.hpp>
#include <magr/preprocess/options.hpp>
#include <magr/preprocess/proximal_gradient.hpp>
#include <magr/preprocess/result.hpp>
#include <magr/preprocess/solve.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

/// What is wrong with these options, each problem with option, range and value; empty if nothing is.
[[nodiscard]] inline std::vector<std::string> problems(const preprocess_options& options) {
    detail::problem_list found("preprocess_options");
    const auto not_negative = [](double value) { return detail::is_finite(value) && value >= 0; };
    found.require(not_negative(options.alpha.value_or(0)), "alpha", "finite and at least 0", options.alpha.value_or(0));
    found.require(options.group_size.value_or(1) >= 1, "group_size", "at least 1", options.group_size.value_or(1));
    found.require(options.solver == solver::admm || options.solver == solver::proximal_gradient, "solver", "admm or proximal_gradient",
                  static_cast<int>(options.solver));
    found.require(not_negative(options.damping.value_or(0)), "damping", "finite and at least 0", options.damping.value_or(0));
    found.require(options.max_iterations.value_or(1) >= 1, "max_iterations", "at least 1", options.max_iterations.value_or(1));
    found.require(not_negative(options.tolerance.value_or(0)), "tolerance", "finite and at least 0", options.tolerance.value_or(0));
    found.require(detail::is_finite(options.rho.value_or(1)) && options.rho.value_or(1) > 0, "rho", "finite and above 0",
                  options.rho.value_or(1));
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
            .rho = options.rho,
            .relaxation = options.relaxation};
}

/// The report of all rows.
[[nodiscard]] inline preprocess_result summarize(const std::vector<row_report>& reports, index_t groups) {
    preprocess_result result;
    const auto rows = static_cast<double>(reports.size());
    double bound = 0, energy = 0, error = 0;
    for (const row_report& row : reports) {
        const double relative = relative_gap(row.objective, row.bound);
        result.objective += row.objective;
        result.objective_before += row.objective_before;
        bound += row.bound;
        energy += row.energy;
        error += row.error;
        result.largest_gap = (std::max)(result.largest_gap, relative);
        result.mean_gap += relative / rows;
        result.linf_before = (std::max)(result.linf_before, row.linf_before);
        result.linf_after = (std::max)(result.linf_after, row.linf_after);
        result.mean_linf_before += row.sum_linf_before / (rows * static_cast<double>(groups));
        result.mean_linf_after += row.sum_linf_after / (rows * static_cast<double>(groups));
        result.iterations = (std::max)(result.iterations, row.iterations);
        result.products += row.products / rows;
    }
    result.gap = relative_gap(result.objective, bound);
    result.output_error = energy > 0 ? error / energy : 0;
    return result;
}

/// How the solver went.
struct solved_runs {
    std::vector<stop_reason> ended;  ///< for each penalty
    double rho = 0;                  ///< of ADMM
};

/// Solves the problem for each of some penalties, with one factorization; see `solve_rows`.
template <compute_scalar S, class T, class Gram, progress_observer Observer, executor Executor>
[[nodiscard]] solved_runs run_solver(const layer_problem<Gram>& problem, solver method, const solver_settings& settings,
                                     matrix_view<const T> W, std::span<penalty_run<T>> runs, Observer& observer, Executor& exec) {
    for (penalty_run<T>& run : runs) run.reports = report_unchanged(problem, run.alpha, W);
    solved_runs result{std::vector<stop_reason>(runs.size(), stop_reason::not_factored)};
    if (!is_finite(problem.unit)) return result;
    const auto solve = [&](const auto& iteration) {
        const bool all = solve_rows<S>(iteration, problem, settings, W, runs, observer, exec);
        for (std::size_t k = 0; k < runs.size(); ++k) {
            const auto& reports = runs[k].reports;
            const bool converged = std::all_of(reports.begin(), reports.end(), [](const row_report& row) { return row.converged; });
            result.ended[k] = !all ? stop_reason::cancelled : converged ? stop_reason::converged : stop_reason::iteration_limit;
        }
    };
    if (method == solver::proximal_gradient) {
        solve(make_proximal_gradient<S>(problem));
    } else if (const auto fast = make_admm<S>(problem, settings, exec)) {
        solve(*fast);
        result.rho = fast->rho();
    }
    return result;
}

/// `preprocess` after all checks.
template <class T, class Gram, progress_observer Observer, executor Executor>
[[nodiscard]] preprocess_result run_preprocess(matrix_view<T> W, matrix_view<const Gram> H, const preprocess_options& options,
                                               Observer& observer, Executor& exec) {
    const solver_settings settings = resolve(options, W.cols());
    const auto problem = make_layer_problem(H, settings.group_size, settings.damping);
    penalty_run<T> run{settings.alpha, W, {}};
    solved_runs solved{{stop_reason::converged}};
    if (run.alpha == 0) {  // W0 is the optimum
        run.reports = report_unchanged(problem, 0, matrix_view<const T>(W));
    } else {
        std::optional<rollback<T>> undo;
        if constexpr (may_throw<Observer>) undo.emplace(W);
        solved = run_solver<compute_t<T>, T>(problem, options.solver, settings, W, std::span(&run, 1), observer, exec);
        if (undo) undo->keep();
    }
    preprocess_result result = summarize(run.reports, problem.groups());
    result.stopped = solved.ended.front();
    result.alpha = settings.alpha;
    result.damping = settings.damping;
    result.lambda_max = problem.lambda_max;
    result.rho = solved.rho;
    return result;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// Bytes that `preprocess` needs at its peak, beyond W, H and what the executor allocates itself: one matrix of H's size in the arithmetic
/// type of W, for each worker five matrices of 96 rows and some blocks that stay in cache, and a report for each row.
///
/// @tparam T         storage type of W; that of H does not matter
/// @tparam Observer  type of the observer: if calling it may throw, a copy of W is kept
/// @param workers    `concurrency()` of the executor
/// @return           the bytes, within 1%; with alpha = 0, where nothing is solved, fewer are needed
/// @par Errors       shape_error (rows or cols < 1), option_error (as `preprocess`, workers < 1)
template <storage_scalar T, progress_observer Observer = ignore_progress>
[[nodiscard]] std::size_t workspace_bytes(index_t rows, index_t cols, const preprocess_options& options, index_t workers = 1) {
    using S = compute_t<T>;
    if (rows < 1 || cols < 1) detail::raise<shape_error>(detail::concat("workspace_bytes: W must not be empty, it is ", rows, " x ", cols));
    validate(options);
    detail::require_option(workers >= 1, "workspace_bytes", "workers", "at least 1", workers);
    const index_t group_size = (std::min)(options.group_size.value_or(cols), cols);
    const index_t groups = (cols + group_size - 1) / group_size;
    // Before the rows are solved less is needed: what finds the largest eigenvalue and the inverse is smaller than one worker's rows.
    const index_t numbers = cols * detail::packed_matrix<S>::stride_for(cols) + workers * detail::row_tile<S>::elements(cols, groups);
    std::size_t bytes = static_cast<std::size_t>(numbers) * sizeof(S) + static_cast<std::size_t>(rows) * sizeof(detail::row_report);
    if (detail::may_throw<Observer>) bytes += static_cast<std::size_t>(rows * cols) * sizeof(T);
    return bytes;
}

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
/// @param observer  called when some rows are done, may cancel (see `progress_observer`)
/// @param exec      what runs the tiles of rows and the factorization (see `executor`); serial by default
/// @pre           W and H do not overlap in memory
/// @post          no row's objective is above its value at W0, however early the iteration ended
/// @par Errors    before W is written: shape_error (empty W, H not square or not in x in), value_error (NaN, Inf, asymmetric, zero H, or a
///                negative diagonal entry), option_error. What an observer throws passes through and leaves W as it was. That the
///                iteration limit came first is no error: see `preprocess_result::stopped`
/// @par Cost      admm: in^3 / 2 multiply-adds for the matrix of the iteration, then out in^2 for every iteration, commonly 5-10, and as
///                many for measuring energies. `workspace_bytes` says what it allocates: at 4096 inputs in float a matrix of 64 MiB and
///                9.3 MiB for each worker, at 11008 462 MiB and 22 MiB
/// @par Numerics  arithmetic in float, or double for a double W; 16-bit weights are rounded at the end. Sums over blocks of a row in that
///                type, across them in double. Without damping the gap is a loose bound. The same bits whatever executes it; rows are
///                solved in tiles of 96, which stop together
/// @par Source    arXiv 2406.00800, eq. (4) and Algorithm 1. We solve the same problem to a certified gap by ADMM, and damp H by default,
///                which the authors do not; `solver::proximal_gradient` without further options is their iteration
template <class Weights, class Gram, progress_observer Observer = ignore_progress, executor Executor = serial_executor>
preprocess_result preprocess(Weights&& W, const Gram& H, const preprocess_options& options = {}, Observer&& observer = {},
                             Executor&& exec = {}) {
    const auto weights = as_mutable_view(W);
    const auto gram = as_const_view(H);
    validate(options);
    detail::require_not_empty("preprocess", "H", gram);
    detail::require_layer("preprocess", weights, gram, exec);

    return detail::run_preprocess(weights, gram, options, observer, exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
