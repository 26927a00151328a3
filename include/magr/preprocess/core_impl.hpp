// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include <magr/detail/contract.hpp>
#include <magr/preprocess/core.hpp>
#include <magr/preprocess/layer_solver.hpp>
#include <magr/solver/row_report.hpp>

namespace magr {
namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

[[nodiscard]] inline solver_settings resolve(const preprocess_options& options, index_t inputs) {
    const bool authors = options.solver == preprocess_solver::proximal_gradient;
    return {.alpha = options.alpha.value_or(options.group_size ? 1e-4 : 1e-3),
            .group_size = options.group_size.value_or(inputs),
            .damping = options.damping.value_or(authors ? 0 : 1e-2),
            .max_iterations = options.max_iterations.value_or(authors ? 200 : 100),
            .tolerance = options.tolerance.value_or(authors ? 0 : 1e-3),
            .rho = options.rho,
            .relaxation = options.relaxation};
}

MAGR_LARGE_CORE_DEFINITION std::vector<preprocess_result> preprocess_each(const matrix_ref& W, std::span<const mutable_matrix_ref> out,
                                                                          std::span<const double> alphas, const hessian& H,
                                                                          const preprocess_options& options, observer_ref observer,
                                                                          executor_ref exec) {
    const solver_settings settings = resolve(options, W.cols());
    const auto problem = make_layer_problem<MAGR_CORE_INSTANCE>(H, settings.group_size, settings.damping);
    layer_solver<MAGR_CORE_INSTANCE> solver(H, problem, options.solver, settings);
    std::vector<preprocess_result> results;
    for (std::size_t k = 0; k < alphas.size(); ++k) {
        if (alphas[k] != 0 && problem.lambda_max != 0) {
            results.push_back(solver.solve(alphas[k], W, out[k], observer, exec));
            continue;
        }
        // the optimum is W0, or H says nothing about it
        std::vector<row_report> reports;
        for (index_t i = 0; i < W.rows(); ++i) reports.push_back(report_unchanged(problem, 0, W, i));
        preprocess_result result = summarize(reports, problem.groups());
        result.stopped = stop_reason::converged;
        result.alpha = alphas[k];
        result.damping = settings.damping;
        result.lambda_max = problem.lambda_max;
        results.push_back(result);
    }
    return results;
}

MAGR_LARGE_CORE_DEFINITION preprocess_result preprocess_checked(const matrix_ref& W, const mutable_matrix_ref& out, const hessian& H,
                                                                const preprocess_options& options, observer_ref observer,
                                                                executor_ref exec) {
    const double alpha = resolve(options, W.cols()).alpha;
    return preprocess_each(W, std::span<const mutable_matrix_ref>(&out, 1), {&alpha, 1}, H, options, observer, exec).front();
}

MAGR_LARGE_CORE_DEFINITION preprocess_result run_preprocess(const mutable_matrix_ref& W, const gram_argument& H,
                                                            const preprocess_options& options, observer_ref observer, executor_ref exec) {
    validate(options);
    require_not_empty("preprocess", "H", H.matrix());
    const used_hessian h("preprocess", W, H, 0, exec);
    require_apart("preprocess", "W", W, "H", H.matrix());
    return preprocess_checked(W, W, *h, options, observer, exec);
}

MAGR_LARGE_CORE_DEFINITION std::size_t preprocess_bytes(index_t rows, index_t cols, const preprocess_options& options, index_t workers) {
    if (rows < 1 || cols < 1) raise<shape_error>(concat("workspace_bytes: W must not be empty, it is ", rows, " x ", cols));
    validate(options);
    require_option(workers >= 1, "workspace_bytes", "workers", "at least 1", workers);
    const index_t group_size = (std::min)(options.group_size.value_or(cols), cols);
    const index_t groups = (cols + group_size - 1) / group_size;
    const index_t numbers =
        cols * packed_matrix<double>::stride_for(cols) + workers * row_tile<double>::elements(cols, groups) + 200 * (cols + 64);
    return static_cast<std::size_t>(numbers) * sizeof(double) + static_cast<std::size_t>(rows) * (sizeof(row_report) + 3 * sizeof(index_t));
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr
