// SPDX-License-Identifier: MIT
#pragma once

#include <magr/calibration/hessian.hpp>
#include <magr/layer/quip.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

/// QuIP: quantizes the weights of one layer in a random basis, in which weights and inputs have no outliers.
///
///   W' = U W D V^T,  H' = V inv(D) H inv(D) V^T     `fit_incoherence`
///   grid of W'                                      `quip_grids`
///   Q' = OPTQ of (W', H'), then greedy passes       `quantize_optq`, `refine_codes` without damping
///   Q  = U^T Q' V inv(D)                            the weights that the result stands for
///
/// An engine either loads Q as ordinary weights, or keeps the codes of Q' and rotates inputs and outputs: y = U^T (Q' (V inv(D) x)).
///
/// Weights of dead inputs are taken as 0 by default. The rotation mixes them with all others, so in Q they are not 0, but they cost
/// nothing. There is no silent fallback: `status` reports any substitution.
///
/// To combine it with MagR, call `preprocess` on W before.
///
/// @par Shapes    W: rows x cols; H: cols x cols, or a `hessian`. Any storage and layout; neither is written. With kind hadamard rows and
///                cols must be even or 1
/// @return        codes in the rotated basis with their recipe, which no format can store: the packers refuse them; the weights; a report
/// @par Cost      `quantize_optq`, and the rotations of W twice and of H twice; without `rescale` layers that share a hessian share H' and
///                its factor. Allocates H' in double, W three times, and what these functions allocate
/// @par Numerics  W' and Q in Scalar, H' in double; the same bits for every executor
/// @par Errors    option_error, with every problem of the options; shape_error; value_error if an entry is NaN or infinite, or H is not a
///                Gram matrix. All before any work
/// @par Source    QuIP (arXiv 2307.13304). Differs from the authors' code in damping (once, `optq.damping`; there 0.0201 in all by
///                default), in ties (half to even), in greedy passes that limit each code to the grid at once and change it only if that
///                lowers the loss, and in the order of columns, which is last to first there: `column_order::reversed`
template <class Weights, class Gram>
    requires gram_like<Gram>
auto quantize_quip(const Weights& W, const Gram& H, const quip_options& options = {}, executor_ref exec = {}) {
    const auto w = as_const_view(W);
    return detail::run_quip<compute_t<typename decltype(w)::value_type>>(w, detail::as_gram(H), options, exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
