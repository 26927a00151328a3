// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>

#include <magr/calibration/largest_eigenvalue.hpp>
#include <magr/detail/convert.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// The MagR problem of one layer, in the units that the solvers work in:
///
///     min_W  sum over rows of  1/2 (w - w0)^T H (w - w0) + alpha * sum over groups of ||w_g||_inf
template <compute_scalar S>
struct layer_problem {
    row_major_matrix<S> W0;  ///< original weights, out x in
    row_major_matrix<S> H;   ///< Gram matrix divided by its largest eigenvalue, then damped, in x in
    double alpha = 0;
    index_t group_size = 0;  ///< inputs per group; the last group may be shorter
    double shift = 0;        ///< what damping has added to the diagonal of H
    double lambda_max = 0;   ///< what H was divided by

    [[nodiscard]] index_t rows() const noexcept { return W0.rows(); }
    [[nodiscard]] index_t cols() const noexcept { return W0.cols(); }
    [[nodiscard]] index_t groups() const noexcept { return (cols() + group_size - 1) / group_size; }

    /// Calls `visit(group, first input, number of inputs)` for every group.
    template <class Visit>
    void for_each_group(Visit&& visit) const {
        for (index_t g = 0, j = 0; j < cols(); ++g, j += group_size) visit(g, j, std::min(group_size, cols() - j));
    }
};

/// @param damping multiple of the mean diagonal entry that is added to the diagonal
template <compute_scalar S, class Weight, class Gram>
[[nodiscard]] layer_problem<S> make_layer_problem(matrix_view<Weight> W, matrix_view<Gram> H, double alpha, index_t group_size, double damping) {
    layer_problem<S> problem;
    const index_t n = H.rows();
    double largest = 0;
    for (index_t i = 0; i < n; ++i) largest = std::max(largest, static_cast<double>(H(i, i)));
    // Divided first by its largest diagonal entry, so that no scale of H over- or underflows S; exactly symmetric from the lower triangle.
    problem.H.resize(n, n);
    for (index_t i = 0; i < n; ++i)
        for (index_t j = 0; j <= i; ++j) problem.H(j, i) = problem.H(i, j) = static_cast<S>(static_cast<double>(H(i, j)) / largest);
    const double lambda = largest_eigenvalue(problem.H);
    problem.H /= static_cast<S>(lambda);
    problem.lambda_max = lambda * largest;
    problem.shift = damping * problem.H.diagonal().template cast<double>().mean();
    problem.H.diagonal().array() += static_cast<S>(problem.shift);
    problem.W0 = load<S>(W);
    problem.alpha = alpha;
    problem.group_size = std::min(group_size, n);
    return problem;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
