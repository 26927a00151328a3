// SPDX-License-Identifier: MIT
#pragma once

#include <magr/preprocess/duality_gap.hpp>
#include <magr/preprocess/observer.hpp>
#include <magr/preprocess/options.hpp>
#include <magr/preprocess/result.hpp>

namespace magr::detail {

/// `preprocess_options` with every default filled in.
struct solver_settings {
    double alpha;
    index_t group_size;
    double damping;
    index_t max_iterations;
    double tolerance;
    index_t check_interval;
    double rho;
    double relaxation;
};

inline namespace MAGR_ISA_NAMESPACE {

/// How an iteration ended, with the certificate of the point it ended at.
struct solve_outcome {
    stop_reason stopped = stop_reason::iteration_limit;
    index_t iterations = 0;
    certificate bounds;
};

/// The loop around both solvers: iterate, certify now and then, report, stop. Nothing in it knows the method.
///
/// `solver.iterate()` advances the point, `solver.certify(gap)` evaluates its certificate.
template <class Solver, class Gap, progress_observer Observer>
[[nodiscard]] solve_outcome run_solver(Solver& solver, const Gap& gap, const solver_settings& settings, Observer& observer) {
    solve_outcome outcome;
    for (index_t k = 1;; ++k) {
        solver.iterate();
        outcome.iterations = k;
        iteration_info info{k, settings.max_iterations, {}};
        const bool last = k == settings.max_iterations;
        bool converged = false;
        const bool checked = last || (settings.tolerance > 0 && k % settings.check_interval == 0);
        if (checked) {
            outcome.bounds = solver.certify(gap);
            info.gap = outcome.bounds.relative_gap();
            converged = settings.tolerance > 0 && *info.gap <= settings.tolerance;
        }
        const flow answer = notify(observer, info);
        if (converged)
            outcome.stopped = stop_reason::converged;
        else if (answer == flow::stop)
            outcome.stopped = stop_reason::cancelled;
        else if (!last)
            continue;
        if (!checked) outcome.bounds = solver.certify(gap);
        return outcome;
    }
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
