// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <type_traits>
#include <vector>

#include <magr/calibration/hessian.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/detail/validate.hpp>
#include <magr/grid/quantized_matrix.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/refine/refinement_result.hpp>

namespace magr {

/// How scales are refined.
struct scale_refinement_options {
    index_t max_passes = 1;     ///< over all groups, >= 1; it ends earlier when no row gains 1e-12 of its loss in a pass
    double damping = 1e-2;      ///< added to diag(H), as a fraction of its mean over live columns, >= 0
    double dead_threshold = 0;  ///< columns with H_jj <= this fraction of the mean are dead, in [0, 1)
};

inline namespace MAGR_ISA_NAMESPACE {

/// Every problem of these options; empty if there is none.
[[nodiscard]] MAGR_CORE std::vector<std::string> problems(const scale_refinement_options& options);

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar Scalar>
refinement_result run_refine_scales(quantized_matrix<Scalar>& Q, const matrix_ref& W, const gram_argument& H,
                                    const scale_refinement_options& options, executor_ref exec);

/// The same after all checks.
template <compute_scalar Scalar>
refinement_result refine_checked(quantized_matrix<Scalar>& Q, std::type_identity_t<matrix_view<const Scalar>> w, const hessian& H,
                                 const scale_refinement_options& options, executor_ref exec);

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// Improves the scales of a quantized matrix, and its zero points if they are real numbers or offsets. Its codes do not change.
///
/// With c the steps of the codes of a group and H_d = H + damping mean(diag H) I, group after group,
///
///   s <- s - c H_d (q - w)^T / (c H_d c^T)        the minimiser of tr((Q - W) H_d (Q - W)^T) over this scale alone
///
/// and likewise its zero point or offset, rounded to the storage type. Each change is kept only if it lowers the loss, so the loss never
/// rises. If groups share scales, the shared numbers are refined.
///
/// @par Shapes    Q: rows x cols (in/out); W: rows x cols, the weights to approximate; H: cols x cols. Any storage and layout
/// @return        loss before and after, passes and changes
/// @par Cost      rows * cols^2 multiply-adds in double, and in each pass as many again if a row has several scales, and 2 rows * cols for
///                each column that shares a scale, twice that with real zero points or offsets; allocates H in double twice
/// @par Numerics  in double; scales stay positive. Dead columns affect neither scales nor losses; grids of dead columns alone stay
///                unchanged
/// @par Errors    as refine_codes
/// @par Source    scale refinement of TurboBoA (arXiv 2602.04929) without its row Hessian, extended to zero points
template <compute_scalar Scalar, class Weights, class Gram>
refinement_result refine_scales(quantized_matrix<Scalar>& Q, const Weights& W, const Gram& H, const scale_refinement_options& options = {},
                                executor_ref exec = {}) {
    return detail::run_refine_scales(Q, as_const_view(W), detail::as_gram(H), options, exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/refine/refine_scales_impl.hpp>
#endif
