// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include <magr/detail/contract.hpp>
#include <magr/error.hpp>
#include <magr/matrix/matrix_shape.hpp>
#include <magr/matrix/matrix_view.hpp>

namespace magr {

inline namespace MAGR_ISA_NAMESPACE {

/// How many weak columns of 16 bits layers can have, so that their weights take `target_bits` bits on average at most. Each layer gets the
/// same number of bits for them: with L layers, the largest even k with
///
///   (16 - bits) k rows  <=  (target_bits - bits) sum(rows cols) / L
///
/// and k <= cols. Kernels want even numbers.
///
/// The average counts 16 bits for weights of weak columns and `bits` for all others. `owq_matrix::bits_per_weight` counts all that is
/// stored, so it is larger: by scales, zero points, and codes of weak columns.
///
/// @return        k for each layer
/// @par Errors    option_error if bits are not in 2..8 or target_bits not in [bits, 16]; shape_error if there is no layer, or one is empty
/// @par Source    budget of OWQ (arXiv 2306.02272). The published code gives each layer of a transformer block
///                k = round(cols r ratio) with r = 12 / (16 - bits) (target_bits - bits) / L, plus 1 if odd, where 12 is the number of
///                square matrices that a block of OPT consists of and ratio is 1 for attention, 0.25 or 0.375 for others. It depends on
///                such shapes, and may exceed its target: 3.0107 for 3.01 bits
[[nodiscard]] inline std::vector<index_t> owq_weak_columns(double target_bits, int bits, std::span<const matrix_shape> layers) {
    constexpr const char* function = "owq_weak_columns";
    detail::require_option(bits >= 2 && bits <= 8, function, "bits", "in 2..8", bits);
    detail::require_option(target_bits >= bits && target_bits <= 16, function, "target_bits", "in [bits, 16]", target_bits);
    if (layers.empty()) detail::raise<shape_error>(detail::concat(function, ": layers must not be empty"));
    double weights = 0;
    for (const matrix_shape& layer : layers) {
        if (layer.rows < 1 || layer.cols < 1)
            detail::raise<shape_error>(detail::concat(function, ": layers must not be empty, one is ", layer.rows, " x ", layer.cols));
        weights += static_cast<double>(layer.rows) * static_cast<double>(layer.cols);
    }
    std::vector<index_t> counts;
    for (const matrix_shape& layer : layers) {
        const double share = weights / static_cast<double>(layers.size()) / static_cast<double>(layer.rows);  // in columns
        const auto bits_with = [&](index_t k) { return bits + (16 - bits) * static_cast<double>(k) / share; };
        const double most = (std::min)(share * (target_bits - bits) / (16 - bits), static_cast<double>(layer.cols));
        index_t k = 2 * static_cast<index_t>(most / 2) + 2;  // rounding may have lost a pair
        while (k > layer.cols || bits_with(k) > target_bits) k -= 2;
        counts.push_back(k);
    }
    return counts;
}

/// The same for one layer.
[[nodiscard]] inline index_t owq_weak_columns(double target_bits, int bits, matrix_shape layer) {
    return owq_weak_columns(target_bits, bits, std::span<const matrix_shape>(&layer, 1)).front();
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
