// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <span>

#include <magr/calibration/hessian.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/drift/drift_method.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

/// GPFQ with other inputs in the quantized network: each column makes up for the output error so far as well as it can alone,
///
///   q_k = argmin_p ||u + w_k X_k - p Y_k||,   u <- u + w_k X_k - q_k Y_k         X_k, Y_k: input k over all tokens
///
/// so t = W, T_jk = H_jk / H_kk and o_k = sum_{j <= k} w_j C_jk / H_kk. It needs neither a factorization nor damping, but leaves more error
/// than `qronos`. Without drift it is `gpfq_feedback`. Only columns that are rounded after a dead one make up for its input.
///
/// Nothing is returned if a number is too large for Scalar.
///
/// @par Cost      rows n^2 multiply-adds beyond those of the rounding; allocates the terms, a matrix of H's size in double, and 192 rows
///                per worker
/// @par Numerics  offsets in double, rounded to Scalar; the same bits for every executor
/// @par Source    GPFQ (arXiv 2201.11113)
struct gpfq_drift {
    template <compute_scalar Scalar>
    [[nodiscard]] std::optional<drift_terms<Scalar>> make(const detail::matrix_ref& W, const hessian& H, const detail::matrix_ref& C,
                                                          std::span<const index_t> order, executor_ref exec) const;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/drift/gpfq_drift_impl.hpp>
#endif
