// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <magr/bounds/bound_problem.hpp>
#include <magr/bounds/error_bounds.hpp>
#include <magr/calibration/hessian.hpp>
#include <magr/detail/contract.hpp>
#include <magr/detail/convert.hpp>
#include <magr/detail/finite.hpp>
#include <magr/grid/require_quantized.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/quantize/optq_core.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

MAGR_CORE std::vector<std::string> problems(const bound_options& options) {
    detail::problem_list found("bound_options");
    found.add_all(problems(options.optq));
    found.require(options.failure_probability > 0 && options.failure_probability < 1, "failure_probability", "in (0, 1)",
                  options.failure_probability);
    if (options.tokens) found.require(*options.tokens >= 1, "tokens", "at least 1", *options.tokens);
    return found.take();
}

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Refuses what does not belong together.
template <compute_scalar Scalar>
void require_bounded(const char* function, const matrix_ref& W, const quantized_matrix<Scalar>& Q, const matrix_ref* X,
                     const bound_options& options, executor_ref exec) {
    require_quantized(function, Q, W.rows(), W.cols());
    if (X == nullptr) return;
    require_not_empty(function, "X", *X);
    require_shape(function, "X", *X, X->rows(), W.cols());
    require_finite(function, "X", *X, exec);
    if (options.tokens)
        require_option(*options.tokens == X->rows(), function, "tokens", "the number of rows of X, if given", *options.tokens);
}

/// @param T       `factor.feedback` of the plan in double, which must outlive the problem
template <compute_scalar Scalar>
[[nodiscard]] bound_problem<Scalar> make_bound_problem(const matrix_ref& W, const quantized_matrix<Scalar>& Q, const hessian& H,
                                                       const optq_plan<Scalar>& plan, matrix_view<const double> T,
                                                       const bound_options& options, executor_ref exec) {
    const index_t m = W.rows(), n = W.cols();
    bound_problem<Scalar> p{.Q = Q, .order = plan.order, .T = T, .exec = exec};
    p.values = Q.dequantize();
    p.is_nearest = options.optq.rounding == rounding_mode::nearest;
    p.grids = grids_in_double<Scalar>(Q);
    p.deviations = hoeffding_factor(static_cast<double>((std::max)(n - H.dead_inputs(), index_t{1})), m, options.failure_probability);
    for (const index_t j : plan.order) p.groups.push_back(Q.group_of_column[static_cast<std::size_t>(j)]);
    for (const double pivot : plan.factor.pivots) p.pivots.push_back(pivot / H.mean());
    p.steps = load<double>(p.grids.scales.view());
    p.unit = exponent_of(p.steps.maxCoeff());
    for (index_t i = 0; i < p.steps.size(); ++i) p.steps.data()[i] = std::ldexp(p.steps.data()[i], -p.unit) * widest_gap(p.grids.levels);

    p.errors = row_major_matrix<double>::Zero(m, n);
    for (index_t i = 0; i < m; ++i)
        for (index_t k = 0; k < n; ++k) {
            const index_t j = p.column(k);  // halves, because a difference of two large numbers could overflow
            if (!p.is_dead(k)) p.errors(i, k) = std::ldexp(static_cast<double>(p.values(i, j)) / 2 - W(i, j) / 2, 1 - p.unit);
        }
    p.H = row_major_matrix<double>::Zero(n, n);
    for (index_t k = 0; k < n; ++k) {
        const index_t j = p.column(k);
        for (index_t l = 0; l <= k; ++l)
            p.H(k, l) = p.H(l, k) = H.live().view()((std::max)(j, p.column(l)), (std::min)(j, p.column(l))) / H.mean();
        p.H(k, k) += plan.factor.added[static_cast<std::size_t>(k)] / H.mean();
    }
    return p;
}

/// The loss, its bound and the counts.
template <compute_scalar Scalar>
void bound_loss(const bound_problem<Scalar>& p, double mean, error_bounds& out) {
    double loss = 0, bound = 0, pivot_sum = 0;
    for (const rounding_counts& found :
         p.for_each_panel(p.rows(), [&](index_t first, index_t count, double* scratch) { return count_rows(p, first, count, scratch); })) {
        out.outside += found.outside;
        out.clipped += found.clipped;
        out.unexplained += found.unexplained;
        loss += found.loss;
    }
    for (index_t k = 0; k < p.cols(); ++k) {
        pivot_sum += p.pivot(k);
        if (p.pivot(k) != 0) bound += p.pivot(k) * p.steps.col(p.group(k)).squaredNorm() * (p.is_nearest ? 0.25 : 1);
    }
    const int exponent = exponent_of(mean);  // the mean may be large where the unit is small
    const double fraction = std::ldexp(mean, -exponent);
    out.pivot_sum = pivot_sum * mean;
    out.loss = std::ldexp(loss * fraction, 2 * p.unit + exponent);
    out.loss_bound = std::ldexp(bound * fraction, 2 * p.unit + exponent);
}

/// No value if there are more codes than numbers.
[[nodiscard]] inline std::optional<alphabet_size> alphabet_of(double reach) {
    const double codes = 2 * std::ceil(reach);
    if (!is_finite(codes)) return std::nullopt;
    return alphabet_size{.levels = codes + 1, .bits = exponent_of(codes)};
}

template <compute_scalar Scalar>
void bound_alphabet(const bound_problem<Scalar>& p, const matrix_ref& W, bool is_random, error_bounds& out) {
    if (!p.grids.levels.empty()) return;  // there is no rule for more of them
    reach farthest;
    for (const reach& found : p.for_each_panel(
             p.cols(), [&](index_t first, index_t count, double* scratch) { return reach_of_columns(p, W, first, count, scratch); })) {
        farthest.certain = larger(farthest.certain, found.certain);
        farthest.probable = larger(farthest.probable, found.probable);
    }
    out.certain_alphabet = alphabet_of(farthest.certain);
    if (is_random) out.probable_alphabet = alphabet_of((std::min)(farthest.certain, farthest.probable));
}

/// The largest output error, from H alone or for the tokens X.
template <compute_scalar Scalar>
void bound_outputs(const bound_problem<Scalar>& p, const matrix_ref* X, std::optional<index_t> tokens, const hessian& H, bool is_random,
                   double failure_probability, error_bounds& out) {
    token_errors farthest;
    int exponent = p.unit;
    if (X != nullptr) {
        double largest = 0;
        for (index_t i = 0; i < X->rows(); ++i)
            X->visit_row(i, 0, p.cols(), [&](index_t j, double x) { largest = (std::max)(largest, H.is_dead(j) ? 0 : std::abs(x)); });
        const int of_tokens = exponent_of(largest);
        for (const token_errors& found : p.for_each_panel(X->rows(), [&](index_t first, index_t count, double* scratch) {
                 return errors_of_tokens(p, *X, of_tokens, first, count, scratch);
             })) {
            farthest.largest = larger(farthest.largest, found.largest);
            farthest.spread = larger(farthest.spread, found.spread);
        }
        exponent += of_tokens;
        tokens = X->rows();
        out.largest_output_error = std::ldexp(farthest.largest, exponent);
    } else {
        for (index_t k = 0; k < p.cols(); ++k)
            farthest.spread = (std::max)(farthest.spread, std::sqrt(p.pivot(k)) * std::sqrt(H.mean()) * p.steps.col(p.group(k)).maxCoeff());
    }
    if (!is_random || !tokens) return;
    const double deviations = hoeffding_factor(static_cast<double>(*tokens), p.rows(), failure_probability);
    out.output_error_bound = std::ldexp(deviations * farthest.spread, exponent);
}

template <compute_scalar Scalar>
error_bounds run_bound_errors(const matrix_ref& W, const quantized_matrix<Scalar>& Q, const gram_argument& H, const matrix_ref* X,
                              std::optional<index_t> known, const bound_options& options, executor_ref exec) {
    validate(options);
    const used_hessian h("bound_errors", W, H, options.optq.dead_threshold, exec);
    require_bounded("bound_errors", W, Q, X, options, exec);

    const optq_plan<Scalar>& plan = plan_optq<Scalar>(*h, Q.group_size, options.optq, exec);
    error_bounds out;
    out.damping = plan.factor.damping;
    out.diagonal_floor = plan.factor.diagonal_floor;
    if (plan.factor.status == factor_status::failed) return out;
    const weights_in<double> T(plan.factor.feedback.view());
    const bound_problem<Scalar> p = make_bound_problem<Scalar>(W, Q, *h, plan, T.view(), options, exec);
    // scales that were fitted during the quantization depend on the random numbers before
    const bool is_random = !p.is_nearest && (options.optq.groups == group_update::fixed || Q.scales.cols() == 1);
    bound_loss(p, h->mean(), out);
    bound_alphabet(p, W, is_random, out);
    bound_outputs(p, X, options.tokens ? options.tokens : known, *h, is_random, options.failure_probability, out);

    out.status = bound_status::bounded;
    for (const double value :
         {out.pivot_sum, out.loss, out.loss_bound, out.largest_output_error.value_or(0), out.output_error_bound.value_or(0)})
        if (!is_finite(value)) return {.status = bound_status::overflowed, .damping = out.damping, .diagonal_floor = out.diagonal_floor};
    return out;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr
