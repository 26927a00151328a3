// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <concepts>

#include <magr/matrix/matrix_view.hpp>
#include <magr/matrix/scalar.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

/// How a number of grid steps becomes an integer: a function object of (steps, row, column).
///
/// It returns one of the two neighbouring integers and leaves integers alone. `steps` has been limited to the range of the grid, whose
/// ends are integers, so the result stays inside of it. Row and column are those of the weight in the matrix passed in: with them a
/// policy can be random without depending on the order or the blocks in which weights are visited.
template <class R, class Scalar>
concept rounding_policy = compute_scalar<Scalar> && requires(const R& rounding, Scalar steps, index_t row, index_t column) {
    { rounding(steps, row, column) } -> std::same_as<Scalar>;
};

/// To the nearest integer, half-way cases to the even one: `std::nearbyint` in the default rounding mode.
struct round_half_even {
    template <compute_scalar Scalar>
    Scalar operator()(Scalar steps, index_t, index_t) const noexcept {
        return std::nearbyint(steps);
    }
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
