// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <numeric>
#include <span>
#include <type_traits>
#include <vector>

#include <magr/attention/boa.hpp>
#include <magr/attention/head_rows.hpp>
#include <magr/attention/head_scales.hpp>
#include <magr/calibration/hessian.hpp>
#include <magr/detail/aligned_buffer.hpp>
#include <magr/detail/contract.hpp>
#include <magr/detail/convert.hpp>
#include <magr/detail/finite.hpp>
#include <magr/feedback/feedback_factor.hpp>
#include <magr/fit/fit_grid.hpp>
#include <magr/kernels/multiply_add.hpp>
#include <magr/quantize/optq_core.hpp>
#include <magr/quantize/optq_options.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Refuses row Hessians that cannot be those of the heads of W.
inline void require_row_hessians(const matrix_ref& W, std::span<const matrix_ref> H_rows) {
    if (H_rows.empty()) raise<shape_error>("quantize_boa: H_rows must hold at least one row Hessian, it is empty");
    require_not_empty("quantize_boa", "H_rows[0]", H_rows.front());
    const index_t head_size = H_rows.front().cols();
    for (std::size_t h = 0; h < H_rows.size(); ++h) require_gram("quantize_boa", concat("H_rows[", h, "]").c_str(), H_rows[h], head_size);
    const auto count = static_cast<index_t>(H_rows.size());
    if (W.rows() % head_size != 0 || W.rows() / head_size % count != 0)
        raise<shape_error>(concat("quantize_boa: W must have the rows of heads of ", head_size, ", as many for each of ", count,
                                  " row Hessians, it has ", W.rows(), " rows"));
}

/// Refuses to refine scales that are not one per row.
inline void require_refinable_scales(const boa_options& options, index_t grids_per_row, bool are_shared) {
    if (options.scale_passes > 0 && (grids_per_row != 1 || are_shared))
        raise<option_error>(
            concat("quantize_boa: scale_passes must be 0 where a row has several grids or shares scales, it is ", options.scale_passes));
}

/// tr(H_row E H E^T) of each head before and after refinement, with damped matrices of mean diagonal 1.
struct refined_losses {
    std::vector<double> before, after;
};

/// Refines the scales of all heads, and counts the changes in the report.
template <compute_scalar Scalar>
[[nodiscard]] refined_losses refine_all_scales(std::type_identity_t<matrix_view<const Scalar>> w, const planned_hessian<Scalar>& columns,
                                               std::span<const planned_hessian<Scalar>> heads, index_t passes, boa_result<Scalar>& result,
                                               executor_ref exec) {
    constexpr double smallest_gain = 1e-12;  // otherwise passes continue with vanishing gains
    const row_major_matrix<double> H = damped_matrix(columns);
    const index_t head_size = w.rows() / static_cast<index_t>(heads.size());
    refined_losses losses{std::vector<double>(heads.size()), std::vector<double>(heads.size())};
    std::vector<index_t> changes(heads.size());
    constexpr index_t scratch_size = kernels::product_blocks<double, simd::default_arch>::scratch;
    const aligned_buffer<double> scratch(exec.concurrency() * scratch_size);
    exec.parallel_for(static_cast<index_t>(heads.size()), [&](index_t head, index_t worker) {
        const auto h = static_cast<std::size_t>(head);
        const row_major_matrix<double> H_row = damped_matrix(heads[h]);
        head_scales<Scalar> scales(result.quantized, w, head * head_size, H, H_row, scratch.data() + worker * scratch_size);
        losses.before[h] = losses.after[h] = scales.loss();
        for (index_t pass = 0; pass < passes; ++pass) {
            const double before = losses.after[h];
            changes[h] += scales.refine();
            losses.after[h] = scales.loss();
            if (!(before - losses.after[h] > smallest_gain * before)) break;
        }
    });
    result.scale_changes = std::accumulate(changes.begin(), changes.end(), index_t{0});
    return losses;
}

/// Everything after the checks.
template <compute_scalar Scalar>
[[nodiscard]] boa_result<Scalar> boa_checked(const matrix_ref& W, const hessian& H, std::span<const matrix_ref> H_rows,
                                             const weight_grids<Scalar>* given, const grid_options& grid, const boa_options& options,
                                             executor_ref exec) {
    boa_result<Scalar> result;
    const auto on_failure = options.raise_damping ? factor_fallback::more_damping : factor_fallback::none;
    const index_t group_size = given != nullptr ? given->group_size : columns_per_group(grid, W.cols());
    const planned_hessian<Scalar> columns{
        &H, &plan_optq<Scalar>(H, group_size, {.damping = options.damping, .order = options.order, .on_failure = on_failure}, exec)};
    result.damping = columns.plan->factor.damping;
    result.dead_inputs = H.dead_inputs();
    if (columns.plan->factor.status == factor_status::failed) return result;  // hessian_failed
    result.status = columns.plan->factor.status == factor_status::as_requested ? boa_status::as_requested : boa_status::damped_more;

    const index_t heads = W.rows() / H_rows.front().rows(), group = heads / static_cast<index_t>(H_rows.size());
    std::deque<hessian> row_hessians;
    std::vector<planned_hessian<Scalar>> of_heads;
    for (const matrix_ref& H_row : H_rows) {
        const hessian& h = row_hessians.emplace_back(H_row, 0.0, false);
        const optq_options in_double{
            .damping = options.damping, .order = options.row_order, .on_failure = on_failure, .precision = factor_precision::float64};
        const planned_hessian<Scalar> rows{&h, &plan_optq<Scalar>(h, h.inputs(), in_double, exec)};
        result.row_damping = (std::max)(result.row_damping, rows.plan->factor.damping);
        if (rows.plan->factor.status == factor_status::failed) {
            result.status = boa_status::row_hessian_failed;
            result.failed_row_hessian = static_cast<index_t>(row_hessians.size()) - 1;
            return result;
        }
        if (rows.plan->factor.status == factor_status::damped_more) result.status = boa_status::damped_more;
        result.dead_rows += group * h.dead_inputs();
        of_heads.insert(of_heads.end(), static_cast<std::size_t>(group), rows);
    }

    const weights_in<Scalar> weights(W);
    static_cast<weight_grids<Scalar>&>(result.quantized) = given != nullptr ? *given : fit_all<Scalar>(W, H, grid, exec);
    result.quantized.codes = matrix<std::uint8_t>(W.rows(), W.cols());
    const index_t step = (std::min)(options.rows_per_step, H_rows.front().rows());
    head_rows<Scalar> rows(weights.view(), columns, of_heads, step, result.quantized);
    result.clipped = rows.run(exec);
    result.limits = count_storage_limits(result.quantized);

    const auto total = [&](const std::vector<double>& losses) {
        double sum = 0;
        for (std::size_t h = 0; h < losses.size(); ++h) sum += 0.5 * losses[h] * (H.mean() * of_heads[h].H->mean());
        return sum;
    };
    if (!std::all_of(rows.losses().begin(), rows.losses().end(), [](double loss) { return is_finite(loss); })) {
        result.status = boa_status::overflowed;
        result.quantized = {};
        return result;
    }
    result.loss = result.loss_before_scales = total(rows.losses());
    if (options.scale_passes > 0) {
        const refined_losses losses = refine_all_scales<Scalar>(weights.view(), columns, of_heads, options.scale_passes, result, exec);
        result.loss_before_scales = total(losses.before);
        result.loss = total(losses.after);
        result.limits = count_storage_limits(result.quantized);
    }
    return result;
}

template <compute_scalar Scalar>
boa_result<Scalar> run_boa(const matrix_ref& W, const gram_argument& H, std::span<const matrix_ref> H_rows, const grid_options& grid,
                           const boa_options& options, executor_ref exec) {
    validate(grid);
    validate(options);
    const used_hessian h("quantize_boa", W, H, (std::max)(grid.dead_threshold, options.dead_threshold), exec);
    require_row_hessians(W, H_rows);
    require_refinable_scales(options, groups_per_row(grid, W.cols()), false);
    return boa_checked<Scalar>(W, *h, H_rows, nullptr, grid, options, exec);
}

template <compute_scalar Scalar>
boa_result<Scalar> run_boa(const matrix_ref& W, const gram_argument& H, std::span<const matrix_ref> H_rows,
                           const weight_grids<Scalar>& grids, const boa_options& options, executor_ref exec) {
    validate(options);
    const used_hessian h("quantize_boa", W, H, options.dead_threshold, exec);
    require_row_hessians(W, H_rows);
    require_grids("quantize_boa", grids, W.rows(), W.cols());
    require_refinable_scales(options, grids.scales.cols(), grids.shared.groups > 0);
    return boa_checked<Scalar>(W, *h, H_rows, &grids, {}, options, exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
