// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <type_traits>
#include <vector>

#include <magr/detail/finite.hpp>
#include <magr/kernels/bound_sums.hpp>
#include <magr/parallel/executor.hpp>
#include <magr/preprocess/observer.hpp>
#include <magr/preprocess/result.hpp>
#include <magr/preprocess/row_tile.hpp>

namespace magr::detail {

/// What is known of a row when it is done. W0 and W in their own unit, H in that of its largest eigenvalue.
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
    bool converged = false;
};

inline namespace MAGR_ISA_NAMESPACE {

/// The report of a row that stays as it is.
template <class T, class Gram>
[[nodiscard]] row_report report_unchanged(const layer_problem<Gram>& problem, double alpha, matrix_view<T> W, index_t row) {
    row_report report;
    problem.for_each_group([&](index_t, index_t j, index_t size) {
        double largest = 0;
        for (index_t k = j; k < j + size; ++k) largest = (std::max)(largest, std::abs(static_cast<double>(W(row, k))));
        report.sum_linf_before += largest;
        report.linf_before = (std::max)(report.linf_before, largest);
    });
    report.sum_linf_after = report.sum_linf_before;
    report.linf_after = report.linf_before;
    report.objective = report.objective_before = alpha * report.sum_linf_before;
    return report;
}

/// The reports of rows that stay as they are.
template <class T, class Gram>
[[nodiscard]] std::vector<row_report> report_unchanged(const layer_problem<Gram>& problem, double alpha, matrix_view<T> W) {
    std::vector<row_report> reports;
    reports.reserve(static_cast<std::size_t>(W.rows()));
    for (index_t i = 0; i < W.rows(); ++i) reports.push_back(report_unchanged(problem, alpha, W, i));
    return reports;
}

/// max over 0 <= t <= limit of  t linear - t^2/2 quadratic:  the dual value  Q(t s) = t s^T w0 - t^2/2 s^T H_d^-1 s
/// @return 0, which bounds every optimum, if the numbers do not tell: when they overflowed, or the quadratic is negative, which no Gram
///         matrix makes it
[[nodiscard]] inline double best_dual(double linear, double quadratic, double limit) noexcept {
    if (!(linear > 0 && quadratic >= 0)) return 0;
    const double t = quadratic > 0 ? (std::min)(limit, linear / quadratic) : limit;
    const double value = t * linear - t * t / 2 * quadratic;
    return is_finite(value) ? value : 0;
}

/// (objective - bound) / objective, 0 where both are zero
[[nodiscard]] inline double relative_gap(double objective, double bound) noexcept {
    return objective > 0 ? (std::max)(0.0, (objective - bound) / objective) : 0.0;
}

/// The bounds of a row in the unit it is solved in, and what they are made of.
struct row_bounds {
    double known = 0;    ///< y^T g + 2 e^T g: the part of d^T H_d d that is known, with d = z - w0 = y + e
    double unknown = 0;  ///< e^T metric e: the rest is at most `curvature` times this
    double penalty = 0;  ///< alpha sum_g ||z_g||_inf
    double dual = 0;     ///< at most the optimum

    [[nodiscard]] double primal(double curvature) const noexcept { return (known + curvature * unknown) / 2 + penalty; }
};

/// Solves some rows of W for a `layer_problem`, for one penalty after the other.
///
/// Any method will do that knows, at a point y + w0 near its iterate z, the product g = H_d y. With s the subgradient of the penalty at z
/// that its prox has found (||s_g||_1 <= alpha), e = z - w0 - y and f = s + g,
///
///     P(z) = 1/2 (y^T g + 2 e^T g + e^T H_d e) + alpha sum_g ||z_g||_inf                                      at least the optimum
///     Q(s) = s^T w0 - 1/2 s^T H_d^-1 s  >=  s^T w0 - 1/2 (y^T g - 2 f^T y + f^T f / shift)                    at most the optimum
///     Q(t g), t >= 0:                       -t g^T w0 - t^2/2 y^T g     with t small enough that ||t g||_1 <= alpha in each group
///
/// No other product is needed for the lower bounds, as H is positive semi-definite and H_d = H + shift I. e^T H_d e, the only unknown, is
/// estimated until the gap is small enough, and only then measured, by half a product.
///
/// Rows stop together: when the sum of their gaps is small enough. Every row is scaled by a power of two, so that squares of weights of
/// any size are numbers.
template <compute_scalar S, class Method, class T, class Gram>
class row_solver {
public:
    row_solver(const Method& method, const layer_problem<Gram>& problem, const solver_settings& settings, const row_tile<S>& tile)
        : method_(method), problem_(problem), settings_(settings), t_(tile) {}

    /// Takes rows to be solved, and measures them.
    /// @param W        at most row_tile::capacity rows
    /// @param reports  of these rows as they are
    void load(matrix_view<const T> W, const row_report* reports) {
        rows_ = W.rows();
        for (index_t r = 0; r < rows_; ++r) {
            int exponent = 0;
            static_cast<void>(std::frexp(reports[r].linf_before, &exponent));
            scale_[at(r)] = std::ldexp(1.0, std::clamp(-exponent, -500, 500));
            S* const w0 = t_.w0(r);
            for (index_t j = 0; j < problem_.cols(); ++j) w0[j] = static_cast<S>(static_cast<double>(W(r, j)) * scale_[at(r)]);
            std::fill_n(t_.thresholds(r, problem_.groups()), problem_.groups(), S(0));
        }
        measure([&](index_t r) { return t_.row(t_.w0(r)); });
        w0_energy_ = energy_;
        started_ = false;
    }

    /// Solves the rows for a penalty: the first time from w0, then from the solution of the last penalty.
    /// @param reports  of these rows as they are; then what became of them
    void solve(double alpha, row_report* reports) {
        reports_ = reports;
        penalty_ = alpha;
        double products = started_ ? 0 : 0.5;  // that of `load`
        for (index_t r = 0; r < rows_; ++r) begin(r);
        started_ = true;
        double curvature = method_.curvature();
        index_t iteration = 0;
        bool converged = false;
        while (iteration < settings_.max_iterations) {
            ++iteration;
            t_.multiply(method_.matrix(), rows_);
            products += 1;
            for (index_t r = 0; r < rows_; ++r) advance(r);
            if (iteration < settings_.max_iterations &&
                (settings_.tolerance == 0 || !close([&](index_t r) { return estimate(r, curvature); })))
                continue;
            measure([&](index_t r) { return t_.row(t_.z(r)) - t_.row(t_.w0(r)); });
            products += 0.5;
            for (index_t r = 0; r < rows_; ++r) complete(r);
            converged = settings_.tolerance > 0 && close([&](index_t r) { return reports_[r].objective; });
            if (converged) break;
            curvature = (std::max)(2 * curvature, measured_curvature());
            for (index_t r = 0; r < rows_; ++r) method_.prepare(t_, r);
        }
        for (index_t r = 0; r < rows_; ++r) {
            row_report& report = reports_[r];
            report.energy = (std::max)(0.0, w0_energy_[at(r)]) * unit(r) * unit(r);
            report.iterations = iteration;
            report.products = products;
            report.converged = converged;
        }
    }

    /// W <- the solution, but not where that is worse than what was loaded: an early stop must not do harm.
    void store(matrix_view<T> W) {
        for (index_t r = 0; r < rows_; ++r) {
            row_report& report = reports_[r];
            if (report.objective <= report.objective_before) {
                for (index_t j = 0; j < problem_.cols(); ++j)
                    W(r, j) = static_cast<T>(static_cast<S>(static_cast<double>(t_.z(r)[j]) * unit(r)));
                continue;
            }
            report.objective = report.objective_before;
            report.error = 0;
            report.linf_after = report.linf_before;
            report.sum_linf_after = report.sum_linf_before;
        }
    }

private:
    /// The first point for the penalty.
    void begin(index_t r) {
        if (started_) {
            const double before = alpha_[at(r)];
            alpha_[at(r)] = penalty_ * scale_[at(r)];
            method_.rescale(t_, r, alpha_[at(r)] / before);
        } else {
            alpha_[at(r)] = penalty_ * scale_[at(r)];
            method_.start(problem_, t_, r, alpha_[at(r)]);
        }
    }

    /// The rest of an iteration after its product.
    void advance(index_t r) {
        method_.advance(problem_, t_, r, alpha_[at(r)]);
        kernels::bound_sums sums;
        row_bounds& bounds = bounds_[at(r)] = {};
        double limit_s = 1, limit_g = std::numeric_limits<double>::infinity();
        const S* const thresholds = t_.thresholds(r, problem_.groups());
        problem_.for_each_group([&](index_t g, index_t j, index_t size) {
            const auto norms =
                kernels::add_bound_sums(size, t_.w0(r) + j, t_.z(r) + j, t_.u(r) + j, method_.metric() + j, t_.y() + j, t_.g() + j, sums);
            if (norms.s > 0) limit_s = (std::min)(limit_s, alpha_[at(r)] / norms.s);
            if (norms.g > 0) limit_g = (std::min)(limit_g, alpha_[at(r)] / norms.g);
            bounds.penalty += alpha_[at(r)] * static_cast<double>(thresholds[g]);
        });
        bounds.known = sums.yg + 2 * sums.eg;
        bounds.unknown = sums.ee;
        if (sums.gw < 0) bounds.dual = best_dual(-sums.gw, sums.yg, limit_g);
        if (problem_.shift > 0)
            bounds.dual = (std::max)(bounds.dual, best_dual(sums.sw, sums.yg - 2 * sums.fy + sums.ff / problem_.shift, limit_s));
    }

    /// energy <- x^T H x of rows x
    template <class Rows>
    void measure(const Rows& rows) {
        for (index_t r = 0; r < rows_; ++r) {
            t_.row(t_.product(r)) = rows(r);
            norm_[at(r)] = t_.row(t_.product(r)).matrix().template cast<double>().squaredNorm();
        }
        t_.measure(problem_, rows_, energy_.data());
    }

    /// The report of row r, after z - w0 was measured.
    void complete(index_t r) {
        row_report& report = reports_[r];
        const double squared = unit(r) * unit(r);
        report.error = (std::max)(0.0, energy_[at(r)]) * squared;
        report.sum_linf_after = 0;
        report.linf_after = 0;
        problem_.for_each_group([&](index_t, index_t j, index_t size) {
            const double largest = unit(r) * static_cast<double>(t_.row(t_.z(r)).segment(j, size).abs().maxCoeff());
            report.sum_linf_after += largest;
            report.linf_after = (std::max)(report.linf_after, largest);
        });
        report.objective = (report.error + problem_.shift * norm_[at(r)] * squared) / 2 + penalty_ * report.sum_linf_after;
        report.bound = bounds_[at(r)].dual * squared;
    }

    [[nodiscard]] static std::size_t at(index_t r) { return static_cast<std::size_t>(r); }
    [[nodiscard]] double unit(index_t r) const { return 1 / scale_[at(r)]; }

    /// The objective of row r with an estimate of what was not measured.
    [[nodiscard]] double estimate(index_t r, double curvature) const { return bounds_[at(r)].primal(curvature) * unit(r) * unit(r); }

    /// Whether the sum of the gaps is small enough, given the objective of each row; no row has to be worse than it was.
    template <class Objective>
    [[nodiscard]] bool close(const Objective& objective) const {
        double gap = 0, total = 0;
        for (index_t r = 0; r < rows_; ++r) {
            const double best = (std::min)(objective(r), reports_[r].objective_before);
            gap += (std::max)(0.0, best - bounds_[at(r)].dual * unit(r) * unit(r));
            total += best;
        }
        return gap <= settings_.tolerance * total;
    }

    /// What e^T H_d e was in units of e^T metric e.
    [[nodiscard]] double measured_curvature() const {
        double measured = 0, estimated = 0;
        for (index_t r = 0; r < rows_; ++r) {
            const row_bounds& bounds = bounds_[at(r)];
            measured += 2 * (reports_[r].objective - bounds.primal(0) * unit(r) * unit(r));
            estimated += bounds.unknown * unit(r) * unit(r);
        }
        return estimated > 0 ? measured / estimated : 0;
    }

    static constexpr auto capacity = static_cast<std::size_t>(row_tile<S>::capacity);

    const Method& method_;
    const layer_problem<Gram>& problem_;
    const solver_settings& settings_;
    const row_tile<S>& t_;
    index_t rows_ = 0;
    bool started_ = false;  // whether z and u are the solution for some penalty
    double penalty_ = 0;
    row_report* reports_ = nullptr;
    // of each row
    std::array<double, capacity> scale_;
    std::array<double, capacity> alpha_;  // in the scale of the row
    std::array<double, capacity> energy_;
    std::array<double, capacity> w0_energy_;
    std::array<double, capacity> norm_;
    std::array<row_bounds, capacity> bounds_;
};

/// A penalty, and what becomes of it.
template <class T>
struct penalty_run {
    double alpha;
    matrix_view<T> out;               ///< the rows as they are; then the solution
    std::vector<row_report> reports;  ///< of the rows as they are; then what became of them
};

/// Solves all rows of W for each penalty, tile by tile, until the observer has enough; each penalty starts from the solution of the one
/// before it. Reports of rows that were not reached stay as they are, and what becomes of them is not written.
/// @param runs   the penalties, above 0; `out` may be W itself if there is only one
/// @return       whether all rows were reached
template <compute_scalar S, class Method, class T, class Gram, progress_observer Observer, executor Executor>
[[nodiscard]] bool solve_rows(const Method& method, const layer_problem<Gram>& problem, const solver_settings& settings,
                              matrix_view<const T> W, std::span<penalty_run<T>> runs, Observer& observer, Executor& exec) {
    constexpr index_t rows = row_tile<S>::capacity;
    const index_t tiles = (W.rows() + rows - 1) / rows;
    const index_t workers = exec.concurrency();
    std::vector<row_tile<S>> memory;
    memory.reserve(static_cast<std::size_t>(workers));
    for (index_t k = 0; k < workers; ++k) memory.emplace_back(problem.cols(), problem.groups());
    constexpr bool reports_progress = !std::is_same_v<std::remove_cvref_t<Observer>, ignore_progress>;
    const index_t batch = reports_progress ? 4 * workers : tiles;
    for (index_t first = 0; first < tiles; first += batch) {
        const index_t count = (std::min)(batch, tiles - first);
        exec.parallel_for(count, [&](index_t task, index_t worker) {
            const index_t row = (first + task) * rows, height = (std::min)(rows, W.rows() - row);
            row_solver<S, Method, T, Gram> solver(method, problem, settings, memory[static_cast<std::size_t>(worker)]);
            solver.load(W.block(row, 0, height, W.cols()), runs.front().reports.data() + row);
            for (penalty_run<T>& run : runs) {
                solver.solve(run.alpha, run.reports.data() + row);
                solver.store(run.out.block(row, 0, height, W.cols()));
            }
        });
        const index_t done = (std::min)((first + count) * rows, W.rows());
        if (notify(observer, {done, W.rows()}) == flow::stop && done < W.rows()) return false;
    }
    return true;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
