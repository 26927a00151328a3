// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <magr/calibration/row_panels.hpp>
#include <magr/detail/contract.hpp>
#include <magr/drift/gptaq.hpp>
#include <magr/feedback/feedback_factor.hpp>
#include <magr/kernels/multiply_add.hpp>
#include <magr/linalg/triangular_solve.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

MAGR_CORE std::vector<std::string> problems(const gptaq& options) {
    detail::problem_list found("gptaq");
    found.require(options.alpha >= 0 && options.alpha <= 1, "alpha", "in [0, 1]", options.alpha);
    found.require(options.damping >= 0 && detail::is_finite(options.damping), "damping", "at least 0 and finite", options.damping);
    found.require_enumerator("weights", options.weights);
    return found.take();
}

template <compute_scalar Scalar>
std::optional<drift_terms<Scalar>> gptaq::make(const detail::matrix_ref& W, const hessian& H, const detail::matrix_ref& C,
                                               std::span<const index_t> order, executor_ref exec) const {
    using double_view = matrix_view<const double>;
    const index_t n = H.inputs();
    auto factor = factor_feedback<Scalar>(H.live().view(), order, {.damping = damping, .raise_damping = raise_damping}, exec);
    if (factor.status == factor_status::failed) return std::nullopt;
    const auto column = [&](index_t k) { return order[static_cast<std::size_t>(k)]; };
    matrix<double> T(n, n);  // transposed, as all others below: lower triangles
    for (index_t k = 0; k < n; ++k)
        for (index_t j = 0; j <= k; ++j) T(k, j) = static_cast<double>(factor.feedback(k, j));

    matrix<double> drift(n, n), S(n, n);  // drift: C in the order and the unit of H's mean
    for (index_t j = 0; j < n; ++j)
        for (index_t k = 0; k < n; ++k) drift(j, k) = H.is_dead(column(k)) ? 0 : C(column(j), column(k)) / H.mean();
    std::vector<index_t> natural(order.size());
    std::iota(natural.begin(), natural.end(), index_t{0});
    detail::for_each_row_panel(drift.view(), natural, exec, [&](index_t first, matrix_view<double> rows, double* scratch) {
        linalg::solve_lower_transposed(double_view(T.view()), rows, scratch);
        for (index_t k = 0; k < n; ++k) {
            const double pivot = factor.pivots[static_cast<std::size_t>(k)] / H.mean();
            for (index_t j = first; j < first + rows.cols() && j < k && pivot > 0; ++j) S(k, j) = alpha * rows(k, j - first) / pivot;
        }
    });
    const auto less_S = [&](index_t k, index_t j, double value) { return value - S(k, j); };

    drift_terms<Scalar> terms;
    terms.feedback = std::move(factor.feedback);
    matrix<double> divisor = T;
    if (weights == gptaq_weights::working) {
        matrix<double>& unit_less_S = drift;  // no longer needed
        for (index_t k = 0; k < n; ++k)
            for (index_t j = 0; j <= k; ++j) {
                unit_less_S(k, j) = less_S(k, j, j == k ? 1 : 0);
                divisor(k, j) = less_S(k, j, T(k, j));
            }
        detail::for_each_row_panel(matrix_view<const double>(T.view()).transposed(), natural, exec,
                                   [&](index_t first, matrix_view<double> rows, double* scratch) {
                                       for (index_t j = 0; j < rows.cols(); ++j) rows(first + j, j) = 0;  // T - I
                                       linalg::solve_lower(double_view(unit_less_S.view()), rows, scratch);
                                       for (index_t k = first + 1; k < n; ++k)
                                           for (index_t j = first; j < first + rows.cols() && j < k; ++j)
                                               terms.feedback(k, j) = static_cast<Scalar>(rows(k, j - first));
                                   });
    }
    matrix<double> change(W.rows(), n);
    detail::for_each_row_panel(W, order, exec, [&](index_t first, matrix_view<const double> rows, double* scratch) {
        matrix<double> turned(n, rows.cols());
        kernels::multiply_add(turned.view(), 1.0, double_view(S.view()), rows, scratch);
        linalg::solve_lower(double_view(divisor.view()), turned.view(), scratch);
        for (index_t k = 0; k < n; ++k)
            for (index_t i = 0; i < rows.cols(); ++i) change(first + i, column(k)) = turned(k, i);
    });
    terms.target = detail::live_target<Scalar>(W, H, change);
    return terms;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
