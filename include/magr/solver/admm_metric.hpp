// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <limits>

#include <magr/kernels/metric.hpp>
#include <magr/kernels/packwise.hpp>
#include <magr/kernels/source.hpp>
#include <magr/kernels/threshold.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/solver/direction_matrix.hpp>
#include <magr/solver/gram_split.hpp>
#include <magr/solver/layer_problem.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// The metric of ADMM,  M = diag(d) + V diag(s) V^T,  with d = rho D and s = 0.3 lambda of a `gram_split`.
///
/// @par Source    the prox in this metric: Becker, Fadili and Ochs, On quasi-Newton forward-backward splitting, SIAM J. Optim. 29(4), 2019
template <compute_scalar S>
class admm_metric {
public:
    static constexpr double share = 0.3;     ///< s / lambda
    static constexpr index_t workspace = 5;  ///< how many rows `prox` needs

    admm_metric(const gram_split& split, double rho)
        : d_(split.D.size()), V_(split.D.size(), split.directions()), s_(split.directions()), weight_(d_.size()), reciprocal_(d_.size()) {
        for (index_t k = 0; k < directions(); ++k) s_(k) = share * split.lambda(k);
        for (index_t j = 0; j < cols(); ++j) {
            const double d = rho * split.D(j);
            d_(j) = static_cast<S>(d);
            reciprocal_(j) = static_cast<S>(1 / d);
            double weight = 0;
            for (index_t k = 0; k < directions(); ++k) {
                V_(j, k) = static_cast<S>(split.V(j, k));
                weight += s_(k) * (split.V(j, k) * split.V(j, k));
            }
            weight_(j) = static_cast<S>(weight);
        }
    }

    [[nodiscard]] index_t cols() const noexcept { return d_.size(); }
    [[nodiscard]] index_t directions() const noexcept { return s_.size(); }
    [[nodiscard]] const S* diagonal() const noexcept { return d_.data(); }
    [[nodiscard]] const S* direction(index_t k) const noexcept { return V_.data() + k * cols(); }
    [[nodiscard]] double strength(index_t k) const noexcept { return s_(k); }

    /// V_k^T x
    [[nodiscard]] double along(index_t k, const S* x) const noexcept {
        const S* const v = direction(k);
        return kernels::sum_packs<S>(cols(), [&](index_t i, auto arch) {
            using traits = simd::pack_traits<S, decltype(arch)>;
            return traits::load(v + i) * traits::load(x + i);
        });
    }

    /// out <- out + V diag(s) V^T x
    void add_directions(const S* x, S* out) const noexcept {
        for (index_t k = 0; k < directions(); ++k) add_multiple(static_cast<S>(s_(k) * along(k, x)), direction(k), out);
    }

    /// out <- sum_k factors_k V_k
    void combine(const direction_vector& factors, S* out) const noexcept {
        std::fill_n(out, cols(), S(0));
        for (index_t k = 0; k < directions(); ++k) add_multiple(static_cast<S>(factors[at(k)]), direction(k), out);
    }

    /// z <- argmin 1/2 (z - x)^T M (z - x) - s0^T (z - x) + alpha sum_g ||z_g||_inf,   u <- s1 / d
    ///
    /// with s0 = d u of the previous iteration and s1 the subgradient of the penalty at z. z is the weighted prox, in the metric d, of x +
    /// (s0 - V beta) / d, where beta holds one number for each direction and solves
    ///
    ///     F(beta) = beta / s - V^T (z(beta) - x) = 0
    ///
    /// F is the gradient of a convex function, and Newton's method finds its root. At the fixed point of ADMM beta is 0, so the search
    /// starts there.
    ///
    /// @param room        scratch for `workspace` rows, `stride` elements apart
    /// @param thresholds  of the groups: in, those of the last iteration as hints; out, those of z
    /// @par Numerics      sums as in `sum_packs`. An inexact root changes the next point but not the bounds certified for it: u and z match
    ///                    for every beta
    void prox(const layer_problem& problem, double alpha, const S* x, S* z, S* u, S* room, index_t stride, S* thresholds) const noexcept {
        const index_t n = cols(), r = directions();
        const S* const d = diagonal();
        S *const center = room, *const moved = room + stride;
        const double noise = kernels::sum_packs<S>(n, [&](index_t i, auto arch) {
            using traits = simd::pack_traits<S, decltype(arch)>;
            const auto from = traits::load(x + i), to = from + traits::load(u + i);
            simd::store(center + i, to);
            const auto size = simd::abs(from) + simd::abs(to);
            return traits::load(weight_.data() + i) * (size * size);
        });
        newton_point here, there;
        const auto evaluate = [&](newton_point& point) {
            shift(center, point.beta, u);
            double length = 0;
            problem.for_each_group([&](index_t g, index_t j, index_t size) {
                const S tau = kernels::find_threshold(kernels::contiguous_source<const S>{u + j}, kernels::diagonal_metric<S>{d + j}, size,
                                                      alpha, thresholds[g], simd::default_arch{});
                thresholds[g] = tau;
                length += kernels::sum_packs<S>(size, [&](index_t i, auto arch) {
                    using traits = simd::pack_traits<S, decltype(arch)>;
                    const auto v = traits::load(u + j + i);
                    const auto point_at = simd::copysign((simd::min)(simd::abs(v), traits::broadcast(tau)), v);
                    const auto step = point_at - traits::load(x + j + i);
                    simd::store(z + j + i, point_at);
                    simd::store(moved + j + i, step);
                    return traits::load(d + j + i) * (step * step);
                });
            });
            double error = 0;
            for (index_t k = 0; k < r; ++k) {
                point.F[at(k)] = point.beta[at(k)] / s_(k) - along(k, moved);
                error += s_(k) * point.F[at(k)] * point.F[at(k)];
            }
            constexpr auto eps = static_cast<double>(std::numeric_limits<S>::epsilon());
            return !(error > 1e-6 * length + 4 * eps * eps * noise);
        };
        bool done = evaluate(here);
        for (int trials = 0; trials < 400 && !done;) {
            direction_vector newton = here.F;
            direction_matrix J = jacobian(problem, z, u, thresholds, moved, stride);
            if (!J.factor(r)) break;
            J.solve(r, newton);
            // The slope along the step grows with its length. The search ends when at most half of it is left.
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
        kernels::for_each_pack<S>(n, [&](index_t i, auto arch) {
            using traits = simd::pack_traits<S, decltype(arch)>;
            simd::store(u + i, traits::load(u + i) - traits::load(z + i));
        });
    }

private:
    struct newton_point {
        direction_vector beta{}, F{};
    };

    [[nodiscard]] static constexpr std::size_t at(index_t k) noexcept { return static_cast<std::size_t>(k); }

    /// out <- out + factor x
    void add_multiple(S factor, const S* x, S* out) const noexcept {
        kernels::for_each_pack<S>(cols(), [&](index_t i, auto arch) {
            using traits = simd::pack_traits<S, decltype(arch)>;
            simd::store(out + i, simd::fma(traits::broadcast(factor), traits::load(x + i), traits::load(out + i)));
        });
    }

    /// u <- center - V beta / d
    void shift(const S* center, const direction_vector& beta, S* u) const noexcept {
        combine(beta, u);
        kernels::for_each_pack<S>(cols(), [&](index_t i, auto arch) {
            using traits = simd::pack_traits<S, decltype(arch)>;
            simd::store(u + i, traits::load(center + i) - traits::load(u + i) * traits::load(reciprocal_.data() + i));
        });
    }

    /// 1 / s + V_F^T V_F / d_F + sum_g a a^T / sum_C d, where F are the free elements, C the clipped ones of a group, and a = sum_C sign V
    /// @param room  scratch for three rows
    [[nodiscard]] direction_matrix jacobian(const layer_problem& problem, const S* z, const S* v, const S* thresholds, S* room,
                                            index_t stride) const noexcept {
        const index_t r = directions();
        S *const free = room, *const signs = room + stride, *const product = room + 2 * stride;
        direction_matrix J;
        for (index_t k = 0; k < r; ++k) J(k, k) = 1 / s_(k);
        problem.for_each_group([&](index_t g, index_t first, index_t size) {
            const double clipped = kernels::sum_packs<S>(size, [&](index_t j, auto arch) {
                using traits = simd::pack_traits<S, decltype(arch)>;
                const index_t i = first + j;
                const auto value = traits::load(v + i), zero = traits::broadcast(S(0));
                const auto is_free = traits::load(z + i) == value;
                simd::store(free + i, simd::select(is_free, traits::load(reciprocal_.data() + i), zero));
                simd::store(signs + i, simd::select(is_free, zero, simd::copysign(traits::broadcast(S(1)), value)));
                return simd::select(is_free, zero, traits::load(d_.data() + i));
            });
            if (!(thresholds[g] > 0 && clipped > 0)) return;
            direction_vector sums{};
            for (index_t k = 0; k < r; ++k) {
                const S* const a = direction(k) + first;
                sums[at(k)] = kernels::sum_packs<S>(size, [&](index_t j, auto arch) {
                    using traits = simd::pack_traits<S, decltype(arch)>;
                    return traits::load(signs + first + j) * traits::load(a + j);
                });
            }
            for (index_t k = 0; k < r; ++k)
                for (index_t l = 0; l <= k; ++l) J(k, l) += sums[at(k)] * sums[at(l)] / clipped;
        });
        for (index_t k = 0; k < r; ++k) {
            const S* const a = direction(k);
            kernels::for_each_pack<S>(cols(), [&](index_t i, auto arch) {
                using traits = simd::pack_traits<S, decltype(arch)>;
                simd::store(product + i, traits::load(free + i) * traits::load(a + i));
            });
            for (index_t l = 0; l <= k; ++l) J(k, l) += along(l, product);
        }
        return J;
    }

    using row = Eigen::Array<S, 1, Eigen::Dynamic>;
    row d_;
    Eigen::Matrix<S, Eigen::Dynamic, Eigen::Dynamic> V_;
    Eigen::ArrayXd s_;
    row weight_;      // diag(V diag(s) V^T)
    row reciprocal_;  // 1 / d
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
