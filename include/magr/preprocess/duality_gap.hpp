// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Cholesky>
#include <algorithm>
#include <optional>
#include <vector>

#include <magr/preprocess/layer_problem.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Bounds of the optimum of every row, which do not depend on how the point was found.
struct certificate {
    std::vector<double> primal;  ///< objective at the point: at least the optimum
    std::vector<double> dual;    ///< a dual value: at most the optimum

    [[nodiscard]] double objective() const { return sum(primal); }
    /// (objective - bound) / objective, of the sums over the rows.
    [[nodiscard]] double relative_gap() const { return relative(sum(primal), sum(dual)); }
    [[nodiscard]] static double relative(double primal, double dual) noexcept {
        return primal > 0 ? std::max(0.0, (primal - dual) / primal) : 0.0;
    }

private:
    [[nodiscard]] static double sum(const std::vector<double>& values) {
        double total = 0;
        for (const double value : values) total += value;
        return total;
    }
};

/// Certifies points of a `layer_problem` by weak duality. With d = w - w0:
///
///     primal  P(w) = 1/2 d^T H d + alpha * sum_g ||w_g||_inf
///     dual    Q(s) = s^T w0 - 1/2 s^T H^-1 s       for every s with ||s_g||_1 <= alpha in each group
///
/// Two candidates for s are tried per row, each scaled by the best feasible factor: the subgradient that the solver's prox has found,
/// which needs H to be positive definite, and -H d, which does not but is tight only near the optimum.
///
/// @par Cost      construction: one Cholesky factorization of H in double; evaluation: in^2 multiply-adds per row for H d and half of
///                that for the triangular solve; works in blocks of rows, allocates one in x in matrix and a few blocks
/// @par Numerics  the factor and all sums are in double, so that the bound also holds for an ill-conditioned H in float
/// @par Source    Fenchel duality for the paper's problem, the dual norm of l_inf being l1
template <compute_scalar S>
class duality_gap {
public:
    explicit duality_gap(const layer_problem<S>& problem) : problem_(problem) {
        Eigen::LLT<Eigen::MatrixXd> factor(problem.H.template cast<double>());
        // A factor whose smallest pivot is at the level of rounding says nothing about H^-1.
        if (factor.info() == Eigen::Success && factor.matrixLLT().diagonal().minCoeff() > 1e-7) factor_ = std::move(factor);
    }

    /// @param W      the point, out x in
    /// @param slope  element (i, j): an approximate subgradient of the penalty at W; scaled into the feasible set here
    template <class Slope>
    [[nodiscard]] certificate evaluate(const row_major_matrix<S>& W, Slope&& slope) const {
        const index_t m = problem_.rows(), n = problem_.cols();
        certificate found{std::vector<double>(static_cast<std::size_t>(m)), std::vector<double>(static_cast<std::size_t>(m))};
        constexpr index_t tile = 128;
        row_major_matrix<S> difference, product;
        Eigen::MatrixXd columns;  // one row of the tile per column, as the triangular solve wants it
        for (index_t first = 0; first < m; first += tile) {
            const index_t count = std::min(tile, m - first);
            difference = W.middleRows(first, count) - problem_.W0.middleRows(first, count);
            product.noalias() = difference * problem_.H;
            std::vector<double> linear(static_cast<std::size_t>(count));  // s^T w0
            if (factor_) {
                columns.resize(n, count);
                for (index_t r = 0; r < count; ++r) {
                    const auto w0 = problem_.W0.row(first + r).template cast<double>();
                    for (index_t j = 0; j < n; ++j) columns(j, r) = slope(first + r, j);
                    problem_.for_each_group([&](index_t, index_t j, index_t size) {
                        const double norm = columns.col(r).segment(j, size).template lpNorm<1>();
                        if (norm > problem_.alpha) columns.col(r).segment(j, size) *= problem_.alpha / norm;
                    });
                    linear[static_cast<std::size_t>(r)] = w0.dot(columns.col(r));
                }
                factor_->matrixL().solveInPlace(columns);
            }
            for (index_t r = 0; r < count; ++r) {
                const auto row = static_cast<std::size_t>(first + r);
                const auto w0 = problem_.W0.row(first + r).template cast<double>();
                const auto d = difference.row(r).template cast<double>();
                const auto g = product.row(r).template cast<double>();
                const double quadratic = std::max(0.0, d.dot(g));
                double penalty = 0;
                double steepest = 0;  // largest l1 norm of a group of H d
                problem_.for_each_group([&](index_t, index_t j, index_t size) {
                    penalty += static_cast<double>(W.row(first + r).segment(j, size).template lpNorm<Eigen::Infinity>());
                    steepest = std::max(steepest, g.segment(j, size).template lpNorm<1>());
                });
                found.primal[row] = quadratic / 2 + problem_.alpha * penalty;
                if (steepest > 0) found.dual[row] = best_dual(-g.dot(w0), quadratic, problem_.alpha / steepest);
                if (factor_)
                    found.dual[row] = std::max(found.dual[row], best_dual(linear[static_cast<std::size_t>(r)], columns.col(r).squaredNorm(), 1.0));
            }
        }
        return found;
    }

private:
    /// max over 0 <= t <= limit of  Q(t s) = t linear - t^2/2 quadratic,  with linear = s^T w0 and quadratic = s^T H^-1 s
    [[nodiscard]] static double best_dual(double linear, double quadratic, double limit) noexcept {
        if (linear <= 0) return 0;
        const double t = quadratic > 0 ? std::min(limit, linear / quadratic) : limit;
        return t * linear - t * t / 2 * quadratic;
    }

    const layer_problem<S>& problem_;
    std::optional<Eigen::LLT<Eigen::MatrixXd>> factor_;  // empty if H is singular: only -H d serves then
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
