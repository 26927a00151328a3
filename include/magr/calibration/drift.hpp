// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <vector>

#include <magr/calibration/token_sum.hpp>
#include <magr/detail/contract.hpp>
#include <magr/kernels/multiply_add.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

/// Accumulates how far the inputs of a layer have drifted because the layers before it were quantized.
///
/// D = sum over tokens of (x - y)^T y = (X - Y)^T Y          x: the input in full precision, y: that of the quantized network
///
/// Together with H = Y^T Y it tells how the weights have to change to restore the layer's output, see `compensate_drift`. The accumulator
/// sums the difference, not X^T Y, from which H would have to be subtracted: so D keeps its digits however small the drift is.
///
/// @tparam Scalar   type to which inputs are converted, and in which D is summed and kept
/// @par Shapes      X, Y: tokens x inputs · D: inputs x inputs, not symmetric
/// @par Cost        inputs^2 multiply-adds per token. Allocates D, and for each batch its difference and 7 MB (double) per worker at most
/// @par Numerics    sums over blocks of 384 tokens of a batch, each in order: the same bits for the same batches with every executor
/// @par Errors      shape_error, value_error; a refused batch leaves the accumulator unchanged
/// @par Source      arXiv 2504.09629 (QEP), section 4; GPTAQ sums the same matrix
template <compute_scalar Scalar = double>
class drift_accumulator {
public:
    /// @par Errors shape_error if inputs < 1
    explicit drift_accumulator(index_t inputs) : drift_(checked(inputs), inputs) {}

    /// Goes on from a sum that was saved, or comes from another machine: the `drift()` and `tokens()` of an accumulator. To add it to the
    /// tokens that are here already, `merge` it.
    /// @par Errors shape_error if D is empty or not square; value_error if an entry is NaN, infinite or too large for Scalar, or tokens < 1
    template <class Matrix>
        requires dense_matrix<const Matrix>
    drift_accumulator(const Matrix& D, index_t tokens)
        : drift_(detail::load_token_sum<Scalar>("drift_accumulator", "D", as_const_view(D))),
          tokens_(detail::tokens_of_sum("drift_accumulator", tokens)) {}

    /// Adds the tokens of one batch, of any size, in any storage type and layout.
    /// @param X  inputs in full precision
    /// @param Y  inputs of the same tokens in the quantized network
    /// @par Errors shape_error if X is empty, has another number of columns, or Y another shape; value_error with row and column of a NaN
    ///             or Inf
    template <class Original, class Actual>
    void add(const Original& X, const Actual& Y, executor_ref exec = {}) {
        const auto x = as_const_view(X);
        const auto y = as_const_view(Y);
        detail::require_not_empty("drift_accumulator::add", "X", x);
        detail::require_shape("drift_accumulator::add", "X", x, x.rows(), inputs());
        detail::require_shape("drift_accumulator::add", "Y", y, x.rows(), inputs());
        detail::require_finite("drift_accumulator::add", "X", x);
        detail::require_finite("drift_accumulator::add", "Y", y);

        const index_t tokens = detail::tokens_together("drift_accumulator::add", tokens_, x.rows());
        matrix<Scalar> difference(x.rows(), inputs());
        for (index_t t = 0; t < x.rows(); ++t)
            for (index_t j = 0; j < inputs(); ++j) difference(t, j) = static_cast<Scalar>(x(t, j)) - static_cast<Scalar>(y(t, j));

        constexpr index_t rows = 4 * blocks::rows;  // enough to make packing Y worthwhile
        std::vector<Scalar> scratch(static_cast<std::size_t>(exec.concurrency() * blocks::scratch));
        exec.parallel_for((inputs() + rows - 1) / rows, [&](index_t task, index_t worker) {
            const index_t first = task * rows, count = (std::min)(rows, inputs() - first);
            kernels::multiply_add(drift_.view().block(first, 0, count, inputs()), 1.0,
                                  matrix_view<const Scalar>(difference.view()).block(0, first, x.rows(), count).transposed(), y,
                                  scratch.data() + worker * blocks::scratch);
        });
        tokens_ = tokens;
    }

    /// Adds the tokens that another accumulator has seen.
    /// @par Errors shape_error if its number of inputs differs; value_error if there are more tokens than can be counted
    void merge(const drift_accumulator& other) {
        detail::require_shape("drift_accumulator::merge", "other", other.drift_.view(), inputs(), inputs());
        const index_t tokens = detail::tokens_together("drift_accumulator::merge", tokens_, other.tokens_);
        std::transform(drift_.data(), drift_.data() + inputs() * inputs(), other.drift_.data(), drift_.data(), std::plus<>{});
        tokens_ = tokens;
    }

    [[nodiscard]] index_t inputs() const noexcept { return drift_.cols(); }
    [[nodiscard]] index_t tokens() const noexcept { return tokens_; }

    /// D of all tokens so far; valid until the next change.
    [[nodiscard]] const matrix<Scalar>& drift() const noexcept { return drift_; }

private:
    using blocks = kernels::product_blocks<Scalar, simd::default_arch>;

    static index_t checked(index_t inputs) {
        if (inputs < 1) detail::raise<shape_error>(detail::concat("drift_accumulator: inputs must be at least 1, it is ", inputs));
        return inputs;
    }

    matrix<Scalar> drift_;
    index_t tokens_ = 0;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
