// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <utility>

#include <magr/kernels/metric.hpp>
#include <magr/kernels/packwise.hpp>
#include <magr/kernels/prox.hpp>
#include <magr/kernels/source.hpp>
#include <magr/solver/row_method.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// The iteration of the paper's authors, row by row:
///
///     v = z - step (z - w0) H_d,   z = prox of step alpha ||.||_inf at v, per row or group,   step = 1 / lambda_max(H_d)
///
/// Without damping, step is 1 and the prox threshold is alpha itself, as in their code.
///
/// @par Source    arXiv 2406.00800, Algorithm 1, as in the authors' code, which normalises H first, so that eta = 1
template <compute_scalar S>
class proximal_gradient final : public row_method<S> {
public:
    /// @param shift  added to the diagonal of H / lambda_max(H) by damping
    proximal_gradient(packed_matrix<S> damped, index_t cols, double shift)
        : damped_(std::move(damped)),
          metric_(Eigen::Array<S, 1, Eigen::Dynamic>::Constant(cols, static_cast<S>(1 + shift))),
          inverse_floor_(Eigen::Array<S, 1, Eigen::Dynamic>::Constant(shift > 0 ? cols : 0, static_cast<S>(1 / shift))),
          step_(static_cast<S>(1 / (1 + shift))) {}

    [[nodiscard]] const packed_matrix<S>& matrix() const noexcept override { return damped_; }

    /// e^T H_d e <= curvature e^T metric e
    [[nodiscard]] double curvature() const noexcept override { return 1; }

    /// z <- w0, product of `slot` <- the next operand of H_d
    void start(const layer_problem& problem, const row_tile<S>& t, index_t r, index_t slot, double) const noexcept override {
        std::copy_n(t.w0(r), problem.cols(), t.z(r));
        prepare(problem, t, r, slot);
    }

    /// z <- the next point, u <- the residual of its prox, product <- the next operand of H_d; y <- the last z - w0, g <- H_d y
    /// @return  the bounds of the row
    [[nodiscard]] row_bounds advance(const layer_problem& problem, const row_tile<S>& t, index_t r, index_t slot,
                                     double alpha) const noexcept override {
        const index_t n = problem.cols();
        subtract(n, t.z(r), t.w0(r), t.y());
        std::copy_n(t.product(slot), n, t.g());
        kernels::for_each_pack<S>(n, [&, z = t.z(r), u = t.u(r), g = t.g()](index_t i, auto arch) {
            using traits = simd::pack_traits<S, decltype(arch)>;
            simd::store(u + i, traits::load(z + i) - traits::broadcast(step_) * traits::load(g + i));
        });
        std::copy_n(t.u(r), n, t.z(r));
        S* const thresholds = t.thresholds(r, problem.groups());
        problem.for_each_group([&](index_t g, index_t j, index_t size) {
            thresholds[g] = kernels::prox_linf<S>(kernels::contiguous_source<S>{t.z(r) + j},
                                                  kernels::diagonal_metric<S>{metric_.data() + j}, size, alpha, thresholds[g]);
        });
        subtract(n, t.u(r), t.z(r), t.u(r));
        prepare(problem, t, r, slot);
        return bound_row(problem, t, r, metric_.data(), {inverse_floor_.size() > 0 ? inverse_floor_.data() : nullptr}, alpha);
    }

    /// product of `slot` <- the next operand of H_d, computed again
    void prepare(const layer_problem& problem, const row_tile<S>& t, index_t r, index_t slot) const noexcept override {
        subtract(problem.cols(), t.z(r), t.w0(r), t.product(slot));
    }

private:
    /// out <- a - b
    static void subtract(index_t n, const S* a, const S* b, S* out) noexcept {
        kernels::for_each_pack<S>(n, [&](index_t i, auto arch) {
            using traits = simd::pack_traits<S, decltype(arch)>;
            simd::store(out + i, traits::load(a + i) - traits::load(b + i));
        });
    }

    packed_matrix<S> damped_;
    Eigen::Array<S, 1, Eigen::Dynamic> metric_, inverse_floor_;
    S step_;
};

/// @par Cost      allocates one matrix of H's size
template <compute_scalar S>
[[nodiscard]] proximal_gradient<S> make_proximal_gradient(const layer_problem& problem) {
    const index_t n = problem.cols(), stride = packed_matrix<S>::stride_for(n);
    aligned_buffer<S> damped = load_triangle<S>(problem, Eigen::MatrixXd(), Eigen::ArrayXd(), Eigen::ArrayXd::Zero(n));
    for (index_t i = 0; i < n; ++i)
        for (index_t j = i + 1; j < n; ++j) damped.data()[i * stride + j] = damped.data()[j * stride + i];
    return proximal_gradient<S>(packed_matrix<S>(std::move(damped), n), n, problem.shift);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
