// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cmath>
#include <concepts>
#include <cstdint>

#include <magr/detail/philox.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/matrix/scalar.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

/// How a number of grid steps becomes an integer: a function object called with (steps, row, column).
///
/// It returns one of the two neighbouring integers and leaves integers unchanged. `steps` is already limited to the range of the grid,
/// whose ends are integers, so the result stays inside. Row and column are those of the weight in the matrix passed in. They let a policy
/// be random without depending on the order or the blocks in which weights are visited.
template <class R, class Scalar>
concept rounding_policy = compute_scalar<Scalar> && requires(const R& rounding, Scalar steps, index_t row, index_t column) {
    { rounding(steps, row, column) } -> std::same_as<Scalar>;
};

/// To the nearest integer, half-way cases to the even one, like `std::nearbyint` in the default rounding mode.
struct round_half_even {
    template <compute_scalar Scalar>
    Scalar operator()(Scalar steps, index_t, index_t) const noexcept {
        return std::nearbyint(steps);
    }
};

/// Rounds up with the probability of the fraction, else down: floor(steps) + [u < steps - floor(steps)], so that the expected value is
/// `steps`.
///
/// u is uniform in [0, 1), a function of seed, row and column alone: results depend neither on the order of work nor on threads. Give each
/// layer a seed of its own, or their errors are related.
///
/// @par Cost      a counter-based generator per weight; noexcept
/// @par Numerics  u is made of the first 24 bits of philox((row, column), seed) for float, and of the first 53 for double
/// @par Source    rounding rule of QuIP (arXiv 2307.13304) and of "Provable PTQ" (arXiv 2508.04853). It is unbiased, and its mean squared
///                error for evenly spread weights is twice that of rounding to nearest
struct stochastic_rounding {
    std::uint64_t seed = 0;

    template <compute_scalar Scalar>
    Scalar operator()(Scalar steps, index_t row, index_t column) const noexcept {
        const std::array<std::uint32_t, 4> bits = detail::philox(static_cast<std::uint64_t>(row), static_cast<std::uint64_t>(column), seed);
        Scalar u;
        if constexpr (std::same_as<Scalar, float>)
            u = static_cast<float>(bits[0] >> 8) * 0x1p-24f;
        else
            u = static_cast<double>((std::uint64_t{bits[0]} << 32 | bits[1]) >> 11) * 0x1p-53;
        const Scalar below = std::floor(steps);
        return u < steps - below ? below + 1 : below;
    }
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
