// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include <magr/calibration/live_gram.hpp>
#include <magr/detail/contract.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/quantize/code_map.hpp>
#include <magr/quantize/fit_grid.hpp>
#include <magr/quantize/quantized_matrix.hpp>
#include <magr/quantize/rounding.hpp>
#include <magr/quantize/weight_grids.hpp>

namespace magr {
namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar Scalar, class T, rounding_policy<Scalar> Rounding>
[[nodiscard]] quantized_matrix<Scalar> round_onto_grids(matrix_view<T> w, weight_grids<Scalar> grids, const Rounding& rounding) {
    quantized_matrix<Scalar> q{std::move(grids), matrix<std::uint8_t>(w.rows(), w.cols())};
    with_code_map(q, [&](const auto& map_of) {
        for (index_t i = 0; i < w.rows(); ++i)
            for (index_t j = 0, end; j < w.cols(); j = end) {
                const index_t group = q.group_of_column[static_cast<std::size_t>(j)];
                for (end = j + 1; end < w.cols() && q.group_of_column[static_cast<std::size_t>(end)] == group;) ++end;
                const auto map = map_of(q.scales(i, group), q.zeros(i, group));
                for (index_t k = j; k < end; ++k)
                    q.codes(i, k) = static_cast<std::uint8_t>(map.code(steps_on_grid(map, static_cast<Scalar>(w(i, k)), i, k, rounding)));
            }
    });
    return q;
}

/// Weights of live columns that are more than half a step outside of their grid.
template <compute_scalar Scalar, class T, class U>
[[nodiscard]] index_t count_clipped(matrix_view<T> w, const live_gram<U>& gram, const weight_grids<Scalar>& grids) {
    index_t clipped = 0;
    with_code_map(grids, [&](const auto& map_of) {
        for (index_t i = 0; i < w.rows(); ++i)
            for (index_t j = 0; j < w.cols(); ++j) {
                if (gram.is_dead(j)) continue;
                const index_t group = grids.group_of_column[static_cast<std::size_t>(j)];
                const auto map = map_of(grids.scales(i, group), grids.zeros(i, group));
                const Scalar steps = map.steps(static_cast<Scalar>(w(i, j)));
                clipped += steps < map.lowest() - Scalar(0.5) || steps > map.highest() + Scalar(0.5) ? 1 : 0;
            }
    });
    return clipped;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// Rounds every weight to the nearest point of its grid, or as a `rounding_policy` says.
///
/// With an integer zero point, code = clamp(round(w / scale) + zero, 0, 2^bits - 1), with the grids of `fit_grids`.
///
/// @par Shapes    W: rows x cols, any storage and layout; not written; H, for the searches that look at it: cols x cols
/// @return        codes and grids; scales are float, or double for double weights
/// @par Cost      O(rows * cols) for min_max; allocates the result and 32 rows
/// @par Numerics  half-way cases round to even
/// @par Errors    option_error; shape_error if W is empty; value_error if an entry is NaN or infinite, or H is not a Gram matrix
template <class Weights, class Rounding = round_half_even>
[[nodiscard]] auto quantize_rtn(const Weights& W, const grid_options& options = {}, const Rounding& rounding = {}) {
    const auto w = as_const_view(W);
    validate(options);
    detail::require_search_without_gram("quantize_rtn", options);
    detail::require_not_empty("quantize_rtn", "W", w);
    detail::require_finite("quantize_rtn", "W", w);
    return detail::round_onto_grids(w, fit_grids(W, options), rounding);
}

/// The same for the searches that look at H, and with no say for the weights of dead columns, see `fit_grids`: they are rounded onto the
/// grids that the others make, to the nearest end if they are outside.
template <class Weights, class Gram>
    requires dense_matrix<const Gram>
[[nodiscard]] auto quantize_rtn(const Weights& W, const Gram& H, const grid_options& options) {
    const auto w = as_const_view(W);
    const auto h = as_const_view(H);
    using scalar = compute_t<typename decltype(w)::value_type>;
    validate(options);
    detail::require_layer("quantize_rtn", w, h);
    return detail::round_onto_grids(w, detail::fit_grids<scalar>(w, detail::live_gram(h, options.dead_threshold).view(), options),
                                    round_half_even{});
}

/// The same on grids that are given.
/// @par Errors    shape_error if the grids are not those of a rows x cols matrix or do not fit together; value_error if an entry of W is
///                NaN or infinite, or a grid is not usable (see `require_grids`)
template <class Weights, compute_scalar Scalar, class Rounding = round_half_even>
[[nodiscard]] auto quantize_rtn(const Weights& W, const weight_grids<Scalar>& grids, const Rounding& rounding = {}) {
    const auto w = as_const_view(W);
    static_assert(std::is_same_v<Scalar, compute_t<typename decltype(w)::value_type>>,
                  "magr: grids must be double for double weights, float for others");
    detail::require_not_empty("quantize_rtn", "W", w);
    require_grids("quantize_rtn", grids, w.rows(), w.cols());
    detail::require_finite("quantize_rtn", "W", w);
    return detail::round_onto_grids(w, grids, rounding);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
