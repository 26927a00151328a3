// SPDX-License-Identifier: MIT
#pragma once

#include <magr/calibration/hessian.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr {
namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

[[nodiscard]] MAGR_CORE double measure_output_error(const matrix_ref& W, const matrix_ref& Q, const gram_argument& H, executor_ref exec);

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// Relative error of a layer's output when its weights W are replaced by Q:
///
///   tr((Q - W) H (Q - W)^T) / tr(W H W^T)  =  ||X (Q - W)^T||_F^2 / ||X W^T||_F^2     for H = X^T X
///
/// @par Shapes    W, Q: rows x cols; H: cols x cols, or a `hessian`; each of any storage and layout
/// @return        >= 0; 0 if the error is zero, also when tr(W H W^T) is zero; infinity if only tr(W H W^T) is zero
/// @par Cost      rows * cols^2 multiply-adds in double, in tasks of 256 rows; allocates H and for each worker two blocks of 256 rows in
///                double and 1 MiB
/// @par Numerics  all in double, and accurate for weights and H of any size; H is assumed symmetric: only its upper triangle and its
///                diagonal blocks are read. Weights of dead columns (H_jj = 0) do not matter. The same bits for every executor
/// @par Errors    shape_error; value_error if an entry is NaN or infinite, or H is not a Gram matrix
template <class Weights, class Quantized, class Gram>
[[nodiscard]] double output_error(const Weights& W, const Quantized& Q, const Gram& H, executor_ref exec = {}) {
    return detail::measure_output_error(as_const_view(W), as_const_view(Q), detail::as_gram(H), exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/calibration/output_meter_impl.hpp>
#endif
