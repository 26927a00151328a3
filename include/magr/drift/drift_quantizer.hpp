// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <magr/detail/finite.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/sequential/column_quantizer.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Adds offsets to the weights of a column before another quantizer rounds them.
///
/// It keeps references to its arguments, which must outlive it.
template <compute_scalar Scalar, column_quantizer<Scalar> Quantizer>
class drift_quantizer {
public:
    /// @param offsets  as in `drift_terms`
    /// @param rows     of the matrix that is rounded
    drift_quantizer(matrix_view<const Scalar> offsets, index_t rows, Quantizer& quantizer)
        : offsets_(offsets), quantizer_(quantizer), overflowed_(static_cast<std::size_t>(rows)) {}

    void operator()(index_t k, index_t first_row, std::span<const Scalar> weights, std::span<Scalar> rounded) {
        constexpr std::size_t chunk = 64;
        Scalar sums[chunk];
        for (std::size_t first = 0; first < weights.size(); first += chunk) {
            const std::size_t count = (std::min)(chunk, weights.size() - first);
            const index_t row = first_row + static_cast<index_t>(first);
            std::copy_n(weights.data() + first, count, sums);
            if (k < offsets_.rows())
                for (std::size_t i = 0; i < count; ++i) sums[i] += offsets_(k, row + static_cast<index_t>(i));
            for (std::size_t i = 0; i < count; ++i)
                if (!is_finite(sums[i])) overflowed_[static_cast<std::size_t>(first_row)] = 1;
            quantizer_(k, row, std::span<const Scalar>(sums, count), rounded.subspan(first, count));
        }
    }

    /// Whether what a weight was rounded from left the range of numbers.
    [[nodiscard]] bool overflowed() const { return std::find(overflowed_.begin(), overflowed_.end(), 1) != overflowed_.end(); }

private:
    matrix_view<const Scalar> offsets_;
    Quantizer& quantizer_;
    std::vector<std::uint8_t> overflowed_;  // for the rows of a call, at the first of them, because tasks must not share one
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
