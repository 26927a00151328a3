// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include <magr/calibration/hessian.hpp>
#include <magr/detail/validate.hpp>
#include <magr/grid/quantized_matrix.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/refine/refine_codes.hpp>
#include <magr/refine/refine_scales.hpp>
#include <magr/refine/refinement_result.hpp>

namespace magr {

/// How `quantize_layer` improves the codes that were chosen, towards the original weights: in each round scales, then codes.
struct refinement_options {
    index_t rounds = 3;                                                           ///< >= 0; they end earlier when one changes nothing
    std::optional<scale_refinement_options> scales = scale_refinement_options{};  ///< no value: scales stay unchanged
    std::optional<code_refinement_options> codes = code_refinement_options{};     ///< no value: codes stay unchanged
};

inline namespace MAGR_ISA_NAMESPACE {

/// Every problem of these options; empty if there is none.
[[nodiscard]] MAGR_CORE std::vector<std::string> problems(const refinement_options& options);

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

struct row_errors;

/// Runs rounds of scales and codes. The losses are those before and after all rounds, with the damping of codes if codes are refined.
/// Scales that were refined with another damping are kept only if they lower that loss.
///
/// @param left  null, or what the rows leave of W in the end. Its matrices stay empty if that would have to be computed
template <compute_scalar Scalar>
refinement_result refine_rounds(quantized_matrix<Scalar>& q, std::type_identity_t<matrix_view<const Scalar>> W, const hessian& H,
                                const refinement_options& options, row_errors* left, executor_ref exec);

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/refine/refine_rounds_impl.hpp>
#endif
