// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <magr/calibration/hessian.hpp>
#include <magr/calibration/row_panels.hpp>
#include <magr/detail/contract.hpp>
#include <magr/detail/convert.hpp>
#include <magr/detail/finite.hpp>
#include <magr/drift/drift_compensation.hpp>
#include <magr/kernels/multiply_add.hpp>
#include <magr/linalg/cholesky.hpp>
#include <magr/linalg/triangular_solve.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

MAGR_CORE std::vector<std::string> problems(const drift_options& options) {
    detail::problem_list found("drift_options");
    found.require(options.fraction >= 0 && options.fraction <= 1, "fraction", "in [0, 1]", options.fraction);
    found.require(options.damping >= 0 && detail::is_finite(options.damping), "damping", "at least 0 and finite", options.damping);
    found.require(options.dead_threshold >= 0 && options.dead_threshold < 1, "dead_threshold", "in [0, 1)", options.dead_threshold);
    return found.take();
}

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

MAGR_LARGE_CORE_DEFINITION std::optional<matrix<double>> drift_change(const matrix_ref& W, const live_gram& H, const matrix_ref& D,
                                                                      const matrix_ref* R, double fraction, std::span<const double> damping,
                                                                      executor_ref exec) {
    const index_t n = W.cols();
    row_major_matrix<double> factor = load<double>(H.view()) / H.mean();
    for (index_t j = 0; j < n; ++j) factor(j, j) = H.is_dead(j) ? 1 : factor(j, j) + damping[static_cast<std::size_t>(j)];
    if (!linalg::cholesky(matrix_view<double>(factor.data(), n, n), exec)) return std::nullopt;

    row_major_matrix<double> per_input = load<double>(D) / H.mean() * fraction;
    for (index_t j = 0; j < n; ++j)
        if (H.is_dead(j)) per_input.col(j).setZero();
    std::vector<index_t> natural(static_cast<std::size_t>(n));
    std::iota(natural.begin(), natural.end(), index_t{0});
    matrix<double> change(W.rows(), n);
    for_each_row_panel(W, natural, exec, [&](index_t first, matrix_view<const double> weights, double* scratch) {
        matrix<double> columns(n, weights.cols());  // the change of some rows, transposed
        for (index_t i = 0; R != nullptr && i < columns.cols(); ++i)
            R->visit_row(first + i, 0, n, [&](index_t j, double value) {
                if (!H.is_dead(j)) columns(j, i) = value / H.mean() * fraction;
            });
        kernels::multiply_add(columns.view(), 1.0, as_const_view(per_input).transposed(), weights, scratch);
        linalg::solve_lower(as_const_view(factor), columns.view(), scratch);
        linalg::solve_lower_transposed(as_const_view(factor), columns.view(), scratch);
        for (index_t i = 0; i < columns.cols(); ++i)
            for (index_t j = 0; j < n; ++j) change(first + i, j) = columns(j, i);
    });
    return change;
}

/// sqrt(x_1^2 + .. + x_n^2) of finite numbers whose squares may overflow.
[[nodiscard]] inline double scaled_norm(const double* x, index_t n) {
    double largest = 0, sum = 0;
    for (index_t i = 0; i < n; ++i) largest = (std::max)(largest, std::abs(x[i]));
    int exponent = 0;
    static_cast<void>(std::frexp(largest, &exponent));
    exponent = (std::max)(exponent, -1000);  // keeps the reciprocal of the power of two finite
    const double scale = std::ldexp(1.0, -exponent);
    for (index_t i = 0; i < n; ++i) sum += (scale * x[i]) * (scale * x[i]);
    return std::ldexp(std::sqrt(sum), exponent);
}

MAGR_LARGE_CORE_DEFINITION drift_result run_compensate_drift(const mutable_matrix_ref& W, const gram_argument& H, const matrix_ref& D,
                                                             const matrix_ref* R, const drift_options& options, executor_ref exec) {
    validate(options);
    const used_hessian h("compensate_drift", W, H, options.dead_threshold, exec);
    require_shape("compensate_drift", "D", D, W.cols(), W.cols());
    require_finite("compensate_drift", "D", D, exec);
    require_apart("compensate_drift", "W", W, "H", H.matrix());
    require_apart("compensate_drift", "W", W, "D", D);
    if (R != nullptr) {
        require_shape("compensate_drift", "R", *R, W.rows(), W.cols());
        require_finite("compensate_drift", "R", *R, exec);
        require_apart("compensate_drift", "W", W, "R", *R);
    }

    const index_t n = W.cols();
    const live_gram& live = h->live();
    if (!live.has_live()) return {};
    const std::vector<double> damping(static_cast<std::size_t>(n), options.damping);
    const std::optional<matrix<double>> found = drift_change(W, live, D, R, options.fraction, damping, exec);
    if (!found) return {};
    const Eigen::Map<const row_major_matrix<double>> change(found->data(), W.rows(), n);
    row_major_matrix<double> before = load<double>(W);
    row_major_matrix<double> stored = before + change;
    W.type().round(stored.data(), stored.size());
    if (!is_finite(as_const_view(stored))) return {};
    store(stored, W);
    stored -= before;
    for (index_t j = 0; j < n; ++j)
        if (live.is_dead(j)) before.col(j).setZero();
    const double size = scaled_norm(before.data(), W.rows() * n);
    return {.compensated = true, .change = size > 0 ? scaled_norm(stored.data(), W.rows() * n) / size : 0};
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr
