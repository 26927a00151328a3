// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <map>
#include <utility>
#include <vector>

#include <magr/calibration/token_sum.hpp>
#include <magr/detail/contract.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/matrix/matrix_view.hpp>

namespace magr {

/// How large activations are in sequences of one length.
struct length_range {
    index_t length = 0;       ///< of the sequences, in tokens
    index_t tokens = 0;       ///< how many were compared, the same for every length
    double largest = 0;       ///< max |x|, which decides a scale per tensor
    double mean_largest = 0;  ///< mean over the tokens of max_j |x_j|, which decides scales per token
};

inline namespace MAGR_ISA_NAMESPACE {

/// Measures whether the range of a layer's inputs depends on the length of sequences. If it does, calibrate with the length of use.
///
/// A maximum grows with the number of tokens by itself, so all lengths are compared at the same number: the first n of each, where n is
/// the least that a length has. Add the same number of tokens for every length, in whole sequences; otherwise the last sequence of some is
/// cut, and its late positions do not count.
///
/// @par Errors    shape_error, value_error, option_error. A refused batch changes nothing
/// @par Cost      O(inputs) and 8 bytes for each token
/// @par Source    sequence-length-aware calibration (SLAC, arXiv 2311.05161) observes it; that this is how to measure it is this library's
class range_vs_length {
public:
    /// @par Errors shape_error if inputs < 1
    explicit range_vs_length(index_t inputs) : inputs_(detail::checked_inputs("range_vs_length", inputs)) {}

    /// Adds inputs of sequences that are `length` tokens long, in any storage type and layout.
    /// @par Errors option_error if length < 1; shape_error if X is empty or has another number of columns; value_error with row and column
    ///             of a NaN or Inf
    template <class Matrix>
    void add(index_t length, const Matrix& X) {
        add_batch(length, as_const_view(X));
    }

    /// One entry for each length, in increasing order.
    [[nodiscard]] std::vector<length_range> ranges() const {
        std::size_t tokens = (std::numeric_limits<std::size_t>::max)();
        for (const auto& [length, maxima] : maxima_) tokens = (std::min)(tokens, maxima.size());
        std::vector<length_range> ranges;
        for (const auto& [length, maxima] : maxima_) {
            length_range range{length, static_cast<index_t>(tokens)};
            for (std::size_t t = 0; t < tokens; ++t) {
                range.largest = (std::max)(range.largest, maxima[t]);
                range.mean_largest += maxima[t] / static_cast<double>(tokens);
            }
            ranges.push_back(range);
        }
        return ranges;
    }

private:
    void add_batch(index_t length, const detail::matrix_ref& X) {
        detail::require_option(length >= 1, "range_vs_length::add", "length", "at least 1", length);
        detail::require_not_empty("range_vs_length::add", "X", X);
        detail::require_shape("range_vs_length::add", "X", X, X.rows(), inputs_);
        detail::require_finite("range_vs_length::add", "X", X);
        std::vector<double> batch(static_cast<std::size_t>(X.rows()));
        for (index_t t = 0; t < X.rows(); ++t)
            X.visit_row(t, 0, inputs_,
                        [&largest = batch[static_cast<std::size_t>(t)]](index_t, double x) { largest = (std::max)(largest, std::abs(x)); });
        if (const auto found = maxima_.find(length); found != maxima_.end())
            found->second.insert(found->second.end(), batch.begin(), batch.end());
        else
            maxima_.emplace(length, std::move(batch));
    }

    index_t inputs_;
    std::map<index_t, std::vector<double>> maxima_;  // of each token, by length
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
