// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include <magr/kernels/admm_step.hpp>
#include <magr/kernels/packwise.hpp>
#include <magr/linalg/spd_inverse.hpp>
#include <magr/linalg/vectors.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/solver/admm_metric.hpp>
#include <magr/solver/gram_floor.hpp>
#include <magr/solver/row_method.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// The inverse of a `gram_floor`, used to bound rows.
template <compute_scalar S>
class row_floor {
public:
    row_floor(const gram_floor& floor, const gram_split& split) {
        const index_t n = floor.floor.size();
        const auto is_positive = [](double value) { return value > 0; };
        if (!std::all_of(floor.floor.data(), floor.floor.data() + n, is_positive)) return;
        inverse_.resize(n);
        for (index_t j = 0; j < n; ++j) inverse_(j) = static_cast<S>(1 / floor.floor(j));
        const index_t r = floor.strength.size();
        if (!std::all_of(floor.strength.data(), floor.strength.data() + r, is_positive)) return;
        reciprocal_.resize(r);
        Eigen::MatrixXd scaled(n, r);
        for (index_t k = 0; k < r; ++k) {
            reciprocal_(k) = 1 / floor.strength(k);
            for (index_t j = 0; j < n; ++j) scaled(j, k) = split.V(j, k) / floor.floor(j);
        }
        for (index_t k = 0; k < r; ++k)
            for (index_t l = 0; l <= k; ++l)
                small_(k, l) = linalg::dot(split.V.data() + k * n, scaled.data() + l * n, n) + (k == l ? reciprocal_(k) : 0.0);
        if (!small_.factor(r)) reciprocal_.resize(0);
        scaled_.resize(n, r);
        std::transform(scaled.data(), scaled.data() + n * r, scaled_.data(), [](double value) { return static_cast<S>(value); });
    }

    /// Prepares f = s + g of a row, with s = d u.
    /// @param apart  scratch for one row
    [[nodiscard]] floor_inverse<S> of(const admm_metric<S>& metric, const S* u, const S* g, S* apart) const noexcept {
        if (inverse_.size() == 0) return {nullptr};
        if (directions() == 0) return {inverse_.data()};
        direction_vector c{};
        for (index_t k = 0; k < directions(); ++k) {
            const S* const v = scaled_.data() + k * scaled_.rows();
            c[static_cast<std::size_t>(k)] = kernels::sum_packs<S>(metric.cols(), [&](index_t i, auto arch) {
                using traits = simd::pack_traits<S, decltype(arch)>;
                const auto f = simd::fma(traits::load(metric.diagonal() + i), traits::load(u + i), traits::load(g + i));
                return traits::load(v + i) * f;
            });
        }
        small_.solve(directions(), c);
        metric.combine(c, apart);
        double added = 0;
        for (index_t k = 0; k < directions(); ++k) {
            const double factor = c[static_cast<std::size_t>(k)];
            added += factor * factor * reciprocal_(k);
        }
        return {inverse_.data(), apart, added};
    }

private:
    [[nodiscard]] index_t directions() const noexcept { return reciprocal_.size(); }

    Eigen::Array<S, 1, Eigen::Dynamic> inverse_;
    Eigen::ArrayXd reciprocal_;                                // 1 / strength
    Eigen::Matrix<S, Eigen::Dynamic, Eigen::Dynamic> scaled_;  // diag(floor)^-1 V
    direction_matrix small_;                                   // the factor of  diag(strength)^-1 + V^T diag(floor)^-1 V
};

/// ADMM, row by row, in a metric M that holds the diagonal of the bulk of H_d and the directions that dominate it (see `gram_split`).
///
///     x = w0 + q (H_d + M)^-1                      q = M (z - w0) - s
///     x' = r x + (1 - r) z                         r: over-relaxation
///     z = argmin 1/2 (z - x')^T M (z - x') - s^T (z - x') + alpha * sum_g ||z_g||_inf
///     s = the subgradient of the penalty at z that follows from this
///
/// The solution is z; at the end -s equals H_d (z - w0). The code stores u = s / d instead of s. It starts at s = 0 and x' = w0, so each
/// iteration costs exactly one product with (H_d + M)^-1. That product also yields H_d (x - w0) = q - M (x - w0), so the bounds of the
/// optimum cost no further product.
///
/// @par Numerics  the metric removes the different scales of the inputs and the dominating directions; the remaining condition number is
///                about 1 / rho
/// @par Source    Boyd et al., Distributed optimization and statistical learning via ADMM, 2011, sections 3.1.1, 3.4.3 and 6.4
template <compute_scalar S>
class admm final : public row_method<S> {
public:
    /// @param inverse  (H_d + M)^-1
    admm(packed_matrix<S> inverse, admm_metric<S> metric, row_floor<S> floor, double rho, double relaxation)
        : inverse_(std::move(inverse)),
          metric_(std::move(metric)),
          floor_(std::move(floor)),
          rho_(rho),
          relaxation_(static_cast<S>(relaxation)) {}

    [[nodiscard]] const packed_matrix<S>& matrix() const noexcept override { return inverse_; }
    [[nodiscard]] double rho() const noexcept { return rho_; }

    /// e^T H_d e <= curvature e^T M e for the differences e between two iterates. This is an estimate: the largest possible value is
    /// unknown.
    [[nodiscard]] double curvature() const noexcept override {
        return (std::max)(1 / rho_, metric_.directions() > 0 ? 1 / admm_metric<S>::share : 0.0);
    }

    /// z, u <- the first point of row r, product of `slot` <- the next operand of the inverse
    void start(const layer_problem& problem, const row_tile<S>& t, index_t r, index_t slot, double alpha) const noexcept override {
        std::copy_n(t.w0(r), problem.cols(), t.z(r));
        std::fill_n(t.u(r), problem.cols(), S(0));
        std::fill_n(t.y(), problem.cols(), S(0));
        iterate(problem, t, r, slot, alpha, S(1));
    }

    /// z, u <- the next point, product <- the next operand of the inverse; y <- x - w0, g <- H_d y
    /// @return  the bounds of the row
    [[nodiscard]] row_bounds advance(const layer_problem& problem, const row_tile<S>& t, index_t r, index_t slot,
                                     double alpha) const noexcept override {
        std::copy_n(t.product(slot), problem.cols(), t.y());
        pull(t, r, t.y(), t.g());
        iterate(problem, t, r, slot, alpha, relaxation_);
        row_bounds bounds = bound_row(problem, t, r, metric_.diagonal(), floor_.of(metric_, t.u(r), t.g(), t.left()), alpha);
        if (metric_.directions() > 0) {
            subtract(t, r, t.y(), t.left());
            for (index_t k = 0; k < metric_.directions(); ++k) {
                const double along = metric_.along(k, t.left());
                bounds.unknown += metric_.strength(k) * along * along;
            }
        }
        return bounds;
    }

    /// product of `slot` <- the next operand of the inverse, computed again
    void prepare(const layer_problem&, const row_tile<S>& t, index_t r, index_t slot) const noexcept override {
        pull(t, r, nullptr, t.product(slot));
    }

private:
    /// out <- z - w0 - y
    /// @param y  null means zeros
    void subtract(const row_tile<S>& t, index_t r, const S* y, S* out) const noexcept {
        const S *const z = t.z(r), *const w0 = t.w0(r);
        kernels::for_each_pack<S>(metric_.cols(), [&](index_t i, auto arch) {
            using traits = simd::pack_traits<S, decltype(arch)>;
            const auto step = traits::load(z + i) - traits::load(w0 + i);
            simd::store(out + i, y == nullptr ? step : step - traits::load(y + i));
        });
    }

    /// out <- M (z - w0 - y) - s
    /// @param y  null means zeros
    void pull(const row_tile<S>& t, index_t r, const S* y, S* out) const noexcept {
        const S *const d = metric_.diagonal(), *const u = t.u(r);
        S* const e = t.left();
        subtract(t, r, y, e);
        kernels::for_each_pack<S>(metric_.cols(), [&](index_t i, auto arch) {
            using traits = simd::pack_traits<S, decltype(arch)>;
            simd::store(out + i, traits::load(d + i) * (traits::load(e + i) - traits::load(u + i)));
        });
        metric_.add_directions(e, out);
    }

    /// The part of an iteration that follows its product, y.
    void iterate(const layer_problem& problem, const row_tile<S>& t, index_t r, index_t slot, double alpha, S relaxation) const noexcept {
        S* const thresholds = t.thresholds(r, problem.groups());
        if (metric_.directions() == 0) {
            problem.for_each_group([&](index_t g, index_t j, index_t size) {
                const kernels::admm_arrays<S> arrays{t.y() + j,  t.w0(r) + j, metric_.diagonal() + j,
                                                     t.z(r) + j, t.u(r) + j,  t.product(slot) + j};
                thresholds[g] = kernels::admm_step(arrays, size, relaxation, alpha, thresholds[g]);
            });
            return;
        }
        S* const x = t.left();
        const S *const y = t.y(), *const w0 = t.w0(r), *const z = t.z(r);
        kernels::for_each_pack<S>(problem.cols(), [&](index_t i, auto arch) {
            using traits = simd::pack_traits<S, decltype(arch)>;
            const auto point = traits::load(y + i) + traits::load(w0 + i);
            const auto rest = traits::broadcast(S(1) - relaxation) * traits::load(z + i);
            simd::store(x + i, simd::fma(traits::broadcast(relaxation), point, rest));
        });
        metric_.prox(problem, alpha, x, t.z(r), t.u(r), x + problem.cols(), problem.cols(), thresholds);
        prepare(problem, t, r, slot);
    }

    packed_matrix<S> inverse_;
    admm_metric<S> metric_;
    row_floor<S> floor_;
    double rho_;
    S relaxation_;
};

/// @return nothing if H_d + M is not positive definite
/// @par Cost      in^3 / 2 multiply-adds; allocates one matrix of H's size, and temporarily some of its rows
template <compute_scalar S>
[[nodiscard]] std::optional<admm<S>> make_admm(const layer_problem& problem, const gram_split& split, const gram_floor& floor, double rho,
                                               double relaxation, executor_ref exec) {
    const index_t n = problem.cols(), stride = packed_matrix<S>::stride_for(n);
    admm_metric<S> metric(split, rho);
    Eigen::ArrayXd strength(split.directions()), added(n);
    for (index_t k = 0; k < split.directions(); ++k) strength(k) = metric.strength(k);
    for (index_t j = 0; j < n; ++j) added(j) = static_cast<double>(metric.diagonal()[j]);
    aligned_buffer<S> inverse = load_triangle<S>(problem, split.V, strength, added);
    if (!linalg::spd_inverse(matrix_view<S>(inverse.data(), n, n, stride), exec)) return {};
    return admm<S>(packed_matrix<S>(std::move(inverse), n), std::move(metric), row_floor<S>(floor, split), rho, relaxation);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
