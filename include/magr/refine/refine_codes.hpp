// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <type_traits>
#include <vector>

#include <magr/calibration/column_order.hpp>
#include <magr/calibration/hessian.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/detail/validate.hpp>
#include <magr/grid/quantized_matrix.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/refine/refinement_result.hpp>

namespace magr {

/// How codes are refined.
struct code_refinement_options {
    index_t max_passes = 5;         ///< over all columns, >= 1; it ends earlier when no row gains 1e-12 of its loss in a pass
    double damping = 1e-2;          ///< added to diag(H), as a fraction of its mean over live columns, >= 0; 0.75 in the authors' code
    double denominator_offset = 0;  ///< shortens each step: H_jj + offset divides the gradient, >= 0; 0.1 in the authors' code
    column_order order = column_order::natural;  ///< the order in which columns are visited
    double dead_threshold = 0;                   ///< columns with H_jj <= this fraction of the mean are dead, in [0, 1)
};

inline namespace MAGR_ISA_NAMESPACE {

/// Every problem of these options; empty if there is none.
[[nodiscard]] MAGR_CORE std::vector<std::string> problems(const code_refinement_options& options);

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar Scalar>
refinement_result run_refine_codes(quantized_matrix<Scalar>& Q, const matrix_ref& W, const gram_argument& H,
                                   const code_refinement_options& options, executor_ref exec);

/// tr((Q - W) (H + damping mean(diag H) I) (Q - W)^T) / 2
template <compute_scalar Scalar>
[[nodiscard]] double loss_of(const quantized_matrix<Scalar>& q, std::type_identity_t<matrix_view<const Scalar>> W, const hessian& H,
                             double damping, executor_ref exec);

/// The same after all checks.
template <compute_scalar Scalar>
refinement_result refine_checked(quantized_matrix<Scalar>& Q, std::type_identity_t<matrix_view<const Scalar>> w, const hessian& H,
                                 const code_refinement_options& options, executor_ref exec);

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// Improves the codes of a quantized matrix by cyclic coordinate descent. Its grids do not change.
///
///   c_j <- the code that minimises tr((Q - W) (H + damping mean(diag H) I) (Q - W)^T)  given all other codes of the row
///
/// A code changes only if that lowers the loss, so the loss never rises. Once no code changes any more, no change of a single code could
/// lower it.
///
/// @par Shapes    Q: rows x cols (in/out); W: rows x cols, the weights to approximate: the original ones, not the output of MagR; H: cols x
///                cols. Any storage and layout
/// @return        loss before and after, passes and changes
/// @par Cost      rows * cols^2 multiply-adds in double, and cols for each change of a code; allocates H in double twice
/// @par Numerics  in double. Dead columns keep their codes and do not enter the losses. With a denominator offset each change tried is
///                shorter than the best one
/// @par Errors    option_error; shape_error; value_error if an entry is NaN or infinite, H is not a Gram matrix, a code is outside of its
///                grid, or a grid is not usable. All before Q is written
/// @par Source    the pass that MagR (arXiv 2406.00800) marks with a dagger. Differs from the authors' code in that a code is changed only
///                if it lowers the loss, and the target is always W
template <compute_scalar Scalar, class Weights, class Gram>
refinement_result refine_codes(quantized_matrix<Scalar>& Q, const Weights& W, const Gram& H, const code_refinement_options& options = {},
                               executor_ref exec = {}) {
    return detail::run_refine_codes(Q, as_const_view(W), detail::as_gram(H), options, exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/refine/refine_codes_impl.hpp>
#endif
