// SPDX-License-Identifier: MIT
#pragma once

#include <magr/detail/matrix_ref.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

/// Accumulates how far the inputs of a layer have drifted because the layers before it were quantized.
///
/// D = sum over tokens of (x - y)^T y = (X - Y)^T Y          x: the input in full precision, y: the same input in the quantized network
///
/// Together with H = Y^T Y it tells how the weights must change to restore the layer's output, see `compensate_drift`. The accumulator sums
/// the difference instead of X^T Y, from which H would have to be subtracted. So D keeps its digits however small the drift is.
///
/// @tparam Scalar   type to which inputs are converted, and in which D is summed and kept
/// @par Shapes      X, Y: tokens x inputs · D: inputs x inputs, not symmetric
/// @par Cost        inputs^2 multiply-adds per token. Allocates D, and for each batch its difference and 7 MB (double) per worker at most
/// @par Numerics    sums over blocks of 384 tokens of a batch, each in order: the same bits for the same batches with every executor
/// @par Errors      shape_error, value_error; a refused batch leaves the accumulator unchanged. If the executor
///                  throws, the accumulator refuses everything from then on with a value_error: start again
/// @par Source      arXiv 2504.09629 (QEP), section 4; GPTAQ sums the same matrix
template <compute_scalar Scalar = double>
class drift_accumulator {
public:
    /// @par Errors shape_error if inputs < 1
    explicit drift_accumulator(index_t inputs);

    /// Continues from a saved sum, or one from another machine: the `drift()` and `tokens()` of an accumulator. To add such a sum to tokens
    /// that are already here, `merge` it.
    /// @par Errors shape_error if D is empty or not square; value_error if an entry is NaN, infinite or too large for Scalar, or tokens < 1
    template <class Matrix>
        requires dense_matrix<const Matrix>
    drift_accumulator(const Matrix& D, index_t tokens) : drift_accumulator(detail::matrix_ref(as_const_view(D)), tokens) {}

    /// Adds the tokens of one batch, of any size, in any storage type and layout.
    /// @param X  inputs in full precision
    /// @param Y  inputs of the same tokens in the quantized network
    /// @par Errors shape_error if X is empty, has another number of columns, or Y another shape; value_error with row and column of a NaN
    ///             or Inf
    template <class Original, class Actual>
    void add(const Original& X, const Actual& Y, executor_ref exec = {}) {
        add_batch(as_const_view(X), as_const_view(Y), exec);
    }

    /// Adds the tokens that another accumulator has seen.
    /// @par Errors shape_error if its number of inputs differs; value_error if there are more tokens than can be counted
    void merge(const drift_accumulator& other);

    [[nodiscard]] index_t inputs() const noexcept { return drift_.cols(); }
    [[nodiscard]] index_t tokens() const noexcept { return tokens_; }

    /// D of all tokens so far; valid until the next change.
    /// @par Errors value_error if an update was interrupted
    [[nodiscard]] const matrix<Scalar>& drift() const;

private:
    drift_accumulator(const detail::matrix_ref& D, index_t tokens);

    void add_batch(const detail::matrix_ref& X, const detail::matrix_ref& Y, executor_ref exec);

    matrix<Scalar> drift_;
    index_t tokens_ = 0;
    bool is_whole_ = true;  // whether no update was interrupted
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/drift/drift_impl.hpp>
#endif
