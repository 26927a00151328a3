// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include <magr/calibration/hessian.hpp>
#include <magr/calibration/output_meter.hpp>
#include <magr/detail/contract.hpp>
#include <magr/detail/convert.hpp>
#include <magr/detail/finite.hpp>
#include <magr/fit/fit_grid.hpp>
#include <magr/grid/round_onto_grids.hpp>
#include <magr/layer/options.hpp>
#include <magr/layer/result.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/preprocess/core.hpp>
#include <magr/quantize/count_clipped.hpp>
#include <magr/quantize/optq_core.hpp>
#include <magr/quantize/without_dead.hpp>
#include <magr/refine/refine_rounds.hpp>

namespace magr {
namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Decides what the steps share: the range of the grids, the size of groups, one threshold for dead columns, the largest, and that the
/// error is measured at their end.
[[nodiscard]] inline layer_options with_defaults(layer_options options) {
    if (!options.grid.range) options.grid.range = options.grid.range_factor == 1 ? range_search::output_error : range_search::min_max;
    if (options.preprocess && !options.preprocess->group_size) options.preprocess->group_size = options.grid.group_size;
    double& threshold = options.optq.dead_threshold;
    threshold = (std::max)(threshold, options.grid.dead_threshold);
    const auto& [rounds, scales, codes] = options.refinement;
    if (scales) threshold = (std::max)(threshold, scales->dead_threshold);
    if (codes) threshold = (std::max)(threshold, codes->dead_threshold);
    if (!options.optq.measure_error) options.optq.measure_error = false;
    return options;
}

/// A layer to quantize.
template <compute_scalar Scalar>
class layer_input {
public:
    /// @param W  the original weights; if the policy says so, `weights()` has zeros in dead columns
    layer_input(matrix_view<const Scalar> W, const hessian& H, const layer_options& options) : W_(W), H_(H) {
        if (options.optq.dead == dead_columns::zero && H.dead_inputs() > 0) {
            zeroed_ = without_dead<Scalar>(W, H);
            W_ = as_const_view(zeroed_);
        }
    }

    [[nodiscard]] matrix_view<const Scalar> weights() const noexcept { return W_; }
    [[nodiscard]] const hessian& H() const noexcept { return H_; }

    /// Restores the weights of dead columns, which MagR clips.
    void restore_dead(row_major_matrix<Scalar>& M) const {
        for (index_t j = 0; j < M.cols(); ++j)
            if (H_.is_dead(j))
                for (index_t i = 0; i < M.rows(); ++i) M(i, j) = W_(i, j);
    }

private:
    matrix_view<const Scalar> W_;
    const hessian& H_;
    row_major_matrix<Scalar> zeroed_;
};

/// Chooses codes for the output of MagR, or for the weights themselves.
/// @param M       the weights that the grids are fitted to
/// @param grids   of M
/// @param plan    of OPTQ; null for rounding to nearest
template <compute_scalar Scalar>
[[nodiscard]] layer_result<Scalar> choose_codes(const layer_input<Scalar>& in, std::type_identity_t<matrix_view<const Scalar>> M,
                                                const weight_grids<Scalar>& grids, const optq_plan<Scalar>* plan,
                                                const layer_options& options, executor_ref exec) {
    layer_result<Scalar> result;
    result.dead_inputs = in.H().dead_inputs();
    const matrix_view<const Scalar> target = options.target == rounding_target::original ? in.weights() : M;
    if (plan == nullptr) {
        result.status = quantization_status::as_requested;
        result.quantized = round_onto_grids(target, grids, round_half_even{}, exec);
        result.clipped = count_clipped(target, in.H(), grids, exec);
        return result;
    }
    // a row that is one group has no earlier columns that could have changed its weights
    const bool fixed = options.optq.groups == group_update::fixed || groups_per_row(options.grid, target.cols()) == 1;
    auto optq = optq_with_plan<Scalar>(target, in.H(), *plan, fixed ? &grids : nullptr, options.grid, options.optq, exec);
    result.status = optq.status;
    result.clipped = optq.clipped;
    result.quantized = std::move(optq.quantized);
    result.optq = optq;
    return result;
}

/// Measures the error of OPTQ against the weights that it rounded, if the options, those of `with_defaults`, ask for it and it is not
/// known yet.
template <compute_scalar Scalar>
void measure_optq(layer_result<Scalar>& result, const layer_input<Scalar>& in, std::type_identity_t<matrix_view<const Scalar>> M,
                  const layer_options& options, executor_ref exec) {
    if (!result || !result.optq || !*options.optq.measure_error) return;
    if (result.optq->output_error && !in.H().live().is_copy()) return;
    const matrix_view<const Scalar> target = options.target == rounding_target::original ? in.weights() : M;
    result.optq->output_error = output_meter(target, in.H(), exec).error(target, result.quantized.dequantize(exec).view(), exec);
}

/// Refines the chosen codes, or replaces them by plain rounding, and completes the report.
/// @param grids   of the weights without MagR; null if they are still to be fitted, for the report or for plain rounding
/// @param meter   of the original weights
template <compute_scalar Scalar>
void complete(layer_result<Scalar>& result, std::type_identity_t<matrix_view<const Scalar>> w, const layer_input<Scalar>& in,
              const weight_grids<Scalar>* grids, const output_meter& meter, const layer_options& options, executor_ref exec) {
    const matrix_view<const Scalar> wanted = in.weights();
    const bool falls_back = result.status == quantization_status::rounded_to_nearest;
    quantized_matrix<Scalar> rtn;
    if (falls_back || options.measure_rtn)
        rtn = round_onto_grids(wanted, grids != nullptr ? *grids : fit_all<Scalar>(wanted, in.H(), options.grid, exec), round_half_even{},
                               exec);
    if (options.measure_rtn) result.output_error_rtn = meter.error(w, rtn.dequantize(exec).view(), exec);
    if (falls_back) {
        result.quantized = std::move(rtn);
        result.clipped = count_clipped(wanted, in.H(), static_cast<const weight_grids<Scalar>&>(result.quantized), exec);
    } else if (const auto& [rounds, scales, codes] = options.refinement; result && rounds > 0 && (scales || codes)) {
        result.refinement = refine_rounds(result.quantized, wanted, in.H(), options.refinement, nullptr, exec);
    }
    if (!result) return;
    result.limits = count_storage_limits(result.quantized);
    const double error = meter.error(w, result.quantized.dequantize(exec).view(), exec);
    if (detail::is_finite(error) || !meter.has_energy()) {
        result.output_error = error;
    } else {
        result.status = quantization_status::overflowed;
        result.quantized = {};
    }
}

/// The reason not to use H with either quantizer; no value if H is usable. `rounded_to_nearest` means to do that instead.
template <compute_scalar Scalar>
[[nodiscard]] std::optional<quantization_status> objection_to(const layer_input<Scalar>& in, std::optional<index_t> tokens,
                                                              const layer_options& options) {
    if (in.H().dead_inputs() > 0 && options.optq.dead == dead_columns::refuse) return quantization_status::dead_columns_refused;
    if (!tokens || *tokens >= options.minimum_tokens) return std::nullopt;
    return options.optq.on_failure == factor_fallback::round_to_nearest ? quantization_status::rounded_to_nearest
                                                                        : quantization_status::too_few_tokens;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr
