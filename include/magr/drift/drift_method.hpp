// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <optional>
#include <span>

#include <magr/calibration/hessian.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

/// What columns are rounded from if the inputs of the quantized network differ from those in full precision:
///
///   q_k = round(t_k + o_k + sum_{j < k} (t_j - q_j) T_jk)        columns in the order in which they are rounded
template <compute_scalar Scalar>
struct drift_terms {
    matrix<Scalar> target;    ///< t, rows x n, columns as in W; 0 in dead columns, whose code is that of the weight 0
    matrix<Scalar> offsets;   ///< row k: o of column k in the order, all rows of W; columns beyond its last row have none
    matrix<Scalar> feedback;  ///< T^T as in `error_feedback`, n x n, in the order
};

/// A quantizer that knows the drift of the inputs: a function object whose `make<Scalar>(W, H, C, order, exec)` returns the terms above, or
/// nothing if they cannot be made.
///
/// H = Y^T Y and C = (X - Y)^T Y of the same tokens, X: inputs in full precision, Y: inputs in the quantized network. A dead input j takes
/// no part in H and column j of C does not count. But its weights keep their part in the output X W^T, by row j of C: other columns have to
/// make up for the input that is gone.
template <class M, class Scalar>
concept drift_method = compute_scalar<Scalar> && requires(const M& method, const detail::matrix_ref& W, const hessian& H,
                                                          const detail::matrix_ref& C, std::span<const index_t> order, executor_ref exec) {
    { method.template make<Scalar>(W, H, C, order, exec) } -> std::same_as<std::optional<drift_terms<Scalar>>>;
};

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// W + change in Scalar, with zeros in dead columns.
/// @param change  change(i, j), in double
template <compute_scalar Scalar, class Change>
[[nodiscard]] matrix<Scalar> live_target(const matrix_ref& W, const hessian& H, const Change& change) {
    matrix<Scalar> target(W.rows(), W.cols());
    for (index_t i = 0; i < W.rows(); ++i)
        W.visit_row(i, 0, W.cols(), [&](index_t j, double weight) {
            if (!H.is_dead(j)) target(i, j) = static_cast<Scalar>(weight + change(i, j));
        });
    return target;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr
