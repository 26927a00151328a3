// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <magr/calibration/largest_eigenvalue.hpp>
#include <magr/detail/contract.hpp>
#include <magr/drift/drift_compensation.hpp>
#include <magr/drift/qronos.hpp>
#include <magr/feedback/feedback_factor.hpp>

namespace magr {
namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// The largest eigenvalue of H over the mean of its diagonal, without dead inputs.
struct eigenvalue_over_mean {
    double value;
};

[[nodiscard]] inline double largest_eigenvalue_over_mean(const hessian& H) {
    const auto compute = [&]() -> eigenvalue_over_mean {
        const live_gram& live = H.live();
        if (!live.has_live()) return {0};
        const double scale = unit_scale(live.view());
        return {largest_eigenvalue(live.view(), scale) / (scale * live.mean())};
    };
    return H.remember<eigenvalue_over_mean>({}, compute).value;
}

/// Row 0..k of offsets of which all but the last are 0: column k, the first live one, is rounded from w_k + (W C)_k / H_kk.
template <compute_scalar Scalar>
[[nodiscard]] matrix<Scalar> exact_first_step(const matrix_ref& W, const hessian& H, const matrix_ref& C, std::span<const index_t> order,
                                              const matrix<Scalar>& target) {
    const auto first = std::find_if(order.begin(), order.end(), [&](index_t j) { return !H.is_dead(j); });
    if (first == order.end()) return {};
    const index_t column = *first, k = static_cast<index_t>(first - order.begin());
    std::vector<double> share(order.size());  // of each weight in the point
    for (std::size_t i = 0; i < share.size(); ++i) share[i] = C(static_cast<index_t>(i), column) / H.given()(column, column);
    matrix<Scalar> offsets(k + 1, W.rows());
    for (index_t i = 0; i < W.rows(); ++i)
        offsets(k, i) =
            static_cast<Scalar>(W(i, column) - static_cast<double>(target(i, column)) + W.transposed().column_times(i, share.data()));
    return offsets;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

MAGR_CORE std::vector<std::string> problems(const qronos& options) {
    detail::problem_list found("qronos");
    found.require(options.damping >= 0 && detail::is_finite(options.damping), "damping", "at least 0 and finite", options.damping);
    found.require_enumerator("unit", options.unit);
    found.require_enumerator("first_step", options.first_step);
    return found.take();
}

template <compute_scalar Scalar>
std::optional<drift_terms<Scalar>> qronos::make(const detail::matrix_ref& W, const hessian& H, const detail::matrix_ref& C,
                                                std::span<const index_t> order, executor_ref exec) const {
    const double fraction = unit == qronos_damping_unit::mean ? damping : damping * detail::largest_eigenvalue_over_mean(H);
    auto factor = factor_feedback<Scalar>(H.live().view(), order, {.damping = fraction, .raise_damping = raise_damping}, exec);
    if (factor.status == factor_status::failed) return std::nullopt;
    std::vector<double> added(order.size());
    for (std::size_t k = 0; k < order.size(); ++k) added[static_cast<std::size_t>(order[k])] = factor.added[k] / H.mean();
    const std::optional<matrix<double>> change = detail::drift_change(W, H.live(), C, nullptr, 1, added, exec);
    if (!change) return std::nullopt;

    drift_terms<Scalar> terms;
    terms.feedback = std::move(factor.feedback);
    terms.target = detail::live_target<Scalar>(W, H, *change);
    if (first_step == qronos_first_step::exact) terms.offsets = detail::exact_first_step(W, H, C, order, terms.target);
    return terms;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
