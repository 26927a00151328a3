// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <string>
#include <type_traits>
#include <vector>

#include <magr/calibration/column_order.hpp>
#include <magr/calibration/hessian.hpp>
#include <magr/detail/contract.hpp>
#include <magr/grid/quantized_matrix.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/refine/code_descent.hpp>
#include <magr/refine/error_state.hpp>
#include <magr/refine/packed_gram.hpp>
#include <magr/refine/refine_codes.hpp>
#include <magr/refine/refine_rounds.hpp>
#include <magr/refine/refine_scales.hpp>
#include <magr/refine/scale_descent.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

MAGR_CORE std::vector<std::string> problems(const refinement_options& options) {
    detail::problem_list own("refinement_options");
    own.require(options.rounds >= 0, "rounds", "at least 0", options.rounds);
    if (options.scales) own.add_all(problems(*options.scales));
    if (options.codes) own.add_all(problems(*options.codes));
    return own.take();
}

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Rounds of scales and codes that minimise the same loss and visit the columns in their order. The first round computes errors and
/// gradients; all others go on with them.
template <compute_scalar Scalar>
[[nodiscard]] refinement_result refine_on_one_state(quantized_matrix<Scalar>& q, std::type_identity_t<matrix_view<const Scalar>> W,
                                                    const hessian& H, const scale_runs& runs, index_t rounds,
                                                    const scale_refinement_options& scales, const code_refinement_options& codes,
                                                    row_errors* left, executor_ref exec) {
    const packed_gram& damped = damped_gram(H, runs.order(), codes.damping, exec);
    if (left != nullptr) *left = row_errors(W.rows(), W.cols());
    return refine_panels(
        q, W, damped, runs.order(),
        [&](error_state& state) {
            panel_outcome all{.loss_before = state.loss()};
            for (index_t round = 0; round < rounds; ++round) {
                const panel_outcome moved =
                    run_passes(state, scales.max_passes, [&](error_state& now) { return refine_runs(q, damped, runs, now); });
                const panel_outcome chosen = run_passes(state, codes.max_passes, [&](error_state& now) {
                    return descend(q, damped, runs.order(), codes.denominator_offset, now);
                });
                all.passes += chosen.passes;
                all.changes += moved.changes + chosen.changes;
                if (moved.changes + chosen.changes == 0) break;
            }
            all.loss_after = state.loss();
            if (left != nullptr) left->set_rows(state);
            return all;
        },
        exec);
}

template <compute_scalar Scalar>
refinement_result refine_rounds(quantized_matrix<Scalar>& q, std::type_identity_t<matrix_view<const Scalar>> W, const hessian& H,
                                const refinement_options& options, row_errors* left, executor_ref exec) {
    const bool same_loss = options.scales && options.codes && options.scales->damping == options.codes->damping;
    if (same_loss && options.codes->order == column_order::natural) {
        const scale_runs runs(q);
        if (std::is_sorted(runs.order().begin(), runs.order().end()))
            return refine_on_one_state(q, W, H, runs, options.rounds, *options.scales, *options.codes, left, exec);
    }
    refinement_result all;
    bool first = true;
    const auto add = [&](const refinement_result& step) {
        if (first) all.loss_before = all.loss_after = step.loss_before;
        first = false;
        all.loss_after = (std::min)(all.loss_after, step.loss_after);  // steps may add up the same loss in other orders
        all.changes += step.changes;
        return step.changes > 0;
    };
    const auto scales_towards_codes = [&]() -> refinement_result {
        if (!options.codes || same_loss) return refine_checked(q, W, H, *options.scales, exec);
        const double loss = first ? loss_of(q, W, H, options.codes->damping, exec) : all.loss_after;
        const quantized_matrix<Scalar> before = q;
        refinement_result step = refine_checked(q, W, H, *options.scales, exec);
        step.loss_before = loss;
        step.loss_after = loss_of(q, W, H, options.codes->damping, exec);
        if (step.loss_after <= loss) return step;
        q = before;
        return {.loss_before = loss, .loss_after = loss};
    };
    for (index_t round = 0; round < options.rounds; ++round) {
        bool changed = options.scales && add(scales_towards_codes());
        if (options.codes) {
            const refinement_result codes = refine_checked(q, W, H, *options.codes, exec);
            all.passes += codes.passes;
            changed = add(codes) || changed;
        }
        if (!changed) break;
    }
    return all;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr
