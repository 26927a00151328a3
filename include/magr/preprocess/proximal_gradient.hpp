// SPDX-License-Identifier: MIT
#pragma once

#include <magr/kernels/linf.hpp>
#include <magr/preprocess/solve.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// The iteration of the paper's authors for a `layer_problem`:
///
///     V = W - step (W - W0) H,   W = prox of step alpha ||.||_inf at V, per row or group,   step = 1 / lambda_max(H)
///
/// Without damping step is 1 and the prox threshold alpha itself, as in their code.
///
/// @par Cost      in^2 multiply-adds per row and iteration; allocates the point and a product of its size
/// @par Source    arXiv 2406.00800, Algorithm 1, as in the authors' code: there H is normalised first, so that eta = 1
template <compute_scalar S>
class proximal_gradient {
public:
    explicit proximal_gradient(const layer_problem<S>& problem)
        : problem_(problem), step_(1 / (1 + problem.shift)), point_(problem.W0), before_prox_(problem.W0),
          thresholds_(problem.rows(), problem.groups()) {
        thresholds_.setZero();
    }

    void iterate() {
        before_prox_ = point_;
        difference_ = point_ - problem_.W0;
        before_prox_.noalias() -= static_cast<S>(step_) * difference_ * problem_.H;
        point_ = before_prox_;
        for (index_t i = 0; i < problem_.rows(); ++i)
            problem_.for_each_group([&](index_t g, index_t j, index_t size) {
                thresholds_(i, g) = kernels::prox_linf<S>(kernels::contiguous_source<S>{&point_(i, j)}, kernels::unit_metric{}, size,
                                                          step_ * problem_.alpha, thresholds_(i, g));
            });
    }

    [[nodiscard]] certificate certify(const duality_gap<S>& gap) const {
        return gap.evaluate(point_, [&](index_t i, index_t j) {
            return (static_cast<double>(before_prox_(i, j)) - static_cast<double>(point_(i, j))) / step_;
        });
    }

    [[nodiscard]] const row_major_matrix<S>& point() const noexcept { return point_; }

private:
    const layer_problem<S>& problem_;
    double step_;
    row_major_matrix<S> point_, before_prox_, difference_;
    row_major_matrix<S> thresholds_;  // of the last prox, one per row and group: where the next search starts
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
