// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include <magr/matrix/matrix_view.hpp>
#include <magr/quantize/grid.hpp>
#include <magr/quantize/quantized_matrix.hpp>

namespace magr {
namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Factor on the range low..high for which the sum of |error|^2.4 is least: 1, 0.99, .. 0.21, the largest of equals.
///
/// Errors are measured in steps of the unshrunk grid, so that neither tiny nor huge weights under- or overflow when raised to the power.
template <compute_scalar Scalar>
[[nodiscard]] double least_error_shrink(std::span<const Scalar> weights, affine_grid<Scalar> grid, int bits) {
    constexpr int candidates = 80;
    constexpr double resolution = 100;
    constexpr Scalar power = Scalar(2.4);
    using array = Eigen::Array<Scalar, Eigen::Dynamic, 1>;

    const array steps = Eigen::Map<const array>(weights.data(), static_cast<index_t>(weights.size())) / grid.scale;
    const Scalar lowest = -grid.zero;
    const Scalar highest = Scalar(largest_code(bits)) - grid.zero;
    double best_shrink = 1;
    double least_error = std::numeric_limits<double>::infinity();
    for (int i = 0; i < candidates; ++i) {
        const double shrink = 1 - i / resolution;
        const Scalar s = static_cast<Scalar>(shrink);
        const auto error = s * (steps / s).rint().max(lowest).min(highest) - steps;
        const auto sum = static_cast<double>(error.abs().pow(power).sum());
        if (sum < least_error) {
            least_error = sum;
            best_shrink = shrink;
        }
    }
    return best_shrink;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// Chooses the grid of one row, or of one group of a row.
///
/// With low = min(0, min w), high = max(0, max w) and L = 2^bits - 1:
///
///   asymmetric   scale = (high - low) / L                   zero = round(-low / scale)
///   symmetric    scale = 2 max(high, -low) / L              zero = 2^(bits-1)
///
/// and low = -1, high = 1 if all weights are zero. `beta` multiplies the scale before the zero point is computed. The mse search
/// multiplies scale, low and high by the best of the factors 1, 0.99, .. 0.21, which leaves the zero point where it is.
///
/// @par Shapes    weights: n, contiguous
/// @par Units     scale: that of the weights; zero: codes
/// @pre           validate(options) passes; all weights finite
/// @post          scale > 0 and normal; zero is an integer in 0..L
/// @par Cost      O(n), allocates nothing; mse: 80 passes with one power per weight, allocates n
/// @par Numerics  range and scale are computed in double and rounded to Scalar before the zero point is derived from them; rounding is
///                half to even; a scale that would be subnormal is raised to the smallest normal number
/// @par Errors    none; checked entry points: magr::quantize_rtn, magr::quantize_optq
/// @par Source    grid rules of OPTQ (arXiv 2210.17323) and MagR (arXiv 2406.00800), with three differences. zero is limited to 0..L:
///                with beta < 1 and weights of one sign the published rule leaves the codes. A symmetric grid keeps its range
///                symmetric when no weight is negative, where the published rule clips more than half of it. beta and mse, which
///                both shrink the range, exclude each other.
template <compute_scalar Scalar>
[[nodiscard]] affine_grid<Scalar> fit_grid(std::span<const Scalar> weights, const grid_options& options) {
    const Eigen::Map<const Eigen::Array<Scalar, Eigen::Dynamic, 1>> w(weights.data(), static_cast<index_t>(weights.size()));
    double low = std::min(0.0, static_cast<double>(w.minCoeff()));
    double high = std::max(0.0, static_cast<double>(w.maxCoeff()));
    if (options.symmetry == symmetry::symmetric) {
        high = std::max(high, -low);
        low = -high;
    }
    if (low == 0 && high == 0) {
        low = -1;
        high = 1;
    }
    const double largest = largest_code(options.bits);
    // divided before subtracting: the range may be wider than the largest finite number
    const double step = options.beta * (high / largest - low / largest);
    affine_grid<Scalar> grid{std::max(static_cast<Scalar>(step), std::numeric_limits<Scalar>::min()), 0};
    const double zero =
        options.symmetry == symmetry::symmetric ? (largest + 1) / 2 : std::nearbyint(-low / static_cast<double>(grid.scale));
    grid.zero = static_cast<Scalar>(std::clamp(zero, 0.0, largest));

    if (options.range == range_search::mse) {
        const double shrink = detail::least_error_shrink(weights, grid, options.bits);
        grid.scale = std::max(static_cast<Scalar>(shrink * step), std::numeric_limits<Scalar>::min());
    }
    return grid;
}

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// A quantized matrix without grids and codes, with its groups in the order of the columns.
template <compute_scalar Scalar>
[[nodiscard]] quantized_matrix<Scalar> make_quantized_matrix(index_t rows, index_t cols, const grid_options& options) {
    const index_t groups = groups_per_row(options, cols);
    quantized_matrix<Scalar> q{options.bits, columns_per_group(options, cols), {rows, cols}, {rows, groups}, {rows, groups}, {}};
    for (index_t j = 0; j < cols; ++j) q.group_of_column.push_back(j / q.group_size);
    return q;
}

/// Fits all grids, each to its group of neighbouring columns of W.
template <compute_scalar Scalar, class T>
void fit_grids(matrix_view<T> w, const grid_options& options, quantized_matrix<Scalar>& q) {
    std::vector<Scalar> group(static_cast<std::size_t>(q.group_size));
    for (index_t i = 0; i < w.rows(); ++i)
        for (index_t g = 0; g < q.scales.cols(); ++g) {
            const index_t first = g * q.group_size;
            const index_t last = std::min(first + q.group_size, w.cols());
            group.clear();
            for (index_t j = first; j < last; ++j) group.push_back(static_cast<Scalar>(w(i, j)));
            const affine_grid<Scalar> grid = fit_grid<Scalar>(group, options);
            q.scales(i, g) = grid.scale;
            q.zeros(i, g) = grid.zero;
        }
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr
