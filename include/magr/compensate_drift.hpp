// SPDX-License-Identifier: MIT
#pragma once

#include <magr/drift/drift.hpp>
#include <magr/drift/drift_compensation.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

/// Changes the weights of a layer in place, before they are quantized, to restore the output that it had before the layers in front of it
/// were quantized:
///
///     W' = W + fraction * W D (H + damping mean(diag H) I)^-1,      H = Y^T Y,   D = (X - Y)^T Y
///
/// With fraction 1 and no damping W' minimises ||Y W'^T - X W^T||_F, where X are the inputs in full precision and Y those of the quantized
/// network. Quantize W' with H as if it were the original. Dead columns, inputs that are always zero in the quantized network, do not count
/// in the mean, and their weights stay unchanged. They affect the target only through their inputs in full precision.
///
/// @par Shapes    W: out x in (in/out); H, D: in x in, of a `gram_accumulator` of Y and a `drift_accumulator` of the same
///                tokens. H may be a `hessian`. Any storage and layout
/// @par Cost      in^3 / 6 + 2 out in^2 multiply-adds in double; allocates two matrices of H's size and three of W's in double, and
///                3.4 MB and 192 rows for each worker
/// @par Numerics  in double; the lower triangle of H is read; a common factor of H and D cancels; the same bits for every executor
/// @par Errors    option_error; shape_error; value_error if an entry is NaN or infinite, or H is not a Gram matrix. All before W is written
/// @par Source    arXiv 2504.09629 (QEP), with its strength of 1/2; the damping, the same for all inputs, is ours
template <class Weights, class Gram, class Drift>
drift_result compensate_drift(Weights&& W, const Gram& H, const Drift& D, const drift_options& options = {}, executor_ref exec = {}) {
    return detail::run_compensate_drift(as_mutable_view(W), detail::as_gram(H), as_const_view(D), nullptr, options, exec);
}

/// The same for a layer whose output is added to a residual stream that has drifted itself, and which makes up for that as well:
///
///     W' = W + fraction * (W D + R) (H + damping mean(diag H) I)^-1,      R = (r - s)^T Y
///
/// where r is the stream in full precision beside which the output is added, and s that of the quantized network.
///
/// @par Shapes    R: out x in, a sum over the same tokens as H and D
/// @par Errors    also those of R
/// @par Source    ours
template <class Weights, class Gram, class Drift, class Residual>
    requires dense_matrix<const Residual>
drift_result compensate_drift(Weights&& W, const Gram& H, const Drift& D, const Residual& R, const drift_options& options = {},
                              executor_ref exec = {}) {
    const detail::matrix_ref residual = as_const_view(R);
    return detail::run_compensate_drift(as_mutable_view(W), detail::as_gram(H), as_const_view(D), &residual, options, exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
