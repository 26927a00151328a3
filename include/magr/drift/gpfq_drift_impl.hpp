// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <utility>

#include <magr/calibration/row_panels.hpp>
#include <magr/drift/gpfq_drift.hpp>
#include <magr/feedback/gpfq.hpp>
#include <magr/kernels/multiply_add.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar Scalar>
std::optional<drift_terms<Scalar>> gpfq_drift::make(const detail::matrix_ref& W, const hessian& H, const detail::matrix_ref& C,
                                                    std::span<const index_t> order, executor_ref exec) const {
    const index_t n = H.inputs();
    auto feedback = gpfq_feedback{}.make<Scalar>(H, order, exec);
    if (!feedback) return std::nullopt;
    drift_terms<Scalar> terms;
    terms.feedback = std::move(*feedback);
    terms.target = detail::live_target<Scalar>(W, H, [](index_t, index_t) { return 0.0; });

    const auto column = [&](index_t k) { return order[static_cast<std::size_t>(k)]; };
    matrix<double> share(n, n);  // row k: those of the weights of columns j <= k in offset k
    for (index_t k = 0; k < n; ++k)
        for (index_t j = 0; j <= k && !H.is_dead(column(k)); ++j) share(k, j) = C(column(j), column(k)) / H.given()(column(k), column(k));
    terms.offsets = matrix<Scalar>(n, W.rows());
    detail::for_each_row_panel(W, order, exec, [&](index_t first, matrix_view<const double> weights, double* scratch) {
        matrix<double> sums(n, weights.cols());
        kernels::multiply_add(sums.view(), 1.0, std::as_const(share).view(), weights, scratch);
        for (index_t k = 0; k < n; ++k)
            for (index_t i = 0; i < sums.cols(); ++i) terms.offsets(k, first + i) = static_cast<Scalar>(sums(k, i));
    });
    return terms;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
