// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <limits>

#include <magr/detail/convert.hpp>
#include <magr/fit/grid_maker.hpp>
#include <magr/fit/grid_metric.hpp>
#include <magr/grid/grid.hpp>
#include <magr/grid/storage.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// The best grid among all pairs of a scale and a zero point, by the sum of |error|^error_exponent. With L = 2^bits - 1:
///
///   integer      scale = (high - low) / L * i / clips           zero = 0, .. L
///   none         scale = max(high, -low) / 2^(bits-1) * i / clips
///
/// for i = 1, .. clips. Ties go to the smaller scale, then to the smaller zero point. Weights that are all zero keep the min-max grid.
///
/// `range_candidates::joint` of `grid_search` goes from coarse to fine, and moves the zero point for up to 3 bits alone, so it does not
/// contain all of these pairs.
///
/// A candidate is given up as soon as its error exceeds the least so far. So the large weights come first, which show what clipping costs,
/// and the large scales, among which the best is usually found.
///
/// @param options  zero points that are codes, without levels; the range is not looked at
/// @param weights  1 x columns of one group
/// @par Cost      at most clips passes, times the zero points there are; most candidates cost a pass over 64 weights
/// @par Source    grid search of OWQ (arXiv 2306.02272)
template <compute_scalar Scalar>
[[nodiscard]] affine_grid<Scalar> exhaustive_search(const grid_options& options, index_t clips, row_major_matrix<Scalar> weights) {
    using panel = row_major_matrix<Scalar>;
    constexpr index_t part = 64;
    grid_options by_error = options;
    by_error.range = range_search::mse;
    const auto metric = grid_metric<Scalar>::plain(by_error);
    const grid_maker<Scalar> maker(options);
    const weight_range range = maker.range_of(weights.row(0));
    affine_grid<Scalar> best = maker.min_max(range);
    if (weights.isZero(0)) return best;

    const double largest = maker.largest(), middle = (largest + 1) / 2;
    const double lowest_zero = options.zero_point == zero_point::integer  ? 0
                               : options.zero_point == zero_point::middle ? middle - 1
                                                                          : middle;
    const double highest_zero = options.zero_point == zero_point::integer ? largest : middle;
    const double whole = options.zero_point == zero_point::none ? range.high / middle : maker.step_of(range);
    // in this unit no power of an error under- or overflows
    const double unit = (std::max)({whole, smallest_stored_scale<Scalar>(options.storage), 1e-6 * (std::max)(-range.low, range.high)});
    std::sort(weights.data(), weights.data() + weights.cols(), [](Scalar a, Scalar b) { return std::abs(a) > std::abs(b); });
    const panel target = weights / static_cast<Scalar>(unit);
    double least = std::numeric_limits<double>::infinity();
    for (index_t clip = clips; clip >= 1; --clip) {
        const Scalar scale = maker.with_zero_code(whole * static_cast<double>(clip) / static_cast<double>(clips), 0).scale;
        const auto scale_in_units = static_cast<Scalar>(static_cast<double>(scale) / unit);
        const panel steps = (weights.array() / scale).rint().matrix();
        for (double zero = highest_zero; zero >= lowest_zero; --zero) {
            const auto lowest = static_cast<Scalar>(-zero), highest = static_cast<Scalar>(largest - zero);
            double error = 0;
            for (index_t first = 0; first < weights.cols() && error <= least; first += part) {
                const index_t width = (std::min)(part, weights.cols() - first);
                const auto limited = steps.middleCols(first, width).cwiseMax(lowest).cwiseMin(highest);
                error += metric.errors(scale_in_units * limited - target.middleCols(first, width)).front();
            }
            if (!(error <= least)) continue;
            least = error;
            best = {scale, static_cast<Scalar>(zero)};
        }
    }
    return best;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
