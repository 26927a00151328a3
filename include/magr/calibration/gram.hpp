// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>

#include <magr/detail/contract.hpp>
#include <magr/detail/convert.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/matrix/matrix.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

/// Accumulates the Gram matrix of calibration inputs.
///
/// H = sum over tokens of x x^T = X^T X
///
/// Every algorithm of the library is invariant to a positive factor of H, so H is a sum, not a mean: accumulators of parts of the data
/// merge by addition, and a Gram matrix of another convention can be used in its place.
///
/// @tparam Scalar   what H is summed and kept in, whatever the inputs are stored in
/// @par Shapes      X: tokens x inputs · H: inputs x inputs
/// @par Cost        inputs^2 multiply-adds per token, as only one triangle is computed; allocates H once and a tile of 256 tokens per call
/// @par Numerics    deterministic for the same batches in the same order; another split into batches changes the last bits
/// @par Errors      shape_error, value_error; a batch that is refused leaves the accumulator as it was
template <compute_scalar Scalar = double>
class gram_accumulator {
public:
    /// @par Errors shape_error if inputs < 1
    explicit gram_accumulator(index_t inputs) : gram_(checked(inputs), inputs) {}

    /// Adds the tokens of one batch.
    /// @par Errors shape_error if X is empty or has another number of columns; value_error with row and column of a NaN or Inf
    template <class Matrix>
    void add(const Matrix& X) {
        const auto x = as_const_view(X);
        detail::require_not_empty("gram_accumulator::add", "X", x);
        detail::require_shape("gram_accumulator::add", "X", x, x.rows(), inputs());
        detail::require_finite("gram_accumulator::add", "X", x);
        constexpr index_t tile = 256;
        for (index_t first = 0; first < x.rows(); first += tile) {
            const auto part = detail::load<Scalar>(x.block(first, 0, std::min(tile, x.rows() - first), x.cols()));
            map().template selfadjointView<Eigen::Lower>().rankUpdate(part.transpose());
        }
        tokens_ += x.rows();
    }

    /// Adds the tokens that another accumulator has seen.
    /// @par Errors shape_error if its number of inputs differs
    void merge(const gram_accumulator& other) {
        detail::require_shape("gram_accumulator::merge", "other", other.gram_.view(), inputs(), inputs());
        map() += Eigen::Map<const detail::row_major_matrix<Scalar>>(other.gram_.data(), inputs(), inputs());
        tokens_ += other.tokens_;
    }

    [[nodiscard]] index_t inputs() const noexcept { return gram_.cols(); }
    [[nodiscard]] index_t tokens() const noexcept { return tokens_; }

    /// The symmetric matrix H of all tokens so far; valid until the next change.
    /// @par Errors value_error if no token was added
    [[nodiscard]] const matrix<Scalar>& gram() {
        if (tokens_ == 0) detail::raise<value_error>("gram_accumulator::gram: at least one token must be added first, there are 0");
        map().template triangularView<Eigen::StrictlyUpper>() = map().transpose();
        return gram_;
    }

private:
    static index_t checked(index_t inputs) {
        if (inputs < 1) detail::raise<shape_error>(detail::concat("gram_accumulator: inputs must be at least 1, it is ", inputs));
        return inputs;
    }
    [[nodiscard]] Eigen::Map<detail::row_major_matrix<Scalar>> map() noexcept { return {gram_.data(), inputs(), inputs()}; }

    matrix<Scalar> gram_;  // the lower triangle is current, the upper one only after gram()
    index_t tokens_ = 0;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
