// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include <magr/calibration/column_order.hpp>
#include <magr/calibration/hessian.hpp>
#include <magr/calibration/output_meter.hpp>
#include <magr/detail/contract.hpp>
#include <magr/detail/convert.hpp>
#include <magr/detail/finite.hpp>
#include <magr/feedback/feedback_factor.hpp>
#include <magr/fit/fit_grid.hpp>
#include <magr/fit/grid_fitter.hpp>
#include <magr/grid/round_onto_grids.hpp>
#include <magr/linalg/cholesky.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/quantize/grid_quantizer.hpp>
#include <magr/quantize/loss_bound.hpp>
#include <magr/quantize/optq_core.hpp>
#include <magr/quantize/without_dead.hpp>
#include <magr/sequential/load_strip.hpp>
#include <magr/sequential/sequential_pass.hpp>
#include <magr/sequential/sequential_sums.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar Scalar>
[[nodiscard]] bool has_finite_grids(const weight_grids<Scalar>& grids) {
    const auto finite = [](const matrix<Scalar>& m) {
        return std::all_of(m.data(), m.data() + m.rows() * m.cols(), [](Scalar value) { return is_finite(value); });
    };
    return finite(grids.scales) && finite(grids.zeros);
}

/// Chooses codes for W. `fitter` is null if the grids are fixed.
template <compute_scalar Scalar, class Rounding>
[[nodiscard]] sequential_sums quantize_columns(std::type_identity_t<matrix_view<const Scalar>> w, const feedback_factor<Scalar>& factor,
                                               std::span<const index_t> order, const optq_options& options,
                                               const grid_fitter<Scalar>* fitter, const Rounding& rounding, optq_result<Scalar>& result,
                                               executor_ref exec) {
    const auto load = [&](index_t row, index_t rows, Scalar* strip) { load_strip(w.block(row, 0, rows, w.cols()), order, strip); };
    const auto run = [&](auto&& quantizer) {
        const sequential_pass<Scalar> pass(factor.feedback.view(), columns_per_block(options), exec);
        const auto finish = [&](index_t row, index_t rows, const Scalar*) { quantizer.store_codes(row, rows); };
        auto sums = pass.run(w.rows(), load, quantizer, finish, measures_error(options), exec);
        result.clipped = quantizer.clipped();
        return sums;
    };
    if (fitter == nullptr) return run(grid_quantizer<Scalar, Rounding>(result.quantized, order, factor.pivots, rounding));
    const auto runs = group_runs(order, result.quantized.group_size, options.order == column_order::act_order);
    return run(fitting_quantizer<Scalar, Rounding>(result.quantized, order, factor.pivots, rounding, runs, *fitter, options.groups));
}

template <compute_scalar Scalar>
const optq_plan<Scalar>& plan_optq(const hessian& H, index_t group_size, const optq_options& options, executor_ref exec) {
    const bool may_raise = options.on_failure != factor_fallback::none;
    const bool groups_matter = options.order == column_order::group_aware || options.groups != group_update::fixed;
    const std::vector<double> key{static_cast<double>(options.order), static_cast<double>(groups_matter ? group_size : 0), options.damping,
                                  may_raise ? 1.0 : 0.0, static_cast<double>(options.precision)};
    return H.remember<optq_plan<Scalar>>(key, [&] {
        const matrix_ref& h = H.live().view();
        std::vector<index_t> order = order_columns(h, options.order, group_size);
        feedback_factor<Scalar> factor = factor_feedback<Scalar>(
            h, order, {.damping = options.damping, .raise_damping = may_raise, .precision = options.precision}, exec);
        return optq_plan<Scalar>{std::move(order), std::move(factor)};
    });
}

template <compute_scalar Scalar>
optq_result<Scalar> optq_with_plan(std::type_identity_t<matrix_view<const Scalar>> w, const hessian& H, const optq_plan<Scalar>& plan,
                                   const weight_grids<Scalar>* given, const grid_options& grid, const optq_options& options,
                                   executor_ref exec) {
    const auto& [order, factor] = plan;
    optq_result<Scalar> result;
    result.damping = factor.damping;
    result.diagonal_floor = factor.diagonal_floor;
    result.attempts = factor.attempts;
    result.precision = factor.precision;
    result.dead_inputs = static_cast<index_t>(factor.dead.size());
    if (result.dead_inputs > 0 && options.dead == dead_columns::refuse) {
        result.status = quantization_status::dead_columns_refused;
        return result;
    }
    if (factor.status == factor_status::failed) {
        if (options.on_failure != factor_fallback::round_to_nearest) return result;
        const auto round = [&](const auto& rounding) {
            return round_onto_grids(w, given != nullptr ? *given : fit_all<Scalar>(w, H, grid, exec), rounding, exec);
        };
        result.status = quantization_status::rounded_to_nearest;
        result.quantized = options.rounding == rounding_mode::nearest ? round(round_half_even{}) : round(stochastic_rounding{options.seed});
        result.limits = count_storage_limits(result.quantized);
        if (measures_error(options))
            result.output_error = output_meter(w, H, exec).error(w, result.quantized.dequantize(exec).view(), exec);
        return result;
    }
    result.status = factor.status == factor_status::as_requested ? quantization_status::as_requested : quantization_status::damped_more;

    // a row that is one group has no earlier columns that could have changed its weights
    const bool fixed = given != nullptr || options.groups == group_update::fixed || groups_per_row(grid, w.cols()) == 1;
    std::optional<grid_fitter<Scalar>> fitter;
    if (given != nullptr) {
        static_cast<weight_grids<Scalar>&>(result.quantized) = *given;
    } else if (fixed) {
        static_cast<weight_grids<Scalar>&>(result.quantized) = fit_all<Scalar>(w, H, grid, exec);
    } else {
        static_cast<weight_grids<Scalar>&>(result.quantized) = make_weight_grids<Scalar>(w.rows(), w.cols(), grid);
        const index_t group_size = columns_per_group(grid, w.cols());
        fitter.emplace(grid, H.live().view(), group_runs(order, group_size, options.order == column_order::act_order), order);
    }
    result.quantized.codes = matrix<std::uint8_t>(w.rows(), w.cols());

    const grid_fitter<Scalar>* const live = fitter ? &*fitter : nullptr;
    const sequential_sums sums = options.rounding == rounding_mode::nearest
                                     ? quantize_columns(w, factor, order, options, live, round_half_even{}, result, exec)
                                     : quantize_columns(w, factor, order, options, live, stochastic_rounding{options.seed}, result, exec);
    // tr(W (H + diag(added)) W^T) = sum_k D_k ||(W T)_k||^2
    const double energy = weighted_sum(factor.pivots, sums.energies) - weighted_sum(factor.added, sums.weights);
    const double loss = 0.5 * weighted_sum(factor.pivots, sums.rounding_errors);
    result.loss = loss;
    result.loss_bound = loss_bound_of(result.quantized, order, factor.pivots) * (options.rounding == rounding_mode::nearest ? 1 : 4);
    result.limits = count_storage_limits(result.quantized);
    if (measures_error(options)) result.output_error = error_ratio(2 * loss - weighted_sum(factor.added, sums.residuals), energy);
    if (!detail::is_finite(loss) || !detail::is_finite(energy) || !has_finite_grids(result.quantized)) {
        result.status = quantization_status::overflowed;
        result.quantized = {};
    }
    return result;
}

/// The same with the plan for these options. The error is measured with H as passed in.
template <compute_scalar Scalar>
[[nodiscard]] optq_result<Scalar> optq_checked(matrix_view<const Scalar> w, const hessian& H, const weight_grids<Scalar>* given,
                                               const grid_options& grid, const optq_options& options, executor_ref exec) {
    const index_t group_size = given != nullptr ? given->group_size : columns_per_group(grid, w.cols());
    const optq_plan<Scalar>& plan = plan_optq<Scalar>(H, group_size, options, exec);
    const auto run = [&](matrix_view<const Scalar> weights) {
        return optq_with_plan<Scalar>(weights, H, plan, given, grid, options, exec);
    };
    auto result = options.dead == dead_columns::zero && H.dead_inputs() > 0 ? run(as_const_view(without_dead<Scalar>(w, H))) : run(w);
    // inputs that are dead by the threshold alone still contribute to the error
    if (H.live().is_copy() && measures_error(options) && result)
        result.output_error = output_meter(w, H, exec).error(w, result.quantized.dequantize(exec).view(), exec);
    return result;
}

template <compute_scalar Scalar>
optq_result<Scalar> run_optq(const matrix_ref& W, const gram_argument& H, const grid_options& grid, const optq_options& options,
                             executor_ref exec) {
    validate(grid);
    validate(options);
    const used_hessian h("quantize_optq", W, H, (std::max)(grid.dead_threshold, options.dead_threshold), exec);
    return optq_checked<Scalar>(weights_in<Scalar>(W).view(), *h, nullptr, grid, options, exec);
}

template <compute_scalar Scalar>
optq_result<Scalar> run_optq(const matrix_ref& W, const gram_argument& H, const weight_grids<Scalar>& grids, const optq_options& options,
                             executor_ref exec) {
    validate(options);
    if (options.groups != group_update::fixed)
        raise<option_error>("quantize_optq: groups must be fixed where grids are given, it is live or stale");
    const used_hessian h("quantize_optq", W, H, options.dead_threshold, exec);
    require_grids("quantize_optq", grids, W.rows(), W.cols());
    return optq_checked<Scalar>(weights_in<Scalar>(W).view(), *h, &grids, {}, options, exec);
}

template <compute_scalar Scalar>
std::size_t optq_bytes(index_t rows, index_t cols, const grid_options& grid, const optq_options& options, index_t workers) {
    if (rows < 1 || cols < 1) raise<shape_error>(concat("workspace_bytes: W must not be empty, it is ", rows, " x ", cols));
    validate(grid);
    validate(options);
    require_option(workers >= 1, "workspace_bytes", "workers", "at least 1", workers);
    const auto bytes = [](index_t numbers, std::size_t size) { return static_cast<std::size_t>(numbers) * size; };
    const bool in_double = options.precision == factor_precision::float64 ||
                           (options.precision == factor_precision::automatic && std::is_same_v<Scalar, double>);
    constexpr std::size_t remembering = 400;  // for the bookkeeping of the remembered plan
    const std::size_t plan = remembering + bytes(cols * cols, sizeof(Scalar)) + bytes(cols, 1 + sizeof(index_t) + 2 * sizeof(double));
    const std::size_t factoring = bytes(cols, 1) + (in_double ? bytes(cols * cols + linalg::cholesky_elements<double>(cols), sizeof(double))
                                                              : bytes(cols * cols + linalg::cholesky_elements<float>(cols), sizeof(float)));
    const std::size_t codes = bytes(rows * cols, 1) + bytes(2 * rows * groups_per_row(grid, cols), sizeof(Scalar));
    using pass = sequential_pass<Scalar>;
    const index_t block = columns_per_block(options), group = columns_per_group(grid, cols);
    std::size_t quantizing = 2 * codes + bytes(rows + cols, sizeof(index_t)) + pass::bytes(rows, cols, block, workers);
    if (options.groups != group_update::fixed && group < cols)
        quantizing += static_cast<std::size_t>(workers) * pass::least_squares_bytes(rows, cols, block, group) +
                      bytes(16 * cols, sizeof(index_t));  // groups, and which columns of each count
    const std::size_t zeroed = options.dead == dead_columns::zero ? bytes(rows * cols, sizeof(Scalar)) : 0;
    if ((std::max)(grid.dead_threshold, options.dead_threshold) <= 0) return plan + (std::max)(factoring, zeroed + quantizing);
    const std::size_t copy = bytes(cols * cols, sizeof(double));
    const std::size_t measuring =
        measures_error(options) ? codes + bytes(rows * cols, sizeof(Scalar)) + output_meter::bytes(rows, cols, workers) : 0;
    return copy + plan + (std::max)({factoring, zeroed + quantizing, measuring});
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
