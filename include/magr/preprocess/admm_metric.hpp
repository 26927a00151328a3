// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <limits>

#include <magr/kernels/linf.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/preprocess/gram_split.hpp>
#include <magr/preprocess/layer_problem.hpp>
#include <magr/preprocess/small_spd.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// The metric of ADMM,  M = diag(d) + V diag(s) V^T,  with d = rho D and s = 0.3 lambda of a `gram_split`.
///
/// @par Source    the prox in it: Becker, Fadili and Ochs, On quasi-Newton forward-backward splitting, SIAM J. Optim. 29(4), 2019
template <compute_scalar S>
class admm_metric {
public:
    static constexpr double share = 0.3;  ///< s / lambda

    admm_metric(const gram_split& split, double rho)
        : d_((rho * split.D).template cast<S>()), V_(split.V), s_(share * split.lambda), weight_(Eigen::ArrayXd::Zero(d_.size())),
          reciprocal_(d_.template cast<double>().inverse()) {
        for (index_t k = 0; k < directions(); ++k) weight_ += s_(k) * V_.col(k).array().square();
    }

    [[nodiscard]] index_t cols() const noexcept { return d_.size(); }
    [[nodiscard]] index_t directions() const noexcept { return s_.size(); }
    [[nodiscard]] const S* diagonal() const noexcept { return d_.data(); }
    [[nodiscard]] const double* direction(index_t k) const noexcept { return V_.col(k).data(); }
    [[nodiscard]] double strength(index_t k) const noexcept { return s_(k); }

    /// V_k^T x for a function x of the input
    template <class X>
    [[nodiscard]] double along(index_t k, const X& x) const noexcept {
        const double* const v = direction(k);
        return lane_sum(cols(), [&](index_t i) { return v[i] * x(i); });
    }

    /// out <- out + V diag(s) V^T x for a function x of the input
    template <class X>
    void add_directions(const X& x, S* out) const noexcept {
        for (index_t k = 0; k < directions(); ++k) {
            const double factor = s_(k) * along(k, x);
            const double* const v = direction(k);
            for (index_t i = 0; i < cols(); ++i) out[i] += static_cast<S>(factor * v[i]);
        }
    }

    /// z <- argmin 1/2 (z - x)^T M (z - x) - s0^T (z - x) + alpha sum_g ||z_g||_inf,   u <- s1 / d
    ///
    /// with s0 = d u of before and s1 the subgradient of the penalty at z. z is the weighted prox, in the metric d, of
    /// x + (s0 - V beta) / d, where beta are as many numbers as there are directions:
    ///
    ///     F(beta) = beta / s - V^T (z(beta) - x) = 0
    ///
    /// F is the gradient of a convex function, and Newton's method finds its root. At the fixed point of ADMM beta is 0, where it starts.
    ///
    /// @param x           overwritten
    /// @param center      room for as many numbers
    /// @param thresholds  of the groups: those of the last iteration as hints, then those of z
    /// @par Numerics      sums in double. A root that is not exact changes the next point, not what is certified of it: u and z belong to
    ///                    each other for any beta
    template <class Gram>
    void prox(const layer_problem<Gram>& problem, double alpha, S* x, S* center, S* z, S* u, S* thresholds) const noexcept {
        const index_t n = cols(), r = directions();
        const S* const d = diagonal();
        newton_point here, there;
        for (index_t i = 0; i < n; ++i) center[i] = x[i] + u[i];
        const auto evaluate = [&](newton_point& point) {
            shift(center, point.beta, u);
            std::copy(u, u + n, z);
            problem.for_each_group([&](index_t g, index_t j, index_t size) {
                thresholds[g] = kernels::prox_linf<S>(kernels::contiguous_source<S>{z + j}, kernels::diagonal_metric<S>{d + j}, size, alpha,
                                                      thresholds[g]);
            });
            point.norm = 0;
            for (index_t k = 0; k < r; ++k) {
                const double moved = along(k, [&](index_t i) { return static_cast<double>(z[i]) - static_cast<double>(x[i]); });
                point.F[at(k)] = point.beta[at(k)] / s_(k) - moved;
                point.norm += s_(k) * point.F[at(k)] * point.F[at(k)];
            }
            const double moved = lane_sum(n, [&](index_t i) {
                const double step = static_cast<double>(z[i]) - static_cast<double>(x[i]);
                return static_cast<double>(d[i]) * step * step;
            });
            const double noise = lane_sum(n, [&](index_t i) {
                const double value = static_cast<double>(std::abs(z[i])) + static_cast<double>(std::abs(x[i]));
                return weight_(i) * value * value;
            });
            constexpr double eps = std::numeric_limits<S>::epsilon();
            return !(point.norm > 1e-6 * moved + 4 * eps * eps * noise);
        };
        bool done = evaluate(here);
        for (int trials = 0; trials < 400 && !done;) {
            direction_vector newton = here.F;
            direction_matrix J = jacobian(problem, z, u, thresholds);
            if (!J.factor(r)) break;
            J.solve(r, newton);
            // The slope along the step grows with its length: half of it at most is left where the search ends.
            const auto slope = [&](const newton_point& point) {
                double sum = 0;
                for (index_t k = 0; k < r; ++k) sum -= point.F[at(k)] * newton[at(k)];
                return sum;
            };
            const double start = slope(here);
            double low = 0, high = 0, length = 1;
            for (const int last = trials + 40; trials < last; ++trials) {
                there = here;
                for (index_t k = 0; k < r; ++k) there.beta[at(k)] -= length * newton[at(k)];
                done = evaluate(there);
                const double end = slope(there);
                if (done || std::abs(end) <= std::abs(start) / 2) {
                    ++trials;
                    break;
                }
                (end < 0 ? low : high) = length;
                length = high > 0 ? (low + high) / 2 : 2 * length;
            }
            here = there;
        }
        for (index_t i = 0; i < n; ++i) u[i] -= z[i];
    }

private:
    struct newton_point {
        direction_vector beta{}, F{};
        double norm = 0;
    };

    [[nodiscard]] static constexpr std::size_t at(index_t k) noexcept { return static_cast<std::size_t>(k); }

    /// u <- center - V beta / d
    void shift(const S* center, const direction_vector& beta, S* u) const noexcept {
        constexpr index_t block = 256;
        double sums[block];
        for (index_t first = 0; first < cols(); first += block) {
            const index_t count = (std::min)(block, cols() - first);
            std::fill(sums, sums + count, 0.0);
            for (index_t k = 0; k < directions(); ++k) {
                const double* const v = direction(k) + first;
                for (index_t i = 0; i < count; ++i) sums[i] += beta[at(k)] * v[i];
            }
            for (index_t i = 0; i < count; ++i)
                u[first + i] = static_cast<S>(static_cast<double>(center[first + i]) - sums[i] * reciprocal_(first + i));
        }
    }

    /// 1 / s + V_F^T V_F / d_F + sum_g a a^T / sum_C d:  F the elements that are free, C those of a group that are clipped, a = sum_C sign
    /// V
    template <class Gram>
    [[nodiscard]] direction_matrix jacobian(const layer_problem<Gram>& problem, const S* z, const S* v,
                                            const S* thresholds) const noexcept {
        const index_t r = directions();
        direction_matrix J;
        for (index_t k = 0; k < r; ++k) J(k, k) = 1 / s_(k);
        problem.for_each_group([&](index_t g, index_t first, index_t size) {
            const auto is_free = [&](index_t i) { return z[i] == v[i]; };
            for (index_t k = 0; k < r; ++k) {
                const double* const a = direction(k);
                for (index_t l = 0; l <= k; ++l) {
                    const double* const b = direction(l);
                    J(k, l) += lane_sum(size, [&](index_t j) {
                        const index_t i = first + j;
                        return is_free(i) ? a[i] * b[i] * reciprocal_(i) : 0.0;
                    });
                }
            }
            if (!(thresholds[g] > 0)) return;
            const double clipped = lane_sum(size, [&](index_t j) { return is_free(first + j) ? 0.0 : static_cast<double>(d_(first + j)); });
            if (!(clipped > 0)) return;
            direction_vector sums{};
            for (index_t k = 0; k < r; ++k) {
                const double* const a = direction(k);
                sums[at(k)] = lane_sum(size, [&](index_t j) {
                    const index_t i = first + j;
                    return is_free(i) ? 0.0 : v[i] < 0 ? -a[i] : a[i];
                });
            }
            for (index_t k = 0; k < r; ++k)
                for (index_t l = 0; l <= k; ++l) J(k, l) += sums[at(k)] * sums[at(l)] / clipped;
        });
        return J;
    }

    Eigen::Array<S, 1, Eigen::Dynamic> d_;
    Eigen::MatrixXd V_;
    Eigen::ArrayXd s_;
    Eigen::ArrayXd weight_;      // diag(V diag(s) V^T)
    Eigen::ArrayXd reciprocal_;  // 1 / d
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
