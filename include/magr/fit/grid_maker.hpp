// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include <magr/grid/code_map.hpp>
#include <magr/grid/grid.hpp>
#include <magr/grid/storage.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Ends of the range that a grid covers.
struct weight_range {
    double low;
    double high;
};

/// Makes grids from ranges, with numbers rounded as they will be stored.
template <compute_scalar Scalar>
class grid_maker {
public:
    explicit grid_maker(const grid_options& options)
        : options_(options), largest_(largest_code(options.bits)), multiple_(largest_multiple(options.bits, options.levels)) {}

    /// Range of some weights. It includes 0 unless the zero point is a real number or an offset, and is never a single point.
    template <class Row>
    [[nodiscard]] weight_range range_of(const Row& weights) const {
        weight_range range{static_cast<double>(weights.minCoeff()), static_cast<double>(weights.maxCoeff())};
        const bool can_exclude_zero = !has_code_zero(options_.zero_point);
        if (!can_exclude_zero || range.low == range.high) range = with_zero(range);
        if (options_.zero_point == zero_point::real && range.high / 2 - range.low / 2 < 0.5e-3 * (std::max)(-range.low, range.high))
            range = with_zero(range);  // the zero point would be too large to be stored accurately
        if (options_.zero_point == zero_point::none && options_.levels.empty()) {
            range.high = (std::max)(range.high, -range.low);
            range.low = -range.high;
        }
        if (options_.zero_point == zero_point::middle) {  // the side with one code more belongs to the larger weights
            const double zero = middle_zero(range), step = (std::max)(-range.low / zero, range.high / (largest_ - zero));
            range = {-step * zero, step * (largest_ - zero)};
        }
        if (range.low == range.high) range = {can_exclude_zero ? 0.0 : -1.0, 1};
        return range;
    }

    /// The scale with which the grid spans the whole range.
    [[nodiscard]] double step_of(weight_range range) const {
        // divided before subtracting: the range may be wider than the largest finite number
        if (options_.levels.empty()) return range.high / largest_ - range.low / largest_;
        const double lowest = options_.levels.front();
        const double highest = options_.levels.back();
        const double step = (std::max)(highest > 0 ? range.high / highest : 0, lowest < 0 ? range.low / lowest : 0);
        return step > 0 ? step : 1;  // all weights have one sign, all levels the other
    }

    /// The grid of this scale whose lowest weight is `low`, as nearly as its zero point allows.
    [[nodiscard]] affine_grid<Scalar> grid(double step, double low) const {
        if (!has_code_zero(options_.zero_point)) {  // the weights of the first and the last code must be finite, also after rounding
            constexpr double most = 0.99 * static_cast<double>((std::numeric_limits<Scalar>::max)());
            low = std::clamp(low, -most, most);
            step = (std::min)(step, most / largest_ - low / largest_);
        }
        const Scalar scale = stored(step);
        return {scale, static_cast<Scalar>(zero_for(low, static_cast<double>(scale)))};
    }

    /// The grid of this scale and zero point.
    [[nodiscard]] affine_grid<Scalar> with_zero_code(double step, double zero) const { return {stored(step), static_cast<Scalar>(zero)}; }

    /// The grid of the range times `range_factor`, without a search.
    [[nodiscard]] affine_grid<Scalar> min_max(weight_range range) const {
        const double step = options_.range_factor * step_of(range);
        if (options_.zero_point == zero_point::middle) return with_zero_code(step, middle_zero(range));
        switch (options_.shrink_towards) {
            case range_point::zero: return grid(step, options_.range_factor * range.low);
            case range_point::centre: return grid(step, range.low + (1 - options_.range_factor) / 2 * step_of(range) * largest_);
            case range_point::low: break;
        }
        return grid(step, range.low);
    }

    /// The grid with another scale.
    [[nodiscard]] affine_grid<Scalar> rescaled(affine_grid<Scalar> old, double factor) const {
        const double step = factor * static_cast<double>(old.scale);
        if (has_code_zero(options_.zero_point)) return {stored(step), old.zero};
        return grid(step, static_cast<double>(old.zero) * (options_.zero_point == zero_point::offset ? 1 : -step));
    }

    [[nodiscard]] double largest() const { return largest_; }

private:
    [[nodiscard]] Scalar stored(double scale) const { return store_scale<Scalar>(scale, options_.storage, multiple_); }

    static weight_range with_zero(weight_range range) { return {(std::min)(0.0, range.low), (std::max)(0.0, range.high)}; }

    [[nodiscard]] double zero_for(double low, double scale) const {
        if (!options_.levels.empty()) return 0;
        switch (options_.zero_point) {
            case zero_point::integer: return std::clamp(std::nearbyint(-low / scale), 0.0, largest_);
            case zero_point::real: return static_cast<double>(round_to_storage<Scalar>(-low / scale, options_.storage));
            case zero_point::offset: return static_cast<double>(round_to_storage<Scalar>(low, options_.storage));
            case zero_point::none:
            case zero_point::middle: break;
        }
        return (largest_ + 1) / 2;
    }

    /// The middle code that leaves one code more to the side of the larger weights.
    [[nodiscard]] double middle_zero(weight_range range) const { return -range.low < range.high ? (largest_ - 1) / 2 : (largest_ + 1) / 2; }

    const grid_options& options_;
    double largest_;
    double multiple_;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
