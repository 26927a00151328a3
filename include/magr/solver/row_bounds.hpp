// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include <magr/kernels/bound_sums.hpp>
#include <magr/solver/row_tile.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// max over 0 <= t <= limit of  t linear - t^2/2 quadratic:  the dual value  Q(t s) = t s^T w0 - t^2/2 s^T H_d^-1 s
/// @return 0, which bounds every optimum, if the numbers say nothing: they overflowed, or the quadratic is negative, as with no Gram matrix
[[nodiscard]] inline double best_dual(double linear, double quadratic, double limit) noexcept {
    if (!(linear > 0 && quadratic >= 0 && limit <= (std::numeric_limits<double>::max)())) return 0;
    // No division by zero, even if its result is discarded: hosts may trap it.
    const double t = linear < limit * quadratic ? linear / (quadratic > 0 ? quadratic : 1) : limit;
    const double value = t * linear - t * t / 2 * quadratic;
    return value <= (std::numeric_limits<double>::max)() ? value : 0;
}

/// The bounds of a row, in the unit in which it is solved, and their parts.
struct row_bounds {
    double known = 0;    ///< y^T g + 2 e^T g: the part of d^T H_d d that is known, with d = z - w0 = y + e
    double unknown = 0;  ///< e^T M e, M the metric of the method: the rest is at most `curvature` times this
    double penalty = 0;  ///< alpha sum_g ||z_g||_inf
    double dual = 0;     ///< at most the optimum
    double missed = 0;   ///< largest | ||s_g||_1 / alpha - 1 | of a group that is not zero: 0 except for rounding

    [[nodiscard]] double primal(double curvature) const noexcept { return (known + curvature * unknown) / 2 + penalty; }
};

/// The parts of f^T N^-1 f that do not depend on f alone; see `bound_row`.
template <class S>
struct floor_inverse {
    const S* floor;            ///< 1 / floor of every input, null if nothing is known of H_d
    const S* apart = nullptr;  ///< V c, null without directions
    double added = 0;          ///< c^T diag(strength)^-1 c
};

/// The bounds of a row whose iterate is z, with the subgradient s = diag(metric) u of its penalty.
///
/// Works with any method that knows the product g = H_d y at a point y + w0 near its iterate z. As ||s_g||_1 <= alpha, with e = z - w0 - y,
/// f = s + g, and a matrix N <= H_d,
///
///     P(z) = 1/2 (y^T g + 2 e^T g + e^T H_d e) + alpha sum_g ||z_g||_inf                                      at least the optimum
///     Q(s) = s^T w0 - 1/2 s^T H_d^-1 s  >=  s^T w0 - 1/2 (y^T g - 2 f^T y + f^T N^-1 f)                       at most the optimum
///     Q(t g), t >= 0:                       -t g^T w0 - t^2/2 y^T g     with t small enough that ||t g||_1 <= alpha in each group
///
/// With N = diag(floor) + V diag(strength) V^T,  f^T N^-1 f  is the minimum over c of  (f - V c)^T diag(floor)^-1 (f - V c) + c^T
/// diag(strength)^-1 c: `inverse` holds the minimiser. The lower bounds need no other product. e^T H_d e, the only unknown, is estimated
/// until the gap is small enough, and only then measured, by half a product.
template <compute_scalar S>
[[nodiscard]] row_bounds bound_row(const layer_problem& problem, const row_tile<S>& t, index_t r, const S* metric,
                                   const floor_inverse<S>& inverse, double alpha) {
    kernels::bound_sums sums;
    row_bounds bounds;
    constexpr double unlimited = 1e100;  // large, but products with it do not overflow
    double limit_s = 1, limit_g = unlimited;
    const S* const thresholds = t.thresholds(r, problem.groups());
    problem.for_each_group([&](index_t g, index_t j, index_t size) {
        const auto norms = kernels::add_bound_sums(size, t.w0(r) + j, t.z(r) + j, t.u(r) + j, metric + j, t.y() + j, t.g() + j,
                                                   (inverse.floor == nullptr ? metric : inverse.floor) + j,
                                                   inverse.apart == nullptr ? nullptr : inverse.apart + j, sums);
        if (norms.s > alpha) limit_s = (std::min)(limit_s, alpha / norms.s);
        if (norms.g * unlimited > alpha) limit_g = (std::min)(limit_g, alpha / norms.g);
        if (thresholds[g] > 0) bounds.missed = (std::max)(bounds.missed, std::abs(norms.s / alpha - 1));
        bounds.penalty += alpha * static_cast<double>(thresholds[g]);
    });
    bounds.known = sums.yg + 2 * sums.eg;
    bounds.unknown = sums.ee;
    if (sums.gw < 0) bounds.dual = best_dual(-sums.gw, sums.yg, limit_g);
    if (inverse.floor != nullptr)
        bounds.dual = (std::max)(bounds.dual, best_dual(sums.sw, sums.yg - 2 * sums.fy + sums.ff + inverse.added, limit_s));
    return bounds;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
