// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <optional>

#include <magr/detail/contract.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/quantize/rounding.hpp>

namespace magr {

/// Where the zero point of a grid lies.
enum class symmetry {
    asymmetric,  ///< wherever the range of the weights puts it
    symmetric    ///< on the middle code 2^(bits-1)
};

/// How the range of a grid is chosen.
enum class range_search {
    min_max,  ///< from the smallest to the largest weight
    mse       ///< shrunk so that the sum of |error|^2.4 is least, which clips the largest weights
};

/// The grids that weights are rounded to: one per row, or one per group of consecutive columns of a row.
struct grid_options {
    int bits = 4;                                          ///< bits per code, 2..8
    magr::symmetry symmetry = magr::symmetry::asymmetric;  ///< where the zero point lies
    std::optional<index_t> group_size = std::nullopt;      ///< columns per grid, >= 1; the last group may be shorter; default: whole row
    range_search range = range_search::min_max;            ///< how the range is chosen
    double beta = 1;                                       ///< factor on the scale, in (0, 1]; must be 1 with mse, which searches one
};

/// An affine grid: code c in 0..largest_code stands for the weight `scale * (c - zero)`.
///
/// `zero` is an integer in 0..largest_code, so the weight 0 is always on the grid.
template <compute_scalar Scalar>
struct affine_grid {
    Scalar scale;
    Scalar zero;
};

inline namespace MAGR_ISA_NAMESPACE {

/// Refuses options outside of their documented range.
/// @par Errors    option_error
inline void validate(const grid_options& options) {
    const char* const function = "grid_options";
    detail::require_option(options.bits >= 2 && options.bits <= 8, function, "bits", "in 2..8", options.bits);
    if (options.group_size) detail::require_option(*options.group_size >= 1, function, "group_size", "at least 1", *options.group_size);
    detail::require_option(options.beta > 0 && options.beta <= 1, function, "beta", "in (0, 1]", options.beta);
    detail::require_option(options.range == range_search::min_max || options.beta == 1, function, "beta",
                           "1 with range_search::mse, which searches the shrink itself", options.beta);
}

/// Largest code of a grid: 2^bits - 1.
[[nodiscard]] constexpr int largest_code(int bits) noexcept { return (1 << bits) - 1; }

/// Columns per grid in a row of `columns` weights.
[[nodiscard]] inline index_t columns_per_group(const grid_options& options, index_t columns) {
    return options.group_size ? std::min(*options.group_size, columns) : columns;
}

/// Number of grids in a row of `columns` weights.
[[nodiscard]] inline index_t groups_per_row(const grid_options& options, index_t columns) {
    const index_t width = columns_per_group(options, columns);
    return (columns + width - 1) / width;
}

/// Signed steps from the zero point to the grid point that stands for a weight: round(weight / scale), kept inside the grid.
///
/// The weight on the grid is `scale * steps`, its code is `steps + zero`.
///
/// @par Numerics  rounding after limiting gives the same as limiting after rounding, because the ends of the grid are integers; weights
///                far outside of the grid, even where weight / scale is infinite, go to its ends
/// @par Cost      O(1), no branch; noexcept
template <compute_scalar Scalar, rounding_policy<Scalar> Rounding = round_half_even>
[[nodiscard]] inline Scalar steps_on_grid(Scalar weight, Scalar scale, Scalar zero, Scalar largest, index_t row, index_t column,
                                          const Rounding& rounding = {}) noexcept {
    return rounding(std::min(std::max(weight / scale, -zero), largest - zero), row, column);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
