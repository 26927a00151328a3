// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <vector>

#include <magr/calibration/hessian.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/detail/validate.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/quantize/optq_options.hpp>
#include <magr/quantize/optq_result.hpp>
#include <magr/refine/refinement_result.hpp>
#include <magr/transform/incoherence.hpp>
#include <magr/transform/transformed_matrix.hpp>

namespace magr {

/// Options of `quantize_quip`.
struct quip_options {
    int bits = 2;                          ///< in 2..8
    incoherence_options incoherence = {};  ///< the change of basis
    bool clamp = true;                     ///< whether W' is limited to the ends of the grid before it is rounded, as in the authors' code
    index_t greedy_passes = 0;             ///< over all columns after OPTQ, >= 0; they end earlier when a pass gains almost nothing
    /// of the rounding, in the rotated basis; groups must be fixed. Dead inputs are those of the layer: with `round`, their weights are
    /// rotated and rounded with the others, whose grid they widen
    optq_options optq = {.dead = dead_columns::zero};
};

/// Outcome of `quantize_quip`. The numbers of the report are those of the rotated layer, relative to the weights that were rounded (limited
/// to the grid with `clamp`), before greedy passes; `output_error` and `dead_inputs` are those of the layer.
template <compute_scalar Scalar>
struct [[nodiscard]] quip_result : optq_report {
    transformed_matrix<Scalar> quantized;  ///< empty (0 x 0) if `status` says that nothing was quantized
    matrix<Scalar> weights;                ///< the weights that it stands for, in the basis of the layer
    refinement_result greedy;              ///< what the greedy passes did

    /// Whether there is a quantized matrix.
    [[nodiscard]] explicit operator bool() const noexcept { return !quantized.quantized.codes.empty(); }
};

inline namespace MAGR_ISA_NAMESPACE {

/// Every problem of these options; empty if there is none.
[[nodiscard]] MAGR_CORE std::vector<std::string> problems(const quip_options& options);

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar Scalar>
[[nodiscard]] quip_result<Scalar> run_quip(const matrix_ref& W, const gram_argument& H, const quip_options& options, executor_ref exec);

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/layer/quip_impl.hpp>
#endif
