// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include <magr/grid/grid.hpp>
#include <magr/matrix/scalar.hpp>

namespace magr {

// Only declared: the header that defines it includes `require_grids`, which calls functions from here.
template <compute_scalar Scalar>
struct weight_grids;

}  // namespace magr

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// The offset of a group with shared scales. A zero always has the same sign.
template <compute_scalar Scalar>
[[nodiscard]] Scalar shared_offset(Scalar shared, std::uint8_t code) noexcept {
    return Scalar(0) - shared * static_cast<Scalar>(code);
}

/// If some weight of a grid of this scale and zero point overflows, that weight times a small factor; 0 if none does.
template <compute_scalar Scalar>
[[nodiscard]] Scalar infinite_weight(const weight_grids<Scalar>& grids, Scalar scale, Scalar zero) noexcept {
    constexpr Scalar part = sizeof(Scalar) == sizeof(float) ? Scalar(0x1p-64) : Scalar(0x1p-512);  // keeps all products here finite
    constexpr Scalar largest = (std::numeric_limits<Scalar>::max)() * part * part;
    constexpr Scalar moderate = Scalar(0.0625) / part;
    const bool has_levels = !grids.levels.empty(), has_offset = !has_levels && grids.zero_point == zero_point::offset;
    for (const Scalar end : {has_levels ? grids.levels.front() : Scalar(0),
                             has_levels ? grids.levels.back() : static_cast<Scalar>(largest_code(grids.bits))}) {
        // Ordinary grids end here: below, their products would be subnormal, which processors multiply a hundred times more slowly.
        if (std::abs(scale) < moderate && std::abs(zero) < moderate && std::abs(end) < moderate) continue;
        const Scalar product = part * scale * (part * (has_levels || has_offset ? end : end - zero));
        const Scalar weight = has_offset ? product + part * zero * part : product;
        if (std::abs(product) > largest) return product;
        if (std::abs(weight) > largest) return weight;
    }
    return 0;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
