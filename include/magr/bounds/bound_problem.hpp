// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <type_traits>
#include <vector>

#include <magr/detail/aligned_buffer.hpp>
#include <magr/detail/convert.hpp>
#include <magr/detail/finite.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/grid/code_map.hpp>
#include <magr/grid/quantized_matrix.hpp>
#include <magr/kernels/multiply_add.hpp>
#include <magr/linalg/triangular_solve.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/parallel/executor_ref.hpp>

/// The parts of `bound_errors` that run in parallel: over rows, columns and tokens.
namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// x = f 2^exponent with |f| in [1/2, 1).
[[nodiscard]] inline int exponent_of(double x) noexcept {
    int exponent = 0;
    static_cast<void>(std::frexp(x, &exponent));
    return exponent;
}

/// The larger one; infinity once a value is NaN or infinite, so that it shows in the end.
[[nodiscard]] inline double larger(double largest, double value) noexcept {
    return is_finite(value) ? (std::max)(largest, value) : std::numeric_limits<double>::infinity();
}

/// Grids in double.
template <compute_scalar Scalar>
[[nodiscard]] weight_grids<double> grids_in_double(const weight_grids<Scalar>& grids) {
    const auto convert = [](const matrix<Scalar>& from) {
        matrix<double> to(from.rows(), from.cols());
        std::copy_n(from.data(), from.rows() * from.cols(), to.data());
        return to;
    };
    weight_grids<double> out;
    out.bits = grids.bits;
    out.zero_point = grids.zero_point;
    out.scales = convert(grids.scales);
    out.zeros = convert(grids.zeros);
    out.group_of_column = grids.group_of_column;
    out.levels.assign(grids.levels.begin(), grids.levels.end());
    return out;
}

/// The largest distance of two neighbouring codes, in scales.
[[nodiscard]] inline double widest_gap(std::span<const double> levels) noexcept {
    if (levels.empty()) return 1;
    double widest = 0;
    for (std::size_t c = 1; c < levels.size(); ++c) widest = (std::max)(widest, levels[c] - levels[c - 1]);
    return widest;
}

/// sqrt(ln(2 N m / p) / 2): with probability 1 - p, N statements about each of m rows hold together if each allows as many times its
/// spread.
[[nodiscard]] inline double hoeffding_factor(double statements, index_t rows, double failure_probability) noexcept {
    return std::sqrt(0.5 * (std::log(2 * statements * static_cast<double>(rows)) - std::log(failure_probability)));
}

/// What bounds are computed from. Columns are in the order of processing, weights in units of 2^unit, H in units of its mean: so squares do
/// not overflow.
template <compute_scalar Scalar>
struct bound_problem {
    const quantized_matrix<Scalar>& Q;
    std::span<const index_t> order;
    matrix_view<const double> T;  ///< transposed, as `feedback_factor` holds it
    executor_ref exec;
    matrix<Scalar> values = {};            ///< of the codes, in the order of Q
    weight_grids<double> grids = {};       ///< those of Q
    std::vector<index_t> groups = {};      ///< of the columns in that order
    std::vector<double> pivots = {};       ///< 0 for dead columns
    row_major_matrix<double> H = {};       ///< damped
    row_major_matrix<double> errors = {};  ///< Q - W, 0 in dead columns
    row_major_matrix<double> steps = {};   ///< rows x groups: the largest distance of the values of two neighbouring codes
    int unit = 0;
    bool is_nearest = true;  ///< or stochastic
    double deviations = 0;   ///< `hoeffding_factor` for all weights

    static constexpr index_t panel = 96;  ///< rows, columns or tokens of one task
    static constexpr index_t scratch_size = kernels::product_blocks<double, simd::default_arch>::scratch;

    [[nodiscard]] index_t rows() const noexcept { return errors.rows(); }
    [[nodiscard]] index_t cols() const noexcept { return errors.cols(); }
    [[nodiscard]] index_t column(index_t k) const noexcept { return order[static_cast<std::size_t>(k)]; }
    [[nodiscard]] index_t group(index_t k) const noexcept { return groups[static_cast<std::size_t>(k)]; }
    [[nodiscard]] double pivot(index_t k) const noexcept { return pivots[static_cast<std::size_t>(k)]; }
    [[nodiscard]] bool is_dead(index_t k) const noexcept { return pivot(k) <= 0; }

    /// f(first, count, scratch) for panels of 0..count-1, in parallel; returns what f returns, in order.
    template <class F>
    [[nodiscard]] auto for_each_panel(index_t count, const F& f) const {
        std::vector<std::invoke_result_t<F, index_t, index_t, double*>> results(static_cast<std::size_t>((count + panel - 1) / panel));
        const aligned_buffer<double> memory(exec.concurrency() * scratch_size);
        exec.parallel_for(static_cast<index_t>(results.size()), [&](index_t task, index_t worker) {
            const index_t first = task * panel;
            results[static_cast<std::size_t>(task)] = f(first, (std::min)(panel, count - first), memory.data() + worker * scratch_size);
        });
        return results;
    }
};

/// What rounding did in some rows.
struct rounding_counts {
    index_t outside = 0, clipped = 0, unexplained = 0;
    double loss = 0;
};

/// Counts in rows first .. first + count - 1.
template <compute_scalar Scalar>
[[nodiscard]] rounding_counts count_rows(const bound_problem<Scalar>& p, index_t first, index_t count, double* scratch) {
    constexpr double slack = std::is_same_v<Scalar, float> ? 1e-4 : 1e-9;  // how far rounding errors may move a weight, in steps
    constexpr index_t panel = bound_problem<Scalar>::panel;
    const index_t n = p.cols();
    const matrix_view<const double> E = as_const_view(p.errors).block(first, 0, count, n);
    row_major_matrix<double> product = row_major_matrix<double>::Zero(count, n);
    kernels::multiply_add(as_mutable_view(product), 1.0, E, as_const_view(p.H), scratch);
    rounding_counts found;
    found.loss = product.cwiseProduct(p.errors.middleRows(first, count)).sum();

    product.setZero();  // becomes eta
    for (index_t k = 0; k < n; k += panel) {
        const index_t width = (std::min)(panel, n - k);
        kernels::multiply_add(as_mutable_view(product).block(0, k, count, width), 1.0, E.block(0, 0, count, k + width),
                              p.T.block(k, 0, width, k + width).transposed(), scratch);
    }
    with_code_map(p.grids, [&](const auto& map_of) {
        for (index_t i = 0; i < count; ++i)
            for (index_t k = 0; k < n; ++k) {
                if (p.is_dead(k)) continue;
                const index_t row = first + i, j = p.column(k);
                const auto map = map_of(p.grids.scales(row, p.group(k)), p.grids.zeros(row, p.group(k)));
                const double wanted = map.steps(static_cast<double>(p.values(row, j)) - std::ldexp(product(i, k), p.unit));
                const double limited = limited_steps(map, wanted);
                const double off = std::abs(static_cast<double>(p.Q.codes(row, j)) - map.code(limited));
                found.outside += std::abs(wanted - limited) <= slack ? 0 : 1;
                found.clipped += std::abs(wanted - limited) <= 0.5 + slack ? 0 : 1;
                found.unexplained += off <= (p.is_nearest ? 0.5 : 1) + slack ? 0 : 1;
            }
    });
    return found;
}

/// Sums over the rows of V, whose rows are columns of W, by their groups: what V means for each row of W needs no more of V than these.
struct group_sums {
    row_major_matrix<double> absolute, squares;  // groups x columns of V

    template <compute_scalar Scalar>
    group_sums(const bound_problem<Scalar>& p, const row_major_matrix<double>& V)
        : absolute(row_major_matrix<double>::Zero(p.steps.cols(), V.cols())), squares(absolute) {
        for (index_t k = 0; k < V.rows(); ++k) {
            if (p.is_dead(k)) continue;
            absolute.row(p.group(k)) += V.row(k).cwiseAbs();
            squares.row(p.group(k)) += V.row(k).cwiseAbs2();
        }
    }
    /// sum_k s_rk |V_kc|
    template <compute_scalar Scalar>
    [[nodiscard]] double certain(const bound_problem<Scalar>& p, index_t row, index_t c) const {
        return p.steps.row(row).dot(absolute.col(c).transpose());
    }
    /// sqrt(sum_k s_rk^2 V_kc^2)
    template <compute_scalar Scalar>
    [[nodiscard]] double spread(const bound_problem<Scalar>& p, index_t row, index_t c) const {
        return std::sqrt(p.steps.row(row).cwiseAbs2().dot(squares.col(c).transpose()));
    }
};

/// How far weights get from 0 before they are rounded, in scales: certainly (less the half that the last code takes in if rounding is to
/// nearest) and with probability 1 - p.
struct reach {
    double certain = 0, probable = 0;
};

/// Of columns first .. first + count - 1.
template <compute_scalar Scalar>
[[nodiscard]] reach reach_of_columns(const bound_problem<Scalar>& p, const matrix_ref& W, index_t first, index_t count, double* scratch) {
    const index_t end = first + count;
    row_major_matrix<double> V = row_major_matrix<double>::Zero(end, count);  // becomes columns of T^-1 without their diagonal entries
    for (index_t k = first; k < end; ++k) V(k, k - first) = 1;
    linalg::solve_lower_transposed(p.T.block(0, 0, end, end), as_mutable_view(V), scratch);
    for (index_t k = first; k < end; ++k) V(k, k - first) = 0;
    const group_sums sums(p, V);
    const double half = p.is_nearest ? 0.5 : 0;
    reach found;
    with_code_map(p.grids, [&](const auto& map_of) {
        for (index_t k = first; k < end; ++k) {
            if (p.is_dead(k)) continue;
            for (index_t i = 0; i < p.rows(); ++i) {
                const double scale = p.grids.scales(i, p.group(k)), zero = map_of(scale, p.grids.zeros(i, p.group(k))).steps(0);
                const double distance = std::abs(W(i, p.column(k)) / scale + (zero - std::nearbyint(zero)));
                const double step = p.steps(i, p.group(k));
                const double drift = sums.certain(p, i, k - first) * (p.is_nearest ? 0.5 : 1) / step;
                found.certain = larger(found.certain, distance + drift - half);
                found.probable = larger(found.probable, distance + p.deviations * sums.spread(p, i, k - first) / step);
            }
        }
    });
    return found;
}

/// What some tokens say, in units.
struct token_errors {
    double largest = 0;  ///< |x E^T|
    double spread = 0;   ///< sqrt(sum_k s_rk^2 v_k^2)
};

/// Of tokens first .. first + count - 1, times 2^-exponent.
template <compute_scalar Scalar>
[[nodiscard]] token_errors errors_of_tokens(const bound_problem<Scalar>& p, const matrix_ref& X, int exponent, index_t first, index_t count,
                                            double* scratch) {
    row_major_matrix<double> V = row_major_matrix<double>::Zero(p.cols(), count);
    for (index_t k = 0; k < p.cols(); ++k)
        for (index_t c = 0; c < count && !p.is_dead(k); ++c) V(k, c) = std::ldexp(X(first + c, p.column(k)), -exponent);
    row_major_matrix<double> product = row_major_matrix<double>::Zero(p.rows(), count);
    kernels::multiply_add(as_mutable_view(product), 1.0, as_const_view(p.errors), as_const_view(V), scratch);
    token_errors found;
    for (index_t i = 0; i < product.size(); ++i) found.largest = larger(found.largest, std::abs(product.data()[i]));
    if (p.is_nearest) return found;
    linalg::solve_lower_transposed(p.T, as_mutable_view(V), scratch);
    const group_sums sums(p, V);
    for (index_t i = 0; i < p.rows(); ++i)
        for (index_t c = 0; c < count; ++c) found.spread = larger(found.spread, sums.spread(p, i, c));
    return found;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
