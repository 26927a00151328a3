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
#include <magr/refine/error_state.hpp>
#include <magr/refine/packed_gram.hpp>
#include <magr/refine/refine_scales.hpp>
#include <magr/refine/scale_descent.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

MAGR_CORE std::vector<std::string> problems(const scale_refinement_options& options) {
    detail::problem_list found("scale_refinement_options");
    found.require(options.dead_threshold >= 0 && options.dead_threshold < 1, "dead_threshold", "in [0, 1)", options.dead_threshold);
    found.require(options.max_passes >= 1, "max_passes", "at least 1", options.max_passes);
    found.require(options.damping >= 0 && detail::is_finite(options.damping), "damping", "at least 0 and finite", options.damping);
    return found.take();
}

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// `refine_scales` after all checks.
template <compute_scalar Scalar>
refinement_result refine_checked(quantized_matrix<Scalar>& Q, std::type_identity_t<matrix_view<const Scalar>> w, const hessian& H,
                                 const scale_refinement_options& options, executor_ref exec) {
    const scale_runs runs(Q);
    const packed_gram& damped = damped_gram(H, runs.order(), options.damping, exec);
    return refine_panels(
        Q, w, damped, runs.order(),
        [&](error_state& state) {
            return run_passes(state, options.max_passes, [&](error_state& now) { return refine_runs(Q, damped, runs, now); });
        },
        exec);
}

template <compute_scalar Scalar>
refinement_result run_refine_scales(quantized_matrix<Scalar>& Q, const matrix_ref& W, const gram_argument& H,
                                    const scale_refinement_options& options, executor_ref exec) {
    validate(options);
    const used_hessian h("refine_scales", W, H, options.dead_threshold, exec);
    require_quantized("refine_scales", Q, W.rows(), W.cols());
    return refine_checked(Q, weights_in<Scalar>(W).view(), *h, options, exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr
