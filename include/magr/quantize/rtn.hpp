// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>

#include <magr/detail/contract.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/quantize/fit_grid.hpp>
#include <magr/quantize/grid.hpp>
#include <magr/quantize/quantized_matrix.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {
/// Rounds every weight to the nearest point of its grid.
///
/// code = clamp(round(w / scale) + zero, 0, 2^bits - 1) with the grids of `fit_grid`.
///
/// @par Shapes    W: rows x cols, any storage and layout; not written
/// @return        codes and grids; scales are float, or double for double weights
/// @par Cost      O(rows * cols) for min_max; allocates the result and one row
/// @par Numerics  half-way cases round to even
/// @par Errors    option_error; shape_error if W is empty; value_error if an entry is NaN or infinite
template <class Weights>
[[nodiscard]] auto quantize_rtn(const Weights& W, const grid_options& options = {}) {
    const auto w = as_const_view(W);
    using scalar = compute_t<typename decltype(w)::value_type>;
    validate(options);
    detail::require_not_empty("quantize_rtn", "W", w);
    detail::require_finite("quantize_rtn", "W", w);

    auto q = detail::make_quantized_matrix<scalar>(w.rows(), w.cols(), options);
    detail::fit_grids(w, options, q);
    const auto largest = static_cast<scalar>(largest_code(options.bits));
    for (index_t i = 0; i < w.rows(); ++i)
        for (index_t j = 0; j < w.cols(); ++j) {
            const index_t group = q.group_of_column[static_cast<std::size_t>(j)];
            const scalar zero = q.zeros(i, group);
            q.codes(i, j) =
                static_cast<std::uint8_t>(steps_on_grid(static_cast<scalar>(w(i, j)), q.scales(i, group), zero, largest, i, j) + zero);
        }
    return q;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
