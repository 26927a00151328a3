// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <span>

#include <magr/matrix/scalar.hpp>
#include <magr/quantize/rounding.hpp>
#include <magr/quantize/weight_grids.hpp>

namespace magr {
namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Whether the zero point is a code, so that the weight 0 is on the grid.
[[nodiscard]] constexpr bool has_code_zero(zero_point zero) noexcept { return zero == zero_point::none || zero == zero_point::integer; }

/// Between weights, steps and codes of one grid. A step is the distance between two neighbouring codes; the steps of a grid point are an
/// integer, and differ from its code by a constant.
///
/// With zero points that are codes, steps are counted from the weight 0: then round(w / s) does not depend on the zero point, as in the
/// published codes, and half-way cases go the same way whatever it is.
template <zero_point Zero, compute_scalar Scalar>
struct code_map {
    Scalar scale;
    Scalar zero;
    Scalar largest;

    [[nodiscard]] Scalar steps(Scalar weight) const noexcept {
        if constexpr (Zero == zero_point::real) return weight / scale + zero;
        if constexpr (Zero == zero_point::offset) return (weight - zero) / scale;
        return weight / scale;
    }
    [[nodiscard]] Scalar lowest() const noexcept { return counts_from_zero ? -zero : Scalar(0); }
    [[nodiscard]] Scalar highest() const noexcept { return counts_from_zero ? largest - zero : largest; }
    [[nodiscard]] Scalar weight(Scalar steps) const noexcept {
        if constexpr (Zero == zero_point::real) return scale * (steps - zero);
        if constexpr (Zero == zero_point::offset) return scale * steps + zero;
        return scale * steps;
    }
    [[nodiscard]] Scalar code(Scalar steps) const noexcept { return counts_from_zero ? steps + zero : steps; }

    static constexpr bool counts_from_zero = has_code_zero(Zero);
};

/// The same for fixed levels. Between two levels steps are linear, so the nearest integer is the nearest level.
template <compute_scalar Scalar>
struct level_map {
    Scalar scale;
    std::span<const Scalar> levels;

    [[nodiscard]] Scalar steps(Scalar weight) const noexcept {
        const Scalar level = weight / scale;
        const auto above = std::upper_bound(levels.begin() + 1, levels.end() - 1, level);
        const Scalar below = *(above - 1);
        return static_cast<Scalar>(above - 1 - levels.begin()) + (level - below) / (*above - below);
    }
    [[nodiscard]] Scalar lowest() const noexcept { return 0; }
    [[nodiscard]] Scalar highest() const noexcept { return static_cast<Scalar>(levels.size() - 1); }
    [[nodiscard]] Scalar weight(Scalar steps) const noexcept { return scale * levels[static_cast<std::size_t>(steps)]; }
    [[nodiscard]] Scalar code(Scalar steps) const noexcept { return steps; }
};

/// Calls use(make) with a function make(scale, zero) that gives the map of a grid of this kind.
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
        case zero_point::none:  // its zero is the middle code
        case zero_point::integer: break;
    }
    return affine.template operator()<zero_point::integer>();
}

/// The weight that a code stands for.
template <class Map, compute_scalar Scalar>
[[nodiscard]] Scalar weight_of_code(const Map& map, Scalar code) noexcept {
    return map.weight(code - map.code(0));
}

/// Steps kept inside the grid. Those that are NaN, as errors that overflowed leave them, become its low end: the order of the arguments of
/// max decides that.
template <class Map, compute_scalar Scalar>
[[nodiscard]] Scalar limited_steps(const Map& map, Scalar steps) noexcept {
    return (std::min)((std::max)(map.lowest(), steps), map.highest());
}

/// Steps of the grid point that stands for a weight, kept inside the grid.
///
/// Rounding after limiting gives the same as limiting after rounding, because the ends of the grid are integers; weights far outside of
/// the grid, even where weight / scale is infinite, go to its ends.
template <class Map, compute_scalar Scalar, rounding_policy<Scalar> Rounding = round_half_even>
[[nodiscard]] Scalar steps_on_grid(const Map& map, Scalar weight, index_t row, index_t column, const Rounding& rounding = {}) noexcept {
    return rounding(limited_steps(map, map.steps(weight)), row, column);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr
