// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include <magr/detail/contract.hpp>
#include <magr/detail/finite.hpp>
#include <magr/detail/rollback.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/preprocess/layer_solver.hpp>
#include <magr/preprocess/observer.hpp>
#include <magr/preprocess/options.hpp>
#include <magr/preprocess/result.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

/// What is wrong with these options, each problem with option, range and value; empty if nothing is.
[[nodiscard]] inline std::vector<std::string> problems(const preprocess_options& options) {
    detail::problem_list found("preprocess_options");
    const auto not_negative = [](double value) { return detail::is_finite(value) && value >= 0; };
    found.require(not_negative(options.alpha.value_or(0)), "alpha", "finite and at least 0", options.alpha.value_or(0));
    found.require(options.group_size.value_or(1) >= 1, "group_size", "at least 1", options.group_size.value_or(1));
    found.require_enumerator("solver", options.solver);
    found.require(not_negative(options.damping.value_or(0)), "damping", "finite and at least 0", options.damping.value_or(0));
    found.require(options.max_iterations.value_or(1) >= 1, "max_iterations", "at least 1", options.max_iterations.value_or(1));
    found.require(not_negative(options.tolerance.value_or(0)), "tolerance", "finite and at least 0", options.tolerance.value_or(0));
    found.require(detail::is_finite(options.rho.value_or(1)) && options.rho.value_or(1) > 0, "rho", "finite and above 0",
                  options.rho.value_or(1));
    found.require(options.relaxation > 0 && options.relaxation < 2, "relaxation", "between 0 and 2 exclusively", options.relaxation);
    return found.take();
}

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

/// `preprocess` after all checks.
template <class T, class Gram>
[[nodiscard]] preprocess_result run_preprocess(matrix_view<T> W, matrix_view<const Gram> H, const preprocess_options& options,
                                               observer_ref observer, executor_ref exec) {
    const solver_settings settings = resolve(options, W.cols());
    const auto problem = make_layer_problem(H, settings.group_size, settings.damping);
    if (settings.alpha == 0 || problem.lambda_max == 0) {  // W0 is the optimum, or no input tells what is
        std::vector<row_report> reports;
        for (index_t i = 0; i < W.rows(); ++i) reports.push_back(report_unchanged(problem, 0, matrix_view<const T>(W), i));
        preprocess_result result = summarize(reports, problem.groups());
        result.stopped = stop_reason::converged;
        result.alpha = settings.alpha;
        result.damping = settings.damping;
        result.lambda_max = problem.lambda_max;
        return result;
    }
    std::optional<rollback<T>> undo;
    if (observer.may_throw()) undo.emplace(W);
    layer_solver<T, Gram> solver(problem, options.solver, settings);
    const preprocess_result result = solver.solve(settings.alpha, W, W, observer, exec);
    if (undo) undo->keep();
    return result;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// Bytes that `preprocess` needs at most, beyond W, H and what the executor allocates itself: one matrix of H's size in double, for each
/// worker five matrices of 96 rows and some blocks that stay in cache, at most 200 rows for the spectrum of H and its dominating
/// directions, and a report for each row.
///
/// @tparam T         storage type of W; that of H does not matter
/// @tparam Observer  type of the observer: if calling it may throw, a copy of W is kept
/// @param workers    `concurrency()` of the executor
/// @return           an upper bound. Layers whose rows are all solved in float, as most are (see `preprocess_result::rows_in_double`), need
///                   half of the matrices; with alpha = 0, where nothing is solved, less is needed
/// @par Errors       shape_error (rows or cols < 1), option_error (as `preprocess`, workers < 1)
template <storage_scalar T, progress_observer Observer = ignore_progress>
[[nodiscard]] std::size_t workspace_bytes(index_t rows, index_t cols, const preprocess_options& options, index_t workers = 1) {
    if (rows < 1 || cols < 1) detail::raise<shape_error>(detail::concat("workspace_bytes: W must not be empty, it is ", rows, " x ", cols));
    validate(options);
    detail::require_option(workers >= 1, "workspace_bytes", "workers", "at least 1", workers);
    const index_t group_size = (std::min)(options.group_size.value_or(cols), cols);
    const index_t groups = (cols + group_size - 1) / group_size;
    const index_t numbers = cols * detail::packed_matrix<double>::stride_for(cols) +
                            workers * detail::row_tile<double>::elements(cols, groups) + 200 * (cols + 64);
    std::size_t bytes = static_cast<std::size_t>(numbers) * sizeof(double) +
                        static_cast<std::size_t>(rows) * (sizeof(detail::row_report) + 3 * sizeof(index_t));
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
/// @post          no row's objective, of the row as it is stored, is above its value at W0, however early the iteration ended. A row that
///                `stop_reason::converged` speaks of is within the tolerance of its own optimum
/// @par Errors    before W is written: shape_error (empty W, H not square or not in x in), value_error (NaN, Inf, asymmetric H, or a
///                negative diagonal entry), option_error. What an observer throws passes through and leaves W as it was. That the
///                iteration limit came first is no error: see `preprocess_result::stopped`
/// @par Cost      admm: in^3 / 2 multiply-adds for the matrix of the iteration and at most in^3 / 3 for a floor of H_d, which bounds are
///                made of; then in^2 for every row and iteration, commonly 3-8, and as many for measuring energies; a row that is done is
///                left alone. Rows of very different size share several such matrices,
///                one at a time. `workspace_bytes` says what it allocates: mostly, at 4096 inputs in float, a matrix of 64 MiB and 9.3 MiB
///                for each worker
/// @par Numerics  arithmetic in float, or double for a double W; rows whose energies cancel in float, as they do where a direction of H
///                dominates by more than about 50, or whose penalty is lost in it, are solved in double. Sums over blocks of a row in that
///                type, across them in double. Without damping the gap may be a loose bound. A row gets the same bits whatever executes it
///                and whatever the other rows are
/// @par Dead inputs  weights that meet an input with H_jj = 0 take no part, nor do these inputs in the mean; they are clipped to the
/// largest magnitude of the others in
///                their group, or stay as they are where there is no other. If H is zero, W stays as it is
/// @par Source    arXiv 2406.00800, eq. (4) and Algorithm 1. We solve the same problem to a certified gap by ADMM, and damp H by default,
///                which the authors do not; `solver::proximal_gradient` without further options is their iteration
template <class Weights, class Gram, progress_observer Observer = ignore_progress>
preprocess_result preprocess(Weights&& W, const Gram& H, const preprocess_options& options = {}, Observer&& observer = {},
                             executor_ref exec = {}) {
    const auto weights = as_mutable_view(W);
    const auto gram = as_const_view(H);
    validate(options);
    detail::require_not_empty("preprocess", "H", gram);
    detail::require_layer("preprocess", weights, gram, exec);

    if constexpr (std::is_same_v<std::remove_cvref_t<Observer>, ignore_progress>) {
        return detail::run_preprocess(weights, gram, options, {}, exec);
    } else {
        const auto tell = [&observer](const preprocess_progress& progress) { return detail::notify(observer, progress); };
        return detail::run_preprocess(weights, gram, options, detail::observer_ref(tell, detail::may_throw<Observer>), exec);
    }
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
