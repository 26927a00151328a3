// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <magr/detail/validate.hpp>
#include <magr/grid/storage_type.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/matrix/scalar.hpp>

namespace magr {

/// What a grid stores besides its scale s, and so which weight a code c in 0..2^bits-1 represents.
enum class zero_point {
    none,     ///< nothing: s (c - 2^(bits-1))
    middle,   ///< one of the two middle codes, z: s (c - z). At 4 bits s (c - 7) is -s ((15 - c) - 8): formats store the sign of the scale
    integer,  ///< a code z: s (c - z); the weight 0 is on the grid
    real,     ///< a real number z: s (c - z)
    offset    ///< the weight of code 0, o: s c + o
};

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(zero_point zero) noexcept {
    switch (zero) {
        case zero_point::none: return "none";
        case zero_point::middle: return "middle";
        case zero_point::integer: return "integer";
        case zero_point::real: return "real";
        case zero_point::offset: return "offset";
    }
    return "unknown";
}

/// How the range of a grid is chosen.
enum class range_search {
    min_max,          ///< from the smallest to the largest weight
    mse,              ///< so that the sum of |error|^error_exponent is least, which clips the largest weights
    output_error,     ///< so that sum_j H_jj error_j^2 is least
    row_output_error  ///< so that error H error^T is least, with H limited to the columns of the group
};

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(range_search search) noexcept {
    switch (search) {
        case range_search::min_max: return "min_max";
        case range_search::mse: return "mse";
        case range_search::output_error: return "output_error";
        case range_search::row_output_error: return "row_output_error";
    }
    return "unknown";
}

/// Which ranges a search tries.
enum class range_candidates {
    shrink,  ///< the whole range times 1, 0.99, .. 0.21
    joint    ///< also scale and zero point independently of each other, then least squares for the codes found
};

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(range_candidates candidates) noexcept {
    switch (candidates) {
        case range_candidates::shrink: return "shrink";
        case range_candidates::joint: return "joint";
    }
    return "unknown";
}

/// Which point of a range stays in place when the range shrinks.
enum class range_point {
    low,    ///< the low end, so that only large weights are clipped: the published rule
    zero,   ///< the weight 0
    centre  ///< the middle of the range
};

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(range_point point) noexcept {
    switch (point) {
        case range_point::low: return "low";
        case range_point::zero: return "zero";
        case range_point::centre: return "centre";
    }
    return "unknown";
}

/// Largest allowed magnitude of an element of `levels`.
inline constexpr double largest_level = 1e6;

/// The grids that weights are rounded to: one per row, or one per group of consecutive columns of a row.
struct grid_options {
    int bits = 4;                                           ///< bits per code, 2..8
    magr::zero_point zero_point = zero_point::integer;      ///< what is stored besides the scale
    std::optional<index_t> group_size = std::nullopt;       ///< columns per grid, >= 1; the last group may be shorter; default: whole row
    storage_type storage = storage_type::native;            ///< of scales and of real zero points and offsets
    std::optional<range_search> range = std::nullopt;       ///< how the range is chosen; default: min_max, output_error in quantize_layer
    range_candidates candidates = range_candidates::joint;  ///< which ranges a search looks at
    double error_exponent = 2.4;                            ///< exponent of the mse search, in [1, 8]
    double range_factor = 1;                        ///< factor on the min_max range, MagR's beta, in (0, 1]; must be 1 with a search
    range_point shrink_towards = range_point::low;  ///< the point that range_factor leaves in place
    /// If not empty, the weights are scale * levels[code] instead: 2 to 2^bits numbers of at most 1e6, increasing also when rounded to
    /// float, and not all below 1e-6; zero_point must be none. The scale is chosen so that the levels reach from the smallest to the
    /// largest weight.
    std::vector<double> levels = {};
    double dead_threshold = 0;  ///< columns with H_jj <= this fraction of the mean are dead: no grid depends on their weights; in [0, 1)
};

/// A grid as in `zero_point`: the weight of code c is `scale * (c - zero)`, or `scale * c + zero` if zero is an offset.
template <compute_scalar Scalar>
struct affine_grid {
    Scalar scale;
    Scalar zero;
};

inline namespace MAGR_ISA_NAMESPACE {

/// Every problem of these options, with option, expected and actual; empty if there is none.
[[nodiscard]] MAGR_CORE std::vector<std::string> problems(const grid_options& options);

/// Largest code of a grid: 2^bits - 1.
[[nodiscard]] constexpr int largest_code(int bits) noexcept { return (1 << bits) - 1; }

/// Columns per grid in a row of `columns` weights.
[[nodiscard]] inline index_t columns_per_group(const grid_options& options, index_t columns) {
    return options.group_size && *options.group_size < columns ? *options.group_size : columns;
}

/// Number of grids in a row of `columns` weights.
[[nodiscard]] inline index_t groups_per_row(const grid_options& options, index_t columns) {
    const index_t width = columns_per_group(options, columns);
    return (columns + width - 1) / width;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/grid/grid_impl.hpp>
#endif
