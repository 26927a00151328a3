// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <optional>
#include <span>
#include <vector>

#include <magr/detail/finite.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/preprocess/options.hpp>
#include <magr/preprocess/progress_counter.hpp>
#include <magr/preprocess/result.hpp>
#include <magr/preprocess/solve_rows.hpp>
#include <magr/solver/admm.hpp>
#include <magr/solver/proximal_gradient.hpp>
#include <magr/solver/row_report.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

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

/// Solves the MagR problem of a layer for one or several penalties, and keeps what the next penalty can reuse.
///
/// The best step rho of ADMM grows with the penalty and falls with the size of a row: it is 1.5 times the mean over its groups of
///
///     alpha / sum_j D_j |w0_j|
///
/// but at least that of `gram_split`, and at most 3. If it is larger than that of `gram_split`, the metric holds all directions that
/// dominate; otherwise only those that leave little of many inputs. Rows share rho in classes, each four times the one before; ordinary
/// layers have one class. Each class needs a factorization.
///
/// @tparam Instance  any number: as a template it is compiled only where it is called
template <int Instance>
class layer_solver {
public:
    /// @pre  H is not zero
    layer_solver(const hessian& H, const layer_problem& problem, preprocess_solver method, const solver_settings& settings)
        : H_(H), problem_(problem), settings_(settings), is_admm_(method == preprocess_solver::admm) {}
    layer_solver(const layer_solver&) = delete;
    layer_solver& operator=(const layer_solver&) = delete;
    ~layer_solver() {
        if (!H_.is_shared()) forget_matrices();
    }

    /// out <- for every row that is reached, the solution for the penalty alpha > 0, or the row itself if that is better.
    /// @param out  may be W
    [[nodiscard]] preprocess_result solve(double alpha, const matrix_ref& W, const mutable_matrix_ref& out, observer_ref observer,
                                          executor_ref exec) {
        reports_.clear();
        reports_.reserve(static_cast<std::size_t>(W.rows()));
        for (index_t i = 0; i < W.rows(); ++i) reports_.push_back(report_unchanged(problem_, alpha, W, i));
        rho_ = 0;
        most_ = 0;
        in_double_ = 0;
        directions_ = 0;
        stop_reason stopped = stop_reason::not_factored;
        if (is_finite(problem_.unit) && problem_.unit > 0) {
            progress_counter progress(observer, W.rows());
            stopped = solve_classes(alpha, W, out, progress, exec);
        }
        preprocess_result result = summarize(reports_, problem_.groups());
        result.stopped = stopped;
        result.alpha = alpha;
        result.damping = settings_.damping;
        result.lambda_max = problem_.lambda_max;
        result.rho = rho_;
        result.directions = directions_;
        result.rows_in_double = in_double_;
        return result;
    }

private:
    struct row_class {
        bool all;  // whether the metric holds all directions that dominate
        double rho;
        std::vector<index_t> rows;
    };

    /// What depends on H and its damping alone is shared by the rows of all layers.
    [[nodiscard]] std::vector<double> key(bool all) const { return {settings_.damping, all ? 1.0 : 0.0}; }

    [[nodiscard]] const gram_split& split(bool all, executor_ref exec) const {
        return H_.remember<gram_split>(key(all), [&] { return split_gram(problem_, all, exec); });
    }

    /// A lower bound of H, computed in the type in which rows are solved first.
    [[nodiscard]] const gram_floor& floor(bool all, bool in_float, executor_ref exec) const {
        std::vector<double> key_of_floor = key(all);
        key_of_floor.push_back(in_float ? 1 : 0);
        return H_.remember<gram_floor>(key_of_floor, [&] {
            return in_float ? make_gram_floor<float>(problem_, split(all, exec), exec)
                            : make_gram_floor<double>(problem_, split(all, exec), exec);
        });
    }

    void forget_matrices() const {
        H_.forget<std::optional<admm<float>>>();
        H_.forget<std::optional<admm<double>>>();
    }

    /// The rows that have something to solve, grouped by the rho that suits them, in increasing order.
    [[nodiscard]] std::vector<row_class> classes(double alpha, const matrix_ref& W, executor_ref exec) {
        constexpr double factor = 4, most = 3;
        std::vector<row_class> found;
        for (index_t i = 0; i < W.rows(); ++i) {
            if (reports_[static_cast<std::size_t>(i)].state != row_state::untouched) continue;
            bool all = false;
            double rho = 0;
            if (is_admm_) {
                const gram_split& few = split(false, exec);
                double size = 0;
                W.visit_row(i, 0, W.cols(), [&](index_t j, double value) {
                    if (!problem_.is_dead(j)) size += few.D(j) * std::abs(value);
                });
                const double wanted = 1.5 * alpha * static_cast<double>(problem_.groups());
                all = wanted > few.rho * size;
                if (all && split(true, exec).directions() == few.directions()) all = false;
                rho = settings_.rho.value_or(split(all, exec).rho);
                while (!settings_.rho && rho * std::sqrt(factor) <= most && rho * std::sqrt(factor) * size < wanted) rho *= factor;
            }
            const auto at_least = [&](const row_class& c) { return c.all == all ? c.rho >= rho : c.all; };
            auto at = std::find_if(found.begin(), found.end(), at_least);
            if (at == found.end() || at->all != all || at->rho != rho) at = found.insert(at, row_class{all, rho, {}});
            at->rows.push_back(i);
        }
        return found;
    }

    [[nodiscard]] stop_reason solve_classes(double alpha, const matrix_ref& W, const mutable_matrix_ref& out, progress_counter& progress,
                                            executor_ref exec) {
        auto found = classes(alpha, W, exec);
        index_t pending = 0;
        for (const row_class& c : found) pending += static_cast<index_t>(c.rows.size());
        if (!progress.add(W.rows() - pending)) return stop_reason::cancelled;
        for (row_class& c : found) {
            if (is_admm_) directions_ = (std::max)(directions_, split(c.all, exec).directions());
            if (static_cast<index_t>(c.rows.size()) > most_) {
                most_ = static_cast<index_t>(c.rows.size());
                rho_ = is_admm_ ? c.rho : 0;
            }
            bool factored = false;
            const bool in_float = !W.type().is_double && !is_hopeless_in_float(c, exec);
            if (!W.type().is_double) {
                if (in_float) {
                    if (!solve_in<float>(c, alpha, W, out, progress, exec, factored, true)) return stop_reason::cancelled;
                    const auto is_done = [&](index_t row) {
                        return factored && reports_[static_cast<std::size_t>(row)].state != row_state::imprecise;
                    };
                    c.rows.erase(std::remove_if(c.rows.begin(), c.rows.end(), is_done), c.rows.end());
                    if (c.rows.empty()) continue;
                }
                in_double_ += static_cast<index_t>(c.rows.size());
            }
            if (!solve_in<double>(c, alpha, W, out, progress, exec, factored, in_float)) return stop_reason::cancelled;
            if (!factored) return stop_reason::not_factored;
        }
        const auto any = [&](row_state state) {
            return std::any_of(reports_.begin(), reports_.end(), [&](const row_report& row) { return row.state == state; });
        };
        return any(row_state::too_large) ? stop_reason::overflowed
               : any(row_state::limited) ? stop_reason::iteration_limit
               : any(row_state::rounded) ? stop_reason::rounding_limit
                                         : stop_reason::converged;
    }

    /// Solves a class of rows in the arithmetic type S.
    /// @param in_float  whether rows of this class are solved in float first
    /// @param factored  out: whether there is a matrix to iterate with; if not, nothing is done
    /// @return          whether the observer let it reach all rows
    template <compute_scalar S>
    [[nodiscard]] bool solve_in(const row_class& c, double alpha, const matrix_ref& W, const mutable_matrix_ref& out,
                                progress_counter& progress, executor_ref exec, bool& factored, bool in_float) {
        const auto run = [&](const row_method<S>& method) {
            factored = true;
            return solve_rows<S>(method, problem_, settings_, alpha, W, std::span(c.rows), std::span(reports_), out, progress, exec);
        };
        if (!is_admm_) return run(make_proximal_gradient<S>(problem_));
        const gram_floor& lower = floor(c.all, in_float, exec);
        std::vector<double> key_of_matrix = key(c.all);
        key_of_matrix.insert(key_of_matrix.end(), {c.rho, settings_.relaxation, in_float ? 1.0 : 0.0});
        const std::optional<admm<S>>& method = H_.remember<std::optional<admm<S>>>(key_of_matrix, [&] {
            forget_matrices();  // one matrix of H's size at a time
            return make_admm<S>(problem_, split(c.all, exec), lower, c.rho, settings_.relaxation, exec);
        });
        factored = method.has_value();
        return !factored || run(*method);
    }

    /// Whether float cannot distinguish the energies of most rows, because the dominating directions are too large.
    [[nodiscard]] bool is_hopeless_in_float(const row_class& c, executor_ref exec) const {
        if (!is_admm_) return false;
        const gram_split& taken = split(c.all, exec);
        if (taken.directions() == 0) return false;
        const double ratio = ((problem_.diagonal + problem_.shift) / taken.D).mean();
        constexpr double rounding = 8 * static_cast<double>(std::numeric_limits<float>::epsilon());
        return rounding * ratio > allowed_rounding(settings_);
    }

    const hessian& H_;
    const layer_problem& problem_;
    const solver_settings& settings_;
    bool is_admm_;
    std::vector<row_report> reports_;
    double rho_ = 0;
    index_t most_ = 0, in_double_ = 0, directions_ = 0;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
