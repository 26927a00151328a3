// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include <magr/detail/convert.hpp>
#include <magr/grid/grid.hpp>
#include <magr/grid/grid_maker.hpp>
#include <magr/grid/grid_metric.hpp>
#include <magr/grid/storage.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// The best grid of each row among all pairs of a scale and a zero point, by the sum of |error|^norm. With L = 2^bits - 1:
///
///   integer      scale = (high - low) / L * i / clips           zero = 0, .. L
///   none         scale = max(high, -low) / 2^(bits-1) * i / clips
///
/// for i = 1, .. clips. Ties go to the smaller scale, then to the smaller zero point. A row of zeros keeps the min-max grid.
///
/// `range_candidates::joint` of `grid_search` is coarse to fine, and moves the zero point for up to 3 bits alone: it contains neither all
/// of these pairs nor none but these.
///
/// @param options  zero point integer or none, without levels; the range is not looked at
/// @param weights  rows x columns of one group
/// @par Cost      clips passes, times 2^bits for integer zero points
/// @par Source    grid search of OWQ (arXiv 2306.02272)
template <compute_scalar Scalar>
[[nodiscard]] std::vector<affine_grid<Scalar>> exhaustive_search(const grid_options& options, index_t clips,
                                                                 const row_major_matrix<Scalar>& weights) {
    using panel = row_major_matrix<Scalar>;
    grid_options with_norm = options;
    with_norm.range = range_search::mse;
    const auto metric = grid_metric<Scalar>::plain(with_norm);
    const grid_maker<Scalar> maker(options);
    const bool moves_zero = options.zero_point == zero_point::integer;
    const double middle = (maker.largest() + 1) / 2;

    std::vector<affine_grid<Scalar>> best;
    std::vector<double> whole, units, least;
    panel target = weights;  // in units of the row, in which no power of an error under- or overflows
    for (index_t i = 0; i < weights.rows(); ++i) {
        const weight_range range = maker.range_of(weights.row(i));
        best.push_back(maker.min_max(range));
        whole.push_back(moves_zero ? maker.step_of(range) : range.high / middle);
        units.push_back(
            (std::max)({whole.back(), smallest_stored_scale<Scalar>(options.storage), 1e-6 * (std::max)(-range.low, range.high)}));
        least.push_back(weights.row(i).isZero(0) ? 0 : std::numeric_limits<double>::infinity());
        target.row(i) /= static_cast<Scalar>(units.back());
    }
    panel steps(weights.rows(), weights.cols()), error = steps;
    std::vector<Scalar> scales(best.size());
    for (index_t clip = 1; clip <= clips; ++clip) {
        for (std::size_t i = 0; i < scales.size(); ++i) {
            const auto row = static_cast<index_t>(i);
            scales[i] = maker.with_zero_code(whole[i] * static_cast<double>(clip) / static_cast<double>(clips), 0).scale;
            steps.row(row) = (weights.row(row).array() / scales[i]).rint().matrix();
        }
        for (double zero = moves_zero ? 0 : middle; zero <= (moves_zero ? maker.largest() : middle); ++zero) {
            const auto lowest = static_cast<Scalar>(-zero), highest = static_cast<Scalar>(maker.largest() - zero);
            for (std::size_t i = 0; i < scales.size(); ++i) {
                const auto row = static_cast<index_t>(i);
                const auto scale = static_cast<Scalar>(static_cast<double>(scales[i]) / units[i]);
                error.row(row) = scale * steps.row(row).cwiseMax(lowest).cwiseMin(highest) - target.row(row);
            }
            const std::vector<double> found = metric.errors(error);
            for (std::size_t i = 0; i < scales.size(); ++i)
                if (found[i] < least[i]) {
                    least[i] = found[i];
                    best[i] = {scales[i], static_cast<Scalar>(zero)};
                }
        }
    }
    return best;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
