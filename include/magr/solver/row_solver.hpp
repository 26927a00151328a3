// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <type_traits>

#include <magr/detail/matrix_ref.hpp>
#include <magr/kernels/packwise.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/simd/pack.hpp>
#include <magr/solver/layer_problem.hpp>
#include <magr/solver/row_method.hpp>
#include <magr/solver/row_progress.hpp>
#include <magr/solver/row_report.hpp>
#include <magr/solver/row_tile.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Solves some rows of W for a `layer_problem`.
///
/// Rows are independent: each has its own iterations and stops when its own gap is small enough, so that it ends with the same bits
/// whatever the other rows are. Those that go on are multiplied together. Every row is scaled by a power of two, so that squares of weights
/// of any size are numbers.
template <compute_scalar S>
class row_solver {
public:
    /// @param diagonal  of H
    row_solver(const row_method<S>& method, const layer_problem& problem, const S* diagonal, const solver_settings& settings,
               const row_tile<S>& tile)
        : method_(method), problem_(problem), diagonal_(diagonal), settings_(settings), t_(tile) {}

    /// out <- the solution of some rows of W, but not where that is worse than they are: an early stop must not do harm.
    /// @param rows     at most row_tile::capacity
    /// @param reports  of all rows of W: of these rows as they are, then as the solution is
    /// @param out      may be W
    void solve(const matrix_ref& W, std::span<const index_t> rows, double alpha, std::span<row_report> reports,
               const mutable_matrix_ref& out) {
        rows_ = rows;
        reports_ = reports;
        penalty_ = alpha;
        load(W);
        index_t active = 0;
        for (; active < count(); ++active) {
            active_[at(active)] = active;
            method_.start(problem_, t_, active, active, progress_[at(active)].alpha);
        }
        while (active > 0) {
            iterate(active);
            active = measure_waiting();
        }
        if (may_round(W.type())) round_all(W.type());
        for (index_t r = 0; r < count(); ++r) store(W, r, out);
    }

private:
    [[nodiscard]] static std::size_t at(index_t r) { return static_cast<std::size_t>(r); }
    [[nodiscard]] index_t count() const { return static_cast<index_t>(rows_.size()); }
    [[nodiscard]] row_report& report(index_t r) { return reports_[at(rows_[at(r)])]; }

    void load(const matrix_ref& W) {
        for (index_t r = 0; r < count(); ++r) {
            row_progress& row = progress_[at(r)] = {};
            int exponent = 0;
            static_cast<void>(std::frexp(report(r).linf_before, &exponent));
            row.scale = std::ldexp(1.0, std::clamp(-exponent, -500, 500));
            row.alpha = penalty_ * row.scale;
            row.curvature = method_.curvature();
            S* const w0 = t_.w0(r);
            W.visit_row(rows_[at(r)], 0, problem_.cols(),
                        [&](index_t j, double value) { w0[j] = problem_.is_dead(j) ? S(0) : static_cast<S>(value * row.scale); });
            std::fill_n(t_.thresholds(r, problem_.groups()), problem_.groups(), S(0));
        }
        for (index_t r = 0; r < count(); ++r) waiting_[at(r)] = r;
        measure(count(), false);
        for (index_t r = 0; r < count(); ++r) {
            row_progress& row = progress_[at(r)];
            report(r).energy = (std::max)(0.0, row.energy) / (row.scale * row.scale);
            report(r).products += 0.5;
            report(r).iterations = 0;
            row.rounding = 0;
            report(r).state = row_state::untouched;
        }
    }

    /// Iterations of the active rows until each seems to be done.
    void iterate(index_t active) {
        waiting_count_ = 0;
        while (active > 0) {
            t_.multiply(method_.matrix(), active);
            index_t kept = 0;
            for (index_t slot = 0; slot < active; ++slot) {
                const index_t r = active_[at(slot)];
                row_progress& row = progress_[at(r)];
                row.bounds = method_.advance(problem_, t_, r, slot, row.alpha);
                report(r).iterations += 1;
                report(r).products += 1;
                const double estimate = row.bounds.primal(row.curvature) / (row.scale * row.scale);
                if (misses_penalty(r)) {
                    report(r).state = row_state::imprecise;
                    continue;
                }
                if (report(r).iterations >= settings_.max_iterations || report(r).iterations == checkpoint || closes(r, estimate)) {
                    waiting_[at(waiting_count_++)] = r;
                    continue;
                }
                if (kept != slot) std::copy_n(t_.product(slot), problem_.cols(), t_.product(kept));
                active_[at(kept++)] = r;
            }
            active = kept;
        }
    }

    /// Measures the rows that wait for it.
    /// @return  how many have to go on
    [[nodiscard]] index_t measure_waiting() {
        measure(waiting_count_, true);
        index_t active = 0;
        for (index_t slot = 0; slot < waiting_count_; ++slot) {
            const index_t r = waiting_[at(slot)];
            row_progress& row = progress_[at(r)];
            complete(r);
            report(r).products += 0.5;
            if (is_imprecise(r)) {
                report(r).state = row_state::imprecise;
            } else if (closes(r, report(r).objective)) {
                report(r).state = row_state::converged;
            } else if (report(r).iterations >= settings_.max_iterations) {
                report(r).state = row_state::limited;
            } else {
                const double measured = 2 * (report(r).objective * row.scale * row.scale - row.bounds.primal(0));
                row.curvature = (std::max)(2 * row.curvature, row.bounds.unknown > 0 ? measured / row.bounds.unknown : 0.0);
                active_[at(active)] = r;
                method_.prepare(problem_, t_, r, active++);
            }
        }
        return active;
    }

    /// Whether storing a solution may round it: in a type of fewer digits, or among subnormal numbers.
    [[nodiscard]] bool may_round(const element_type& type) {
        if (type.size < static_cast<index_t>(sizeof(S))) return true;
        for (index_t r = 0; r < count(); ++r)
            if (report(r).linf_before < 0x1p40 * static_cast<double>((std::numeric_limits<S>::min)())) return true;
        return false;
    }

    /// Rounds the solutions to the type of W, and reports of them.
    void round_all(const element_type& type) {
        for (index_t r = 0; r < count(); ++r) {
            S* const z = t_.z(r);
            const double scale = progress_[at(r)].scale;
            for_each_chunk(0, problem_.cols(), [&](index_t first, index_t size, double* chunk) {
                for (index_t k = 0; k < size; ++k) chunk[k] = solution(r, first + k);
                type.round(chunk, size);
                for (index_t k = 0; k < size; ++k) z[first + k] = static_cast<S>(chunk[k] * scale);
            });
        }
        for (index_t r = 0; r < count(); ++r) waiting_[at(r)] = r;
        measure(count(), true);
        for (index_t r = 0; r < count(); ++r) {
            if (report(r).state == row_state::imprecise) continue;
            complete(r);
            report(r).products += 0.5;
            if (report(r).state == row_state::converged && !closes(r, report(r).objective)) report(r).state = row_state::rounded;
        }
    }

    /// energy <- x^T H x of `count` rows that wait for it, norm <- x^T x, and how far rounding may have taken the energy away.
    /// @param moved  whether x is z - w0 or w0
    void measure(index_t count, bool moved) {
        for (index_t slot = 0; slot < count; ++slot) {
            const index_t r = waiting_[at(slot)];
            S* const x = t_.product(slot);
            const S *const w0 = t_.w0(r), *const z = t_.z(r);
            if (moved)
                for (index_t j = 0; j < problem_.cols(); ++j) x[j] = z[j] - w0[j];
            else
                std::copy_n(w0, problem_.cols(), x);
            const auto weighted_square = [&](const auto& weight_at) {
                return kernels::sum_packs<S>(problem_.cols(), [&](index_t j, auto arch) {
                    using traits = simd::pack_traits<S, decltype(arch)>;
                    const auto value = traits::load(x + j);
                    return weight_at(j, arch) * (value * value);
                });
            };
            row_progress& row = progress_[at(r)];
            row.norm = weighted_square([](index_t, auto arch) { return simd::pack_traits<S, decltype(arch)>::broadcast(S(1)); });
            row.rounding = rounding_unit *
                           weighted_square([&](index_t j, auto arch) { return simd::pack_traits<S, decltype(arch)>::load(diagonal_ + j); });
        }
        t_.measure(problem_, count, energy_.data());
        for (index_t slot = 0; slot < count; ++slot) progress_[at(waiting_[at(slot)])].energy = energy_[at(slot)];
    }

    /// The report of row r, after z - w0 was measured.
    void complete(index_t r) {
        const row_progress& row = progress_[at(r)];
        const S* const z = t_.z(r);
        row_report& to = report(r);
        const double squared = 1 / (row.scale * row.scale);
        to.error = (std::max)(0.0, row.energy) * squared;
        to.sum_linf_after = 0;
        to.linf_after = 0;
        problem_.for_each_group([&](index_t, index_t j, index_t size) {
            S largest = 0;
            for (index_t k = j; k < j + size; ++k) largest = (std::max)(largest, std::abs(z[k]));
            const double linf = static_cast<double>(largest) / row.scale;
            to.sum_linf_after += linf;
            to.linf_after = (std::max)(to.linf_after, linf);
        });
        to.objective = (to.error + problem_.shift * row.norm * squared) / 2 + penalty_ * to.sum_linf_after;
        to.bound = (std::max)(0.0, row.bounds.dual - row.rounding) * squared;
    }

    /// Whether rounding hides a gap that matters.
    [[nodiscard]] bool is_imprecise(index_t r) {
        const row_progress& row = progress_[at(r)];
        return std::is_same_v<S, float> && !(row.rounding <= allowed_rounding(settings_) * report(r).objective * row.scale * row.scale);
    }

    /// Whether float has no number near enough to the threshold of row r, so that its subgradient misses the penalty.
    [[nodiscard]] bool misses_penalty(index_t r) const {
        return std::is_same_v<S, float> && progress_[at(r)].bounds.missed > settings_.tolerance / 4 && settings_.tolerance > 0;
    }

    /// Whether the gap of row r is small enough, given its objective; it need not be worse than it was.
    [[nodiscard]] bool closes(index_t r, double objective) {
        const row_progress& row = progress_[at(r)];
        const double best = (std::min)(objective, report(r).objective_before);
        return settings_.tolerance > 0 && best - (row.bounds.dual - row.rounding) / (row.scale * row.scale) <= settings_.tolerance * best;
    }

    /// An element of the solution in the unit of W.
    [[nodiscard]] double solution(index_t r, index_t j) const {
        return static_cast<double>(static_cast<S>(static_cast<double>(t_.z(r)[j]) / progress_[at(r)].scale));
    }

    /// f(first element, number of elements, room for as many) for parts of a row.
    template <class F>
    static void for_each_chunk(index_t first, index_t count, const F& f) {
        double chunk[matrix_ref::chunk_size];
        for (index_t done = 0; done < count; done += matrix_ref::chunk_size)
            f(first + done, (std::min)(matrix_ref::chunk_size, count - done), chunk);
    }

    void store(const matrix_ref& W, index_t r, const mutable_matrix_ref& out) {
        row_report& to = report(r);
        if (to.state == row_state::imprecise) return;
        if (!(to.objective <= to.objective_before)) {
            to.objective = to.objective_before;
            to.error = 0;
            to.linf_after = to.linf_before;
            to.sum_linf_after = to.sum_linf_before;
            return;
        }
        const index_t i = rows_[at(r)];
        problem_.for_each_group([&](index_t, index_t begin, index_t width) {
            double largest = 0;
            bool live = false;
            for_each_chunk(begin, width, [&](index_t first, index_t size, double* chunk) {
                W.load_row(i, first, size, chunk);
                for (index_t k = 0; k < size; ++k)
                    if (!problem_.is_dead(first + k)) chunk[k] = solution(r, first + k);
                out.type().round(chunk, size);
                for (index_t k = 0; k < size; ++k) {
                    if (problem_.is_dead(first + k)) continue;
                    largest = (std::max)(largest, std::abs(chunk[k]));
                    live = true;
                }
                out.store_row(i, first, size, chunk);
            });
            if (!live) return;
            for (index_t j = begin; j < begin + width; ++j) {
                if (!problem_.is_dead(j)) continue;
                const auto clipped = static_cast<double>(static_cast<S>(std::clamp(W(i, j), -largest, largest)));
                out.store_row(i, j, 1, &clipped);
            }
        });
    }

    static constexpr auto capacity = static_cast<std::size_t>(row_tile<S>::capacity);
    // rows in float are measured here, lest those that float cannot tell from each other go on for long
    static constexpr index_t checkpoint = std::is_same_v<S, float> ? 16 : 0;
    // x^T H x in S is off by about this times x^T diag(H) x
    static constexpr double rounding_unit = 8 * static_cast<double>(std::numeric_limits<S>::epsilon());

    const row_method<S>& method_;
    const layer_problem& problem_;
    const S* diagonal_;
    const solver_settings& settings_;
    const row_tile<S>& t_;
    std::span<const index_t> rows_;
    std::span<row_report> reports_;
    double penalty_ = 0;
    index_t waiting_count_ = 0;
    std::array<index_t, capacity> active_, waiting_;
    std::array<double, capacity> energy_;
    std::array<row_progress, capacity> progress_;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
