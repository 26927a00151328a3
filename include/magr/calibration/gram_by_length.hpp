// SPDX-License-Identifier: MIT
#pragma once

#include <map>
#include <utility>
#include <vector>

#include <magr/calibration/gram.hpp>
#include <magr/calibration/token_sum.hpp>
#include <magr/detail/contract.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

/// Keeps the Gram matrices of inputs apart by the length of the sequences that they come from: one `gram_accumulator` for each length.
///
/// A layer is then quantized with the length of its use, `hessian(grams.at(128))`. A Gram matrix is a sum over tokens; to compare those of
/// two lengths, divide each by its `tokens()`.
///
/// @par Errors    shape_error, value_error, option_error. A refused batch changes nothing
/// @par Cost      a `gram_accumulator` for each length; the first batch of a length allocates it
/// @par Source    sequence-length-aware calibration (SLAC, arXiv 2311.05161); that buckets are kept per layer is this library's
template <compute_scalar Scalar = double>
class gram_by_length {
public:
    /// @par Errors shape_error if inputs < 1
    explicit gram_by_length(index_t inputs) : inputs_(detail::checked_inputs("gram_by_length", inputs)) {}

    /// Adds inputs of sequences that are `length` tokens long: all of their tokens, or those that reach this layer.
    /// @par Errors option_error if length < 1, and those of `gram_accumulator::add`
    template <class Matrix>
    void add(index_t length, const Matrix& X, executor_ref exec = {}) {
        detail::require_option(length >= 1, "gram_by_length::add", "length", "at least 1", length);
        if (const auto found = grams_.find(length); found != grams_.end()) return found->second.add(X, exec);
        gram_accumulator<Scalar> first(inputs_);
        first.add(X, exec);
        grams_.emplace(length, std::move(first));
    }

    [[nodiscard]] index_t inputs() const noexcept { return inputs_; }

    /// The lengths so far, in increasing order.
    [[nodiscard]] std::vector<index_t> lengths() const {
        std::vector<index_t> lengths;
        for (const auto& [length, gram] : grams_) lengths.push_back(length);
        return lengths;
    }

    /// @par Errors option_error if no sequence of this length was added
    [[nodiscard]] const gram_accumulator<Scalar>& at(index_t length) const {
        const auto found = grams_.find(length);
        detail::require_option(found != grams_.end(), "gram_by_length::at", "length", "one of those added", length);
        return found->second;
    }

private:
    index_t inputs_;
    std::map<index_t, gram_accumulator<Scalar>> grams_;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
