// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Cholesky>
#include <algorithm>
#include <vector>

#include <magr/kernels/linf.hpp>
#include <magr/preprocess/solve.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// ADMM for a `layer_problem` in the diagonal metric D = diag(H) + 1e-3 mean(diag H).
///
///     M = (H + rho D)^-1
///     x = w0 + M rho D (z - u - w0)
///     v = r x + (1 - r) z + u                      r: over-relaxation
///     z = argmin 1/2 (z - v)^T rho D (z - v) + alpha * sum_g ||z_g||_inf
///     u = v - z
///
/// z is the answer: rho D u is a subgradient of the penalty there, which the certificate uses. It starts at z + u = w0, where x would
/// be w0, so that every iteration costs exactly one product with M.
///
/// @par Cost      one Cholesky factorization and inverse, then in^2 multiply-adds per row and iteration; allocates M, z, u and a tile of rows
/// @par Numerics  the metric takes out the different scales of the inputs; the condition number that remains is about 1 / rho
/// @par Source    Boyd et al., Distributed optimization and statistical learning via ADMM, 2011, sections 3.1.1, 3.4.3 and 6.4
template <compute_scalar S>
class admm {
public:
    admm(const layer_problem<S>& problem, const solver_settings& settings)
        : problem_(problem), relaxation_(static_cast<S>(settings.relaxation)), z_(problem.W0), u_(problem.rows(), problem.cols()),
          thresholds_(problem.rows(), problem.groups()) {
        const auto diagonal = problem.H.diagonal().template cast<double>().array();
        metric_ = (settings.rho * (diagonal + 1e-3 * diagonal.mean())).template cast<S>();
        col_major_matrix<S> system = problem.H;
        system.diagonal().array() += metric_.transpose();
        inverse_ = system.llt().solve(col_major_matrix<S>::Identity(problem.cols(), problem.cols()));
        thresholds_.setZero();
        u_.setZero();
        for (index_t i = 0; i < problem.rows(); ++i) shrink_row(i, problem.W0.row(i).array());
    }

    void iterate() {
        constexpr index_t tile = 256;  // rows whose z, u and w0 stay in cache from the product to the prox
        for (index_t first = 0; first < problem_.rows(); first += tile) {
            const index_t count = std::min(tile, problem_.rows() - first);
            const auto z = z_.middleRows(first, count).array();
            const auto u = u_.middleRows(first, count).array();
            const auto w0 = problem_.W0.middleRows(first, count).array();
            residual_ = ((z - u - w0).rowwise() * metric_).matrix();
            step_.noalias() = residual_ * inverse_;
            for (index_t r = 0; r < count; ++r) {
                const index_t i = first + r;
                shrink_row(i, relaxation_ * (step_.row(r) + problem_.W0.row(i)).array() + (S(1) - relaxation_) * z_.row(i).array() + u_.row(i).array());
            }
        }
    }

    [[nodiscard]] certificate certify(const duality_gap<S>& gap) const {
        return gap.evaluate(z_, [&](index_t i, index_t j) { return static_cast<double>(u_(i, j)) * static_cast<double>(metric_(j)); });
    }

    [[nodiscard]] const row_major_matrix<S>& point() const noexcept { return z_; }

private:
    /// z <- prox(v), u <- v - z in row i
    template <class Values>
    void shrink_row(index_t i, const Values& v) {
        u_.row(i) = v.matrix();
        z_.row(i) = u_.row(i);
        problem_.for_each_group([&](index_t g, index_t j, index_t size) {
            thresholds_(i, g) = kernels::prox_linf<S>(kernels::contiguous_source<S>{&z_(i, j)}, kernels::diagonal_metric<S>{metric_.data() + j}, size,
                                                      problem_.alpha, thresholds_(i, g));
        });
        u_.row(i) -= z_.row(i);
    }

    const layer_problem<S>& problem_;
    S relaxation_;
    Eigen::Array<S, 1, Eigen::Dynamic> metric_;  // rho D
    row_major_matrix<S> inverse_;                // M
    row_major_matrix<S> z_, u_;
    row_major_matrix<S> thresholds_;             // of the last prox, one per row and group: where the next search starts
    row_major_matrix<S> residual_, step_;        // one tile of rows
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
