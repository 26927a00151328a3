// SPDX-License-Identifier: MIT
#pragma once

#include <limits>

#include <magr/detail/contract.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/matrix/scalar.hpp>

/// Shared by the accumulators: sums over tokens from elsewhere, and numbers of tokens.
namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// A copy of a square sum in Scalar.
/// @par Errors    shape_error if it is empty or not square; value_error if an entry is NaN or infinite, or is too large for Scalar
template <compute_scalar Scalar>
[[nodiscard]] matrix<Scalar> load_token_sum(const char* function, const char* argument, const matrix_ref& sum) {
    require_not_empty(function, argument, sum);
    require_shape(function, argument, sum, sum.rows(), sum.rows());
    require_finite(function, argument, sum);
    matrix<Scalar> copy(sum.rows(), sum.cols());
    constexpr auto largest = static_cast<double>((std::numeric_limits<Scalar>::max)());
    for (index_t i = 0; i < sum.rows(); ++i)
        sum.visit_row(i, 0, sum.cols(), [&](index_t j, double value) {
            if (value > largest || value < -largest)
                raise<value_error>(concat(function, ": ", argument, " must be finite in the type of the sum, entry (row ", i, ", column ",
                                          j, ") is ", value));
            copy(i, j) = static_cast<Scalar>(value);
        });
    return copy;
}

/// The number of tokens of two sums together.
/// @par Errors    value_error if it is too large for index_t
[[nodiscard]] inline index_t tokens_together(const char* function, index_t a, index_t b) {
    if (a > (std::numeric_limits<index_t>::max)() - b)
        raise<value_error>(concat(function, ": the number of tokens must be at most ", (std::numeric_limits<index_t>::max)(),
                                  ", there are ", a, " and ", b));
    return a + b;
}

/// Checks the number of tokens of a sum from elsewhere.
/// @par Errors    value_error if it is less than 1
[[nodiscard]] inline index_t tokens_of_sum(const char* function, index_t tokens) {
    if (tokens < 1) raise<value_error>(concat(function, ": tokens must be at least 1, it is ", tokens));
    return tokens;
}

[[nodiscard]] inline index_t checked_inputs(const char* function, index_t inputs) {
    if (inputs < 1) raise<shape_error>(concat(function, ": inputs must be at least 1, it is ", inputs));
    return inputs;
}

/// Refuses an accumulator that an exception left with part of a batch, or whose sum was moved out.
inline void require_whole(const char* function, bool is_whole) {
    if (!is_whole)
        raise<value_error>(
            concat(function, ": the accumulator must hold whole batches, its sum was moved out or an executor threw while it was updated"));
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
