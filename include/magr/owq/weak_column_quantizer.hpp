// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>

#include <magr/grid/quantized_matrix.hpp>
#include <magr/grid/rounding.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/quantize/grid_quantizer.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Rounds all columns but the last ones, which it takes as they come.
template <compute_scalar Scalar, rounding_policy<Scalar> Rounding>
class weak_column_quantizer {
public:
    /// @param weak_values  receives the weights of the columns that are not rounded
    weak_column_quantizer(quantized_matrix<Scalar>& out, matrix<Scalar>& weak_values, std::span<const index_t> order,
                          std::span<const double> pivots, Rounding rounding)
        : strong_(out, order, pivots, std::move(rounding)), weak_values_(weak_values), strong_count_(out.cols() - weak_values.cols()) {}

    void operator()(index_t k, index_t first_row, std::span<const Scalar> weights, std::span<Scalar> rounded) {
        if (k < strong_count_) return strong_(k, first_row, weights, rounded);
        std::copy(weights.begin(), weights.end(), rounded.begin());
        for (std::size_t i = 0; i < weights.size(); ++i) weak_values_(first_row + static_cast<index_t>(i), k - strong_count_) = weights[i];
    }
    void store_codes(index_t first_row, index_t rows) { strong_.store_codes(first_row, rows); }
    [[nodiscard]] index_t clipped() const { return strong_.clipped(); }

private:
    grid_quantizer<Scalar, Rounding> strong_;
    matrix<Scalar>& weak_values_;
    index_t strong_count_;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
