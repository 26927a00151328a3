// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>

#include <magr/grid/rounding.hpp>
#include <magr/grid/weight_grids.hpp>
#include <magr/matrix/scalar.hpp>

namespace magr {
namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Whether the zero point is a code, so that the weight 0 is on the grid.
[[nodiscard]] constexpr bool has_code_zero(zero_point zero) noexcept { return zero != zero_point::real && zero != zero_point::offset; }

/// The weight, limited to `reach` on either side of 0 before it is divided by a scale.
template <compute_scalar Scalar>
[[nodiscard]] Scalar limited(Scalar weight, Scalar reach) noexcept {
    return (std::min)((std::max)(-reach, weight), reach);
}

/// The nearest number of type Scalar; values beyond the largest one would overflow.
template <compute_scalar Scalar>
[[nodiscard]] Scalar limited_to(double weight) noexcept {
    return static_cast<Scalar>(limited(weight, static_cast<double>((std::numeric_limits<Scalar>::max)())));
}

/// The largest |weight| for which weight / scale cannot overflow: 2^100 steps, far outside of every grid, or the largest number. The
/// quotient is then at most half of the largest number, which leaves room for an addition.
template <compute_scalar Scalar>
[[nodiscard]] Scalar reach_of(Scalar scale) noexcept {
    const Scalar reach = (std::min)(scale, Scalar(2)) * Scalar(0x1p100);
    return scale < Scalar(2) ? reach : (std::numeric_limits<Scalar>::max)();
}

/// Converts between weights, steps and codes of one grid. A step is the distance between two neighbouring codes. A grid point is a whole
/// number of steps, which differs from its code by a constant.
///
/// If the zero point is a code, steps are counted from the weight 0: then round(w / s) does not depend on the zero point, as in the
/// published codes, and half-way cases go the same way for every zero point.
template <zero_point Zero, compute_scalar Scalar>
class code_map {
public:
    code_map(Scalar scale, Scalar zero, Scalar largest) noexcept
        : scale_(scale), zero_(zero), largest_(largest), reach_(reach_of(scale)), parts_(parts_of(scale, zero)) {}

    [[nodiscard]] Scalar steps(Scalar weight) const noexcept {
        if constexpr (Zero == zero_point::real) return limited(weight, reach_) / scale_ + zero_;
        if constexpr (Zero == zero_point::offset) {
            // a weight beyond half of the largest number is outside of a grid that needs no division into parts
            const Scalar part = parts_ == Scalar(1) ? Scalar(1) : Scalar(0.25);
            const Scalar distance = limited(part * weight, half_of_largest) - part * zero_;
            return limited(distance, reach_) / scale_ * parts_;
        }
        return limited(weight, reach_) / scale_;
    }
    /// No two grid points are closer to each other.
    [[nodiscard]] Scalar least_distance() const noexcept { return scale_; }
    [[nodiscard]] Scalar lowest() const noexcept { return counts_from_zero ? -zero_ : Scalar(0); }
    [[nodiscard]] Scalar highest() const noexcept { return counts_from_zero ? largest_ - zero_ : largest_; }
    [[nodiscard]] Scalar weight(Scalar steps) const noexcept {
        if constexpr (Zero == zero_point::real) return scale_ * (steps - zero_);
        if constexpr (Zero == zero_point::offset) return scale_ * steps + zero_;
        return scale_ * steps;
    }
    [[nodiscard]] Scalar code(Scalar steps) const noexcept { return counts_from_zero ? steps + zero_ : steps; }

private:
    static constexpr bool counts_from_zero = has_code_zero(Zero);
    static constexpr Scalar half_of_largest = (std::numeric_limits<Scalar>::max)() / 2;

    /// The number of parts in which the distance of a weight from the offset is computed: one, or four if the grid reaches so far that the
    /// distance might overflow.
    [[nodiscard]] static Scalar parts_of(Scalar scale, Scalar offset) noexcept {
        return std::abs(offset) <= half_of_largest / 2 && scale <= half_of_largest / 2048 ? Scalar(1) : Scalar(4);
    }

    Scalar scale_;
    Scalar zero_;
    Scalar largest_;
    Scalar reach_;
    Scalar parts_;
};

/// The same for fixed levels. Between two levels steps are linear, so the nearest integer is the nearest level. Outside of the levels steps
/// end one step away, because a distance divided by a small gap could overflow.
template <compute_scalar Scalar>
struct level_map {
    Scalar scale;
    std::span<const Scalar> levels;

    [[nodiscard]] Scalar steps(Scalar weight) const noexcept {
        const std::size_t last = levels.size() - 1;
        const Scalar before = levels[0] - (levels[1] - levels[0]), after = levels[last] + (levels[last] - levels[last - 1]);
        const Scalar level = (std::min)((std::max)(before, limited(weight, reach_of(scale)) / scale), after);
        const auto above = std::upper_bound(levels.begin() + 1, levels.end() - 1, level);
        const Scalar below = *(above - 1);
        return static_cast<Scalar>(above - 1 - levels.begin()) + (level - below) / (*above - below);
    }
    [[nodiscard]] Scalar least_distance() const noexcept { return 0; }  // not worth a search
    [[nodiscard]] Scalar lowest() const noexcept { return 0; }
    [[nodiscard]] Scalar highest() const noexcept { return static_cast<Scalar>(levels.size() - 1); }
    [[nodiscard]] Scalar weight(Scalar steps) const noexcept { return scale * levels[static_cast<std::size_t>(steps)]; }
    [[nodiscard]] Scalar code(Scalar steps) const noexcept { return steps; }
};

/// Calls use(make) with a function make(scale, zero) that returns the map of a grid of this kind.
template <compute_scalar Scalar, class Use>
decltype(auto) with_code_map(const weight_grids<Scalar>& grids, Use&& use) {
    if (!grids.levels.empty())
        return use([levels = std::span<const Scalar>(grids.levels)](Scalar scale, Scalar) { return level_map<Scalar>{scale, levels}; });
    const auto largest = static_cast<Scalar>(largest_code(grids.bits));
    const auto affine = [&]<zero_point Zero>() -> decltype(auto) {
        return use([largest](Scalar scale, Scalar zero) { return code_map<Zero, Scalar>{scale, zero, largest}; });
    };
    switch (grids.zero_point) {
        case zero_point::real: return affine.template operator()<zero_point::real>();
        case zero_point::offset: return affine.template operator()<zero_point::offset>();
        case zero_point::none:  // the zero of such a grid is the middle code
        case zero_point::middle:
        case zero_point::integer: break;
    }
    return affine.template operator()<zero_point::integer>();
}

/// The weight that a code represents.
template <class Map, compute_scalar Scalar>
[[nodiscard]] Scalar weight_of_code(const Map& map, Scalar code) noexcept {
    return map.weight(code - map.code(0));
}

/// Limits steps to the grid. NaN, which errors that overflowed produce, becomes the low end of the grid; this depends on the order of the
/// arguments of max.
template <class Map, compute_scalar Scalar>
[[nodiscard]] Scalar limited_steps(const Map& map, Scalar steps) noexcept {
    return (std::min)((std::max)(map.lowest(), steps), map.highest());
}

/// The steps of the grid point nearest to a weight, limited to the grid.
///
/// Rounding after limiting gives the same as limiting after rounding, because the ends of the grid are integers. Weights outside of the
/// grid, however far, go to its ends.
template <class Map, compute_scalar Scalar, rounding_policy<Scalar> Rounding = round_half_even>
[[nodiscard]] Scalar steps_on_grid(const Map& map, Scalar weight, index_t row, index_t column, const Rounding& rounding = {}) noexcept {
    return rounding(limited_steps(map, map.steps(weight)), row, column);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr
