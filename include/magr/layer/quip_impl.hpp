// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <magr/calibration/output_meter.hpp>
#include <magr/detail/contract.hpp>
#include <magr/detail/convert.hpp>
#include <magr/detail/finite.hpp>
#include <magr/fit/quip_grids.hpp>
#include <magr/layer/quip.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/quantize/optq_core.hpp>
#include <magr/quantize/without_dead.hpp>
#include <magr/refine/refine_codes.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

MAGR_CORE std::vector<std::string> problems(const quip_options& options) {
    detail::problem_list found("quip_options");
    found.require(options.bits >= 2 && options.bits <= 8, "bits", "in 2..8", options.bits);
    found.require_enumerator("incoherence.kind", options.incoherence.kind);
    found.require(options.greedy_passes >= 0, "greedy_passes", "at least 0", options.greedy_passes);
    found.require(options.greedy_passes == 0 || options.optq.rounding != rounding_mode::stochastic, "greedy_passes",
                  "0 with stochastic rounding, which they would bias", options.greedy_passes);
    found.require(options.optq.groups == group_update::fixed, "optq.groups", "fixed", to_string(options.optq.groups));
    found.add_all(problems(options.optq));
    return found.take();
}

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// H' = V inv(D) H inv(D) V^T in double, and what is made of it.
struct rotated_hessian {
    std::unique_ptr<const row_major_matrix<double>> matrix;  // one place in memory, to which `gram` refers
    std::unique_ptr<const hessian> gram;                     // null if H' overflowed

    rotated_hessian(const hessian& H, const incoherence& transform, executor_ref exec) {
        auto rotated = std::make_unique<row_major_matrix<double>>(load<double>(H.live().view()));
        transform.gram(as_mutable_view(*rotated), exec);
        // both triangles were rounded on their own, and a diagonal entry near 0 may have become negative
        for (index_t i = 0; i < rotated->rows(); ++i) {
            for (index_t j = 0; j < i; ++j) (*rotated)(j, i) = (*rotated)(i, j);
            if ((*rotated)(i, i) < 0) (*rotated)(i, i) = 0;
        }
        matrix = std::move(rotated);
        const matrix_ref view = as_const_view(*matrix);
        if (is_finite(view)) gram = std::make_unique<const hessian>(view, 0.0, false);
    }
};

/// Without a scaling, which depends on W, layers with the same inputs share H'.
template <int Instance = 0>  // compiled only where it is called
[[nodiscard]] const rotated_hessian& rotate_hessian(const hessian& H, const incoherence& transform, std::optional<rotated_hessian>& own,
                                                    executor_ref exec) {
    const incoherence_recipe& recipe = transform.recipe();
    if (!recipe.diagonal.empty()) return own.emplace(H, transform, exec);
    const std::vector<double> key{static_cast<double>(recipe.kind), static_cast<double>(recipe.seed >> 32),
                                  static_cast<double>(recipe.seed & 0xffffffff)};
    return H.remember<rotated_hessian>(key, [&] { return rotated_hessian(H, transform, exec); });
}

/// `quantize_quip` after all checks.
template <compute_scalar Scalar>
quip_result<Scalar> quip_checked(matrix_view<const Scalar> W, const hessian& H, const quip_options& options, executor_ref exec) {
    quip_result<Scalar> result;
    result.dead_inputs = H.dead_inputs();
    if (result.dead_inputs > 0 && options.optq.dead == dead_columns::refuse) {
        result.status = quantization_status::dead_columns_refused;
        return result;
    }
    row_major_matrix<Scalar> w = options.optq.dead == dead_columns::zero ? without_dead<Scalar>(W, H) : load<Scalar>(W);
    const auto overflowed = [&] {
        quip_result<Scalar> nothing;
        nothing.status = quantization_status::overflowed;
        nothing.dead_inputs = H.dead_inputs();
        return nothing;
    };
    std::vector<double> diagonal;
    if (options.incoherence.rescale) diagonal = balancing_scales(as_const_view(w), H);
    const incoherence transform({options.incoherence.kind, options.incoherence.seed, W.rows(), W.cols(), std::move(diagonal)}, exec);
    transform.weights(as_mutable_view(w), exec);
    std::optional<rotated_hessian> own;
    const rotated_hessian& rotated = rotate_hessian(H, transform, own, exec);
    if (rotated.gram == nullptr || !is_finite(matrix_ref(as_const_view(w)))) return overflowed();

    const weight_grids<Scalar> grids = quip_grids_of<Scalar>(as_const_view(w), options.bits);
    if (options.clamp) {
        const Scalar end = grids.scales(0, 0) * grids.zeros(0, 0);
        w = w.cwiseMin(end).cwiseMax(-end);
    }
    optq_options optq = options.optq;
    optq.dead = dead_columns::round;  // what was dead was treated above
    optq.measure_error = false;
    const optq_plan<Scalar>& plan = plan_optq<Scalar>(*rotated.gram, W.cols(), optq, exec);
    optq_result<Scalar> rounded = optq_with_plan<Scalar>(as_const_view(w), *rotated.gram, plan, &grids, {}, optq, exec);
    static_cast<optq_report&>(result) = rounded;
    result.dead_inputs = H.dead_inputs();
    if (!rounded) return result;
    if (options.greedy_passes > 0)
        result.greedy = refine_checked<Scalar>(rounded.quantized, as_const_view(w), *rotated.gram,
                                               {.max_passes = options.greedy_passes, .damping = 0, .order = optq.order}, exec);
    result.weights = rounded.quantized.dequantize();
    transform.undo(result.weights.view(), exec);
    if (!is_finite(matrix_ref(result.weights.view()))) return overflowed();
    result.quantized = {std::move(rounded.quantized), transform.recipe()};
    if (measures_error(options.optq)) result.output_error = output_meter(W, H, exec).error(W, result.weights.view(), exec);
    return result;
}

template <compute_scalar Scalar>
quip_result<Scalar> run_quip(const matrix_ref& W, const gram_argument& H, const quip_options& options, executor_ref exec) {
    validate(options);
    const used_hessian h("quantize_quip", W, H, options.optq.dead_threshold, exec);
    return quip_checked<Scalar>(weights_in<Scalar>(W).view(), *h, options, exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr
