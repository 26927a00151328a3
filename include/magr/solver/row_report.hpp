// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>

#include <magr/detail/matrix_ref.hpp>
#include <magr/solver/layer_problem.hpp>

namespace magr::detail {

/// How far a row has come.
enum class row_state {
    untouched,  ///< it is as it was
    converged,  ///< its gap is at most the tolerance
    rounded,    ///< so was that of the solution, but not that of the solution rounded to the type of W
    limited,    ///< all iterations were done
    too_large,  ///< it is as it was: its energies would be infinite
    imprecise,  ///< it is as it was: the arithmetic type cannot tell its energies from each other
};

/// What is known of a row. W0 and W in their own unit, H in that of its largest eigenvalue; dead inputs left out.
struct row_report {
    double objective_before = 0;  ///< at w0
    double objective = 0;
    double bound = 0;            ///< at most the optimum
    double energy = 0;           ///< w0^T H w0
    double error = 0;            ///< (w - w0)^T H (w - w0)
    double linf_before = 0;      ///< max |w0_j|
    double linf_after = 0;       ///< max |w_j|
    double sum_linf_before = 0;  ///< sum over the groups of max |w0_j|
    double sum_linf_after = 0;   ///< sum over the groups of max |w_j|
    double products = 0;         ///< multiplications with a matrix of H's size
    index_t iterations = 0;
    row_state state = row_state::untouched;
};

inline namespace MAGR_ISA_NAMESPACE {

/// The report of a row that stays as it is.
[[nodiscard]] inline row_report report_unchanged(const layer_problem& problem, double alpha, const matrix_ref& W, index_t row) {
    row_report report;
    problem.for_each_group([&](index_t, index_t first, index_t size) {
        double largest = 0;
        W.visit_row(row, first, size, [&](index_t j, double value) {
            if (!problem.is_dead(j)) largest = (std::max)(largest, std::abs(value));
        });
        report.sum_linf_before += largest;
        report.linf_before = (std::max)(report.linf_before, largest);
    });
    report.sum_linf_after = report.sum_linf_before;
    report.linf_after = report.linf_before;
    report.objective = report.objective_before = alpha * report.sum_linf_before;
    if (report.objective == 0) report.state = row_state::converged;
    if (report.linf_before > 1e150) report.state = row_state::too_large;
    return report;
}

/// (objective - bound) / objective, 0 where both are zero
[[nodiscard]] inline double relative_gap(double objective, double bound) noexcept {
    return objective > bound ? (objective - bound) / objective : 0.0;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
