// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <magr/calibration/hessian.hpp>
#include <magr/detail/contract.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/grid/code_map.hpp>
#include <magr/grid/grid.hpp>
#include <magr/grid/grid_family.hpp>
#include <magr/grid/storage_type.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr {

/// The dINT grids that weights are rounded to: one per row, or one per group of consecutive columns of a row.
struct dint_options {
    int bits = 4;                                      ///< bits per code, 2..8
    std::optional<index_t> group_size = std::nullopt;  ///< columns per grid, >= 1; the last group may be shorter; default: whole row
    bool symmetric = false;                            ///< whether the range is symmetric, so that all zero points are (p + 1) / 2
    storage_type storage = storage_type::native;       ///< of scales
    range_search range = range_search::min_max;        ///< how the range is chosen: min_max or mse
    double error_exponent = 2.4;                       ///< exponent of the mse search, in [1, 8]
    double dead_threshold = 0;                         ///< columns with H_jj <= this fraction of the mean are dead, in [0, 1)
};

inline namespace MAGR_ISA_NAMESPACE {

/// Every problem of these options; empty if there is none.
[[nodiscard]] MAGR_CORE std::vector<std::string> problems(const dint_options& options);

/// The largest code of a dINT grid that stands for an integer, p = 2^bits - 3. Two codes are left.
[[nodiscard]] constexpr int dint_largest_integer(int bits) noexcept { return (1 << bits) - 3; }

/// One dINT grid of scale s and zero point z, a `grid_map`. In units of s its weights are the integers -z..p - z, and +-1/2:
///
///   code c in 0..p        s (c - z)
///   code p + 1            s / 2
///   code p + 2            -s / 2
///
/// Its points are ranks among the sorted weights, counted from the weight 0: +-1 are the halves, +-(k + 1) the integers +-k. So the
/// nearest weight is also the nearest rank, for every zero point, even where one side has no integer. Ties go to the integer and not to the
/// half, and to the even integer.
///
/// @pre           scale > 0, 0 <= zero <= p
/// @par Numerics  ranks are computed from weight / scale. Between two integers they are one more, so the even integer has an odd rank;
///                there half-way cases are moved by a rounding error, so that rounding half to even takes the even integer
template <compute_scalar Scalar>
class dint_map {
public:
    dint_map(int bits, Scalar scale, std::uint8_t zero) noexcept
        : scale_(scale), zero_(zero), integers_(static_cast<Scalar>(dint_largest_integer(bits))) {}

    [[nodiscard]] Scalar steps(Scalar weight) const noexcept {
        const Scalar units = detail::limited(weight, detail::reach_of(scale_)) / scale_;
        if (std::abs(units) <= 1) return 2 * units;
        const Scalar side = std::copysign(Scalar(1), units);
        const Scalar rank = units + side, nearest = std::nearbyint(units) + side;
        return std::nearbyint(rank) == nearest ? rank : std::nextafter(rank, nearest);
    }
    [[nodiscard]] Scalar lowest() const noexcept { return -zero_ - 1; }
    [[nodiscard]] Scalar highest() const noexcept { return integers_ - zero_ + 1; }
    [[nodiscard]] Scalar weight(Scalar rank) const noexcept { return scale_ * units_of(rank); }
    [[nodiscard]] std::uint8_t code(Scalar rank) const noexcept {
        if (std::abs(rank) == 1) return static_cast<std::uint8_t>(integers_ + (rank > 0 ? 1 : 2));
        return static_cast<std::uint8_t>(units_of(rank) + zero_);
    }
    [[nodiscard]] Scalar weight_of_code(std::uint8_t code) const noexcept {
        if (code > integers_) return scale_ * (code == integers_ + 1 ? Scalar(0.5) : Scalar(-0.5));
        return scale_ * (code - zero_);
    }

private:
    [[nodiscard]] static Scalar units_of(Scalar rank) noexcept {
        return std::abs(rank) <= 1 ? rank / 2 : rank - std::copysign(Scalar(1), rank);
    }

    Scalar scale_;
    Scalar zero_;
    Scalar integers_;
};

/// The dINT grids of a weight matrix, a `grid_family`: `round_onto` takes them with every feedback and rounding.
template <compute_scalar Scalar>
struct dint_grids {
    using scalar = Scalar;

    int bits = 0;                                 ///< codes lie in 0..2^bits - 1
    storage_type storage = storage_type::native;  ///< the type that can hold all scales
    index_t cols = 0;                             ///< columns of the matrix
    index_t group_size = 0;                       ///< columns per group; the last group may have fewer
    matrix<Scalar> scales;                        ///< rows x groups, > 0
    matrix<std::uint8_t> zeros;                   ///< rows x groups, 0..p

    [[nodiscard]] dint_map<Scalar> map(index_t row, index_t column) const noexcept {
        const index_t group = column / group_size;
        return {bits, scales(row, group), zeros(row, group)};
    }

    /// Refuses grids that weights cannot be rounded onto.
    /// @par Errors    shape_error if these are not the grids of a rows x cols matrix; value_error if bits are not in 2..8, group_size is
    ///                less than 1, storage is not an enumerator, a scale is not > 0, a zero point is not in 0..p, or a weight is not finite
    void require(const char* function, index_t rows, index_t columns) const {
        const auto refuse = [&](const auto&... what) { detail::raise<value_error>(detail::concat(function, ": grids: ", what...)); };
        if (bits < 2 || bits > 8) refuse("bits must be in 2..8, it is ", bits);
        if (group_size < 1) refuse("group_size must be at least 1, it is ", group_size);
        if (!detail::is_enumerator(storage)) refuse("storage must be ", detail::enumerators<storage_type>());
        if (cols != columns) detail::raise<shape_error>(detail::concat(function, ": grids.cols must be ", columns, ", it is ", cols));
        const index_t groups = cols / group_size + (cols % group_size > 0 ? 1 : 0);
        detail::require_shape(function, "grids.scales", scales.view(), rows, groups);
        detail::require_shape(function, "grids.zeros", zeros.view(), rows, groups);
        const int largest = dint_largest_integer(bits);
        for (index_t i = 0; i < rows; ++i)
            for (index_t g = 0; g < groups; ++g) {
                const Scalar scale = scales(i, g);
                if (!(scale > 0) || !detail::is_finite(scale * static_cast<Scalar>(largest)))
                    refuse("scale (row ", i, ", group ", g, ") must be > 0, with finite weights, it is ", scale);
                if (zeros(i, g) > largest)
                    refuse("zero point (row ", i, ", group ", g, ") must be in 0..", largest, ", it is ", int{zeros(i, g)});
            }
    }
};

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar Scalar>
[[nodiscard]] dint_grids<Scalar> run_fit_dint_grids(const matrix_ref& W, const gram_argument& H, const dint_options& options,
                                                    executor_ref exec);
template <compute_scalar Scalar>
[[nodiscard]] dint_grids<Scalar> run_fit_dint_grids(const matrix_ref& W, const dint_options& options, executor_ref exec);

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// Chooses the dINT grids of a weight matrix. With low = min(0, min w), high = max(0, max w) of a group:
///
///   scale = (high - low) / p, zero = round(-low / scale)          p = 2^bits - 3
///   symmetric: scale = 2 max(high, -low) / p, zero = (p + 1) / 2
///
/// and high = 1, low = -1 if all weights are zero. `mse` takes the scale times 1, 0.99, .. 0.21 with the least sum of
/// |error|^error_exponent.
///
/// Against integers of as many bits and the same range, the scale is (p + 2) / p times as large, 15/13 for 4 bits. Weights up to a quarter
/// of it become 0, instead of half; large weights lose up to half of the larger scale.
///
/// Weights of dead columns of H, H_jj <= dead_threshold * mean, are ignored, unless all columns of a group are dead.
///
/// @par Shapes    W: rows x cols, any storage and layout; H: cols x cols, or a `hessian`
/// @par Cost      O(rows * cols), 80 times that for mse; tasks of 32 rows
/// @par Numerics  ranges and scales are computed in double; the same bits for every executor
/// @par Errors    option_error; shape_error; value_error if an entry is NaN or infinite, or H is not a Gram matrix. All before any work
/// @par Source    dINT of arXiv 2311.05161, after descriptions of the paper: p + 1 integers and two halves. Which codes stand for the
///                halves, that both are reached at every zero point, and ties are this library's choice. A symmetric range is symmetric
///                also for weights of one sign
template <class Weights, class Gram>
    requires gram_like<Gram>
[[nodiscard]] auto fit_dint_grids(const Weights& W, const Gram& H, const dint_options& options, executor_ref exec = {}) {
    const auto w = as_const_view(W);
    return detail::run_fit_dint_grids<compute_t<typename decltype(w)::value_type>>(w, detail::as_gram(H), options, exec);
}

/// The same without H: all columns count.
template <class Weights>
[[nodiscard]] auto fit_dint_grids(const Weights& W, const dint_options& options = {}, executor_ref exec = {}) {
    const auto w = as_const_view(W);
    return detail::run_fit_dint_grids<compute_t<typename decltype(w)::value_type>>(w, options, exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/fit/dint_impl.hpp>
#endif
