// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <optional>
#include <utility>

#include <magr/kernels/admm_step.hpp>
#include <magr/linalg/spd_inverse.hpp>
#include <magr/parallel/executor.hpp>
#include <magr/preprocess/choose_rho.hpp>
#include <magr/preprocess/row_tile.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// ADMM in the diagonal metric D = diag(H_d) + 1e-3 mean(diag H_d), row by row.
///
///     M = (H_d + rho D)^-1
///     x = w0 + (z - u - w0) rho D M
///     v = r x + (1 - r) z + u                      r: over-relaxation
///     z = argmin 1/2 (z - v)^T rho D (z - v) + alpha * sum_g ||z_g||_inf
///     u = v - z
///
/// z is the answer, and rho D u a subgradient of the penalty there. It starts at z + u = w0, where x would be w0, so that every iteration
/// costs exactly one product with M. That also tells H_d (x - w0) = rho D (z - u - x), from which the bounds of the optimum follow for
/// free.
///
/// @par Numerics  the metric takes out the different scales of the inputs; the condition number that remains is about 1 / rho
/// @par Source    Boyd et al., Distributed optimization and statistical learning via ADMM, 2011, sections 3.1.1, 3.4.3 and 6.4
template <compute_scalar S>
class admm {
public:
    /// @param inverse  M, of `metric` = rho D
    admm(packed_matrix<S> inverse, Eigen::Array<S, 1, Eigen::Dynamic> metric, double rho, double relaxation)
        : inverse_(std::move(inverse)), metric_(std::move(metric)), rho_(rho), relaxation_(static_cast<S>(relaxation)) {}

    [[nodiscard]] const packed_matrix<S>& matrix() const noexcept { return inverse_; }
    [[nodiscard]] const S* metric() const noexcept { return metric_.data(); }

    [[nodiscard]] double rho() const noexcept { return rho_; }

    /// e^T H_d e <= curvature e^T metric e for the differences e between two iterates; an estimate, the largest one possible is not known.
    [[nodiscard]] double curvature() const noexcept { return 1 / rho_; }

    /// z, u <- the first point, product <- what is multiplied by M first
    template <class Gram>
    void start(const layer_problem<Gram>& problem, const row_tile<S>& t, index_t r, double alpha) const noexcept {
        t.row(t.z(r)) = t.row(t.w0(r));
        t.row(t.u(r)).setZero();
        t.row(t.y()).setZero();
        iterate(problem, t, r, alpha, S(1));
    }

    /// z, u <- the next point, product <- what is multiplied by M next; y <- x - w0, g <- H_d y
    template <class Gram>
    void advance(const layer_problem<Gram>& problem, const row_tile<S>& t, index_t r, double alpha) const noexcept {
        t.row(t.y()) = t.row(t.product(r));
        t.row(t.g()) = metric_ * (t.row(t.z(r)) - t.row(t.u(r)) - t.row(t.w0(r)) - t.row(t.y()));
        iterate(problem, t, r, alpha, relaxation_);
    }

    /// u, product <- as if the penalty that led to z had been `factor` times as large
    void rescale(const row_tile<S>& t, index_t r, double factor) const noexcept {
        t.row(t.u(r)) *= static_cast<S>(factor);
        prepare(t, r);
    }

    /// product <- what is multiplied by M next, once more
    void prepare(const row_tile<S>& t, index_t r) const noexcept {
        t.row(t.product(r)) = metric_ * (t.row(t.z(r)) - t.row(t.u(r)) - t.row(t.w0(r)));
    }

private:
    template <class Gram>
    void iterate(const layer_problem<Gram>& problem, const row_tile<S>& t, index_t r, double alpha, S relaxation) const noexcept {
        S* const thresholds = t.thresholds(r, problem.groups());
        problem.for_each_group([&](index_t g, index_t j, index_t size) {
            const kernels::admm_arrays<S> arrays{t.y() + j, t.w0(r) + j, metric_.data() + j, t.z(r) + j, t.u(r) + j, t.product(r) + j};
            thresholds[g] = kernels::admm_step(arrays, size, relaxation, alpha, thresholds[g]);
        });
    }

    packed_matrix<S> inverse_;
    Eigen::Array<S, 1, Eigen::Dynamic> metric_;
    double rho_;
    S relaxation_;
};

/// @return nothing if H_d + rho D is not positive definite
/// @par Cost      in^3 / 2 multiply-adds, and 32 in^2 if rho is not given; allocates one matrix of H's size, and for a moment some of its
/// rows
template <compute_scalar S, class Gram, executor Executor>
[[nodiscard]] std::optional<admm<S>> make_admm(const layer_problem<Gram>& problem, const solver_settings& settings, Executor& exec) {
    const index_t n = problem.cols();
    Eigen::ArrayXd D(n);
    for (index_t j = 0; j < n; ++j) D(j) = problem.entry(j, j) + problem.shift;
    D += 1e-3 * D.mean();
    const double rho = settings.rho ? *settings.rho : choose_rho(problem, D, exec);
    Eigen::Array<S, 1, Eigen::Dynamic> metric = (rho * D).template cast<S>();
    aligned_buffer<S> inverse = load_damped_triangle<S>(problem, [&](index_t j) { return static_cast<double>(metric(j)); });
    if (!linalg::spd_inverse(matrix_view<S>(inverse.data(), n, n, packed_matrix<S>::stride_for(n)), exec)) return {};
    return admm<S>(packed_matrix<S>(std::move(inverse), n), std::move(metric), rho, settings.relaxation);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
