// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <type_traits>
#include <vector>

#include <magr/calibration/hessian.hpp>
#include <magr/detail/contract.hpp>
#include <magr/detail/convert.hpp>
#include <magr/detail/finite.hpp>
#include <magr/grid/quantized_matrix.hpp>
#include <magr/grid/require_quantized.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/refine/code_descent.hpp>
#include <magr/refine/error_state.hpp>
#include <magr/refine/packed_gram.hpp>
#include <magr/refine/refine_codes.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

MAGR_CORE std::vector<std::string> problems(const code_refinement_options& options) {
    detail::problem_list found("code_refinement_options");
    const auto amount = [](double value) { return value >= 0 && detail::is_finite(value); };
    found.require(options.dead_threshold >= 0 && options.dead_threshold < 1, "dead_threshold", "in [0, 1)", options.dead_threshold);
    found.require(options.max_passes >= 1, "max_passes", "at least 1", options.max_passes);
    found.require(amount(options.damping), "damping", "at least 0 and finite", options.damping);
    found.require(amount(options.denominator_offset), "denominator_offset", "at least 0 and finite", options.denominator_offset);
    found.require_enumerator("order", options.order);
    return found.take();
}

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// `refine_codes` after all checks.
template <compute_scalar Scalar>
refinement_result refine_checked(quantized_matrix<Scalar>& Q, std::type_identity_t<matrix_view<const Scalar>> w, const hessian& H,
                                 const code_refinement_options& options, executor_ref exec) {
    const std::vector<index_t> order = order_columns(H.live().view(), options.order, Q.group_size);
    const packed_gram& damped = damped_gram(H, order, options.damping, exec);
    return refine_panels(
        Q, w, damped, order,
        [&](error_state& state) {
            return run_passes(state, options.max_passes,
                              [&](error_state& now) { return descend(Q, damped, order, options.denominator_offset, now); });
        },
        exec);
}

template <compute_scalar Scalar>
double loss_of(const quantized_matrix<Scalar>& q, std::type_identity_t<matrix_view<const Scalar>> W, const hessian& H, double damping,
               executor_ref exec) {
    const std::vector<index_t> order = order_columns(H.live().view(), column_order::natural, H.inputs());
    const packed_gram& damped = damped_gram(H, order, damping, exec);
    return refine_panels(
               q, W, damped, order, [](const error_state& state) { return panel_outcome{.loss_before = state.loss()}; }, exec)
        .loss_before;
}

template <compute_scalar Scalar>
refinement_result run_refine_codes(quantized_matrix<Scalar>& Q, const matrix_ref& W, const gram_argument& H,
                                   const code_refinement_options& options, executor_ref exec) {
    validate(options);
    const used_hessian h("refine_codes", W, H, options.dead_threshold, exec);
    require_quantized("refine_codes", Q, W.rows(), W.cols());
    return refine_checked(Q, weights_in<Scalar>(W).view(), *h, options, exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr
