// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <type_traits>
#include <vector>

#include <magr/calibration/hessian.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/feedback/feedback_factor.hpp>
#include <magr/grid/grid.hpp>
#include <magr/grid/weight_grids.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/quantize/optq_options.hpp>
#include <magr/quantize/optq_result.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar Scalar>
[[nodiscard]] optq_result<Scalar> run_optq(const matrix_ref& W, const gram_argument& H, const grid_options& grid,
                                           const optq_options& options, executor_ref exec);
template <compute_scalar Scalar>
[[nodiscard]] optq_result<Scalar> run_optq(const matrix_ref& W, const gram_argument& H, const weight_grids<Scalar>& grids,
                                           const optq_options& options, executor_ref exec);
template <compute_scalar Scalar>
[[nodiscard]] std::size_t optq_bytes(index_t rows, index_t cols, const grid_options& grid, const optq_options& options, index_t workers);

/// The part of OPTQ that depends on H alone, and so is shared by all weights with these inputs.
template <compute_scalar Scalar>
struct optq_plan {
    std::vector<index_t> order;
    feedback_factor<Scalar> factor;
};

/// The plan for these options. H remembers it.
template <compute_scalar Scalar>
[[nodiscard]] const optq_plan<Scalar>& plan_optq(const hessian& H, index_t group_size, const optq_options& options, executor_ref exec);

/// OPTQ after all checks. Grids that are not given are fitted, as the options say.
/// @param w       with zeros in dead columns if the policy asks for them
template <compute_scalar Scalar>
[[nodiscard]] optq_result<Scalar> optq_with_plan(std::type_identity_t<matrix_view<const Scalar>> w, const hessian& H,
                                                 const optq_plan<Scalar>& plan, const weight_grids<Scalar>* given, const grid_options& grid,
                                                 const optq_options& options, executor_ref exec);

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail

#ifndef MAGR_COMPILED
#include <magr/quantize/optq_core_impl.hpp>
#endif
