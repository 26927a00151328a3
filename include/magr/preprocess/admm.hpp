// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include <magr/kernels/admm_step.hpp>
#include <magr/linalg/spd_inverse.hpp>
#include <magr/parallel/executor.hpp>
#include <magr/preprocess/admm_metric.hpp>
#include <magr/preprocess/row_bounds.hpp>
#include <magr/preprocess/row_tile.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Sharpens the bound of f^T H_d^-1 f where a few directions dominate H_d: with P and G = H_d P of these directions, moving y by -P c moves
/// g by -G c and f by as much, and c = (G^T G)^-1 G^T f leaves the shortest f.
class bound_correction {
public:
    template <class Gram, executor Executor>
    bound_correction(const layer_problem<Gram>& problem, const gram_split& split, Executor& exec)
        : P_(split.V.array().colwise() / split.D), G_(P_.rows(), P_.cols()) {
        const index_t n = P_.rows(), r = P_.cols();
        for (index_t k = 0; k < r; ++k) {
            const Eigen::VectorXd scaled = problem.scale * P_.col(k);
            constexpr index_t chunk = 64;
            exec.parallel_for((n + chunk - 1) / chunk, [&](index_t task, index_t) {
                for (index_t i = task * chunk; i < (std::min)(n, (task + 1) * chunk); ++i)
                    G_(i, k) = problem.unit * column_times(problem.H, i, scaled.data()) + problem.shift * P_(i, k);
            });
            const double length = G_.col(k).norm();
            G_.col(k) /= length;
            P_.col(k) /= length;
        }
        for (index_t k = 0; k < r; ++k)
            for (index_t l = 0; l <= k; ++l) GG_(k, l) = G_.col(k).dot(G_.col(l)) + (k == l ? 1e-12 : 0.0);
        if (!GG_.factor(r)) P_.resize(n, 0);
    }

    [[nodiscard]] index_t directions() const noexcept { return P_.cols(); }
    [[nodiscard]] const double* P(index_t k) const noexcept { return P_.col(k).data(); }
    [[nodiscard]] const double* G(index_t k) const noexcept { return G_.col(k).data(); }

    /// c for a function f of the input
    template <class F>
    [[nodiscard]] direction_vector coefficients(const F& f) const noexcept {
        direction_vector c{};
        for (index_t k = 0; k < directions(); ++k) {
            const double* const g = G(k);
            c[static_cast<std::size_t>(k)] = lane_sum(P_.rows(), [&](index_t i) { return g[i] * f(i); });
        }
        GG_.solve(directions(), c);
        return c;
    }

private:
    Eigen::MatrixXd P_, G_;
    direction_matrix GG_;
};

/// ADMM in a metric M that knows the diagonal of the bulk of H_d and the directions that dominate it (see `gram_split`), row by row.
///
///     x = w0 + q (H_d + M)^-1                      q = M (z - w0) - s
///     x' = r x + (1 - r) z                         r: over-relaxation
///     z = argmin 1/2 (z - x')^T M (z - x') - s^T (z - x') + alpha * sum_g ||z_g||_inf
///     s = the subgradient of the penalty at z that this leaves
///
/// z is the answer, and -s its H_d (z - w0) at the end. u = s / d is kept in the place of s. It starts at s = 0 and x' = w0, so that every
/// iteration costs exactly one product with (H_d + M)^-1. That also tells H_d (x - w0) = q - M (x - w0), from which the bounds of the
/// optimum follow for free.
///
/// @par Numerics  the metric takes out the different scales of the inputs and the dominating directions; the condition number that remains
///                is about 1 / rho
/// @par Source    Boyd et al., Distributed optimization and statistical learning via ADMM, 2011, sections 3.1.1, 3.4.3 and 6.4
template <compute_scalar S>
class admm {
public:
    /// @param inverse  (H_d + M)^-1
    admm(packed_matrix<S> inverse, admm_metric<S> metric, bound_correction correction, double rho, double relaxation)
        : inverse_(std::move(inverse)),
          metric_(std::move(metric)),
          correction_(std::move(correction)),
          rho_(rho),
          relaxation_(static_cast<S>(relaxation)) {}

    [[nodiscard]] const packed_matrix<S>& matrix() const noexcept { return inverse_; }
    [[nodiscard]] const S* metric() const noexcept { return metric_.diagonal(); }
    [[nodiscard]] double rho() const noexcept { return rho_; }

    /// e^T H_d e <= curvature e^T M e for the differences e between two iterates; an estimate, the largest one possible is not known.
    [[nodiscard]] double curvature() const noexcept {
        return (std::max)(1 / rho_, metric_.directions() > 0 ? 1 / admm_metric<S>::share : 0.0);
    }

    /// z, u <- the first point of row r, product of `slot` <- what is multiplied by the inverse first
    template <class Gram>
    void start(const layer_problem<Gram>& problem, const row_tile<S>& t, index_t r, index_t slot, double alpha) const noexcept {
        t.row(t.z(r)) = t.row(t.w0(r));
        t.row(t.u(r)).setZero();
        t.row(t.y()).setZero();
        iterate(problem, t, r, slot, alpha, S(1));
    }

    /// z, u <- the next point, product <- what is multiplied by the inverse next; y <- x - w0, g <- H_d y
    /// @return  the bounds of the row
    template <class Gram>
    [[nodiscard]] row_bounds advance(const layer_problem<Gram>& problem, const row_tile<S>& t, index_t r, index_t slot,
                                     double alpha) const noexcept {
        const S *const d = metric_.diagonal(), *const z = t.z(r), *const u = t.u(r), *const w0 = t.w0(r);
        S *const y = t.y(), *const g = t.g();
        t.row(y) = t.row(t.product(slot));
        for (index_t i = 0; i < problem.cols(); ++i) g[i] = d[i] * (z[i] - u[i] - w0[i] - y[i]);
        metric_.add_directions([&](index_t i) { return static_cast<double>(z[i] - w0[i]) - static_cast<double>(y[i]); }, g);
        iterate(problem, t, r, slot, alpha, relaxation_);
        return correction_.directions() > 0 && problem.shift > 0 ? corrected_bounds(problem, t, r, alpha)
                                                                 : bound_row(problem, t, r, d, alpha);
    }

    /// product of `slot` <- what is multiplied by the inverse next, once more
    template <class Gram>
    void prepare(const layer_problem<Gram>&, const row_tile<S>& t, index_t r, index_t slot) const noexcept {
        const S *const d = metric_.diagonal(), *const z = t.z(r), *const u = t.u(r), *const w0 = t.w0(r);
        S* const q = t.product(slot);
        for (index_t i = 0; i < metric_.cols(); ++i) q[i] = d[i] * (z[i] - u[i] - w0[i]);
        metric_.add_directions([&](index_t i) { return static_cast<double>(z[i] - w0[i]); }, q);
    }

private:
    /// The rest of an iteration after its product, y.
    template <class Gram>
    void iterate(const layer_problem<Gram>& problem, const row_tile<S>& t, index_t r, index_t slot, double alpha,
                 S relaxation) const noexcept {
        S* const thresholds = t.thresholds(r, problem.groups());
        if (metric_.directions() == 0) {
            problem.for_each_group([&](index_t g, index_t j, index_t size) {
                const kernels::admm_arrays<S> arrays{t.y() + j,  t.w0(r) + j, metric_.diagonal() + j,
                                                     t.z(r) + j, t.u(r) + j,  t.product(slot) + j};
                thresholds[g] = kernels::admm_step(arrays, size, relaxation, alpha, thresholds[g]);
            });
            return;
        }
        S *const x = t.left(), *const center = x + problem.cols();
        t.row(x) = relaxation * (t.row(t.y()) + t.row(t.w0(r))) + (1 - relaxation) * t.row(t.z(r));
        metric_.prox(problem, alpha, x, center, t.z(r), t.u(r), thresholds);
        prepare(problem, t, r, slot);
    }

    /// The bounds of `bound_row`, with f shortened along the dominating directions.
    template <class Gram>
    [[nodiscard]] row_bounds corrected_bounds(const layer_problem<Gram>& problem, const row_tile<S>& t, index_t r, double alpha) const {
        const S *const d = metric_.diagonal(), *const z = t.z(r), *const u = t.u(r), *const w0 = t.w0(r), *const y = t.y(),
                       *const g = t.g();
        const auto s = [&](index_t i) { return static_cast<double>(d[i]) * static_cast<double>(u[i]); };
        const auto e = [&](index_t i) { return static_cast<double>(z[i] - w0[i]) - static_cast<double>(y[i]); };
        const direction_vector c = correction_.coefficients([&](index_t i) { return s(i) + static_cast<double>(g[i]); });
        row_bounds bounds;
        double limit = 1, linear = 0, quadratic = 0;
        const S* const thresholds = t.thresholds(r, problem.groups());
        constexpr index_t block = 256;
        double moved[block], turned[block];  // P c and G c
        problem.for_each_group([&](index_t group, index_t first, index_t size) {
            double norm = 0;
            for (index_t j = first; j < first + size; j += block) {
                const index_t count = (std::min)(block, first + size - j);
                std::fill(moved, moved + count, 0.0);
                std::fill(turned, turned + count, 0.0);
                for (index_t k = 0; k < correction_.directions(); ++k) {
                    const double *const P = correction_.P(k) + j, *const G = correction_.G(k) + j, factor = c[static_cast<std::size_t>(k)];
                    for (index_t i = 0; i < count; ++i) {
                        moved[i] += factor * P[i];
                        turned[i] += factor * G[i];
                    }
                }
                bounds.known += lane_sum(
                    count, [&](index_t i) { return (static_cast<double>(y[j + i]) + 2 * e(j + i)) * static_cast<double>(g[j + i]); });
                bounds.unknown += lane_sum(count, [&](index_t i) { return static_cast<double>(d[j + i]) * e(j + i) * e(j + i); });
                linear += lane_sum(count, [&](index_t i) { return s(j + i) * static_cast<double>(w0[j + i]); });
                norm += lane_sum(count, [&](index_t i) { return std::abs(s(j + i)); });
                quadratic += lane_sum(count, [&](index_t i) {
                    const double f = s(j + i) + static_cast<double>(g[j + i]) - turned[i];
                    return f * f / problem.shift - (static_cast<double>(y[j + i]) - moved[i]) * (f + s(j + i));
                });
            }
            if (norm > alpha) limit = (std::min)(limit, alpha / norm);
            if (thresholds[group] > 0) bounds.missed = (std::max)(bounds.missed, std::abs(norm / alpha - 1));
            bounds.penalty += alpha * static_cast<double>(thresholds[group]);
        });
        for (index_t k = 0; k < metric_.directions(); ++k) {
            const double along = metric_.along(k, e);
            bounds.unknown += metric_.strength(k) * along * along;
        }
        bounds.dual = best_dual(linear, quadratic, limit);
        return bounds;
    }

    packed_matrix<S> inverse_;
    admm_metric<S> metric_;
    bound_correction correction_;
    double rho_;
    S relaxation_;
};

/// @return nothing if H_d + M is not positive definite
/// @par Cost      in^3 / 2 multiply-adds; allocates one matrix of H's size, and for a moment some of its rows
template <compute_scalar S, class Gram, executor Executor>
[[nodiscard]] std::optional<admm<S>> make_admm(const layer_problem<Gram>& problem, const gram_split& split, double rho, double relaxation,
                                               Executor& exec) {
    const index_t n = problem.cols(), stride = packed_matrix<S>::stride_for(n);
    admm_metric<S> metric(split, rho);
    aligned_buffer<S> inverse = load_damped_triangle<S>(problem, [&](index_t j) { return static_cast<double>(metric.diagonal()[j]); });
    for (index_t i = 0; i < n; ++i)
        for (index_t k = 0; k < metric.directions(); ++k) {
            const double* const v = metric.direction(k);
            const double factor = metric.strength(k) * v[i];
            for (index_t j = 0; j <= i; ++j) inverse.data()[i * stride + j] += static_cast<S>(factor * v[j]);
        }
    if (!linalg::spd_inverse(matrix_view<S>(inverse.data(), n, n, stride), exec)) return {};
    return admm<S>(packed_matrix<S>(std::move(inverse), n), std::move(metric), bound_correction(problem, split, exec), rho, relaxation);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
