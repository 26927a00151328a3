// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <magr/detail/contract.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/quantize/fit_grid.hpp>
#include <magr/quantize/quantized_matrix.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {
namespace detail {

/// An empty quantized matrix with groups in the order of the columns.
template <compute_scalar Scalar>
[[nodiscard]] quantized_matrix<Scalar> make_quantized_matrix(index_t rows, index_t cols, const grid_options& options) {
    const index_t groups = groups_per_row(options, cols);
    quantized_matrix<Scalar> q{options.bits, columns_per_group(options, cols), {rows, cols}, {rows, groups}, {rows, groups}, {}};
    q.group_of_column.resize(static_cast<std::size_t>(cols));
    for (index_t j = 0; j < cols; ++j) q.group_of_column[static_cast<std::size_t>(j)] = j / q.group_size;
    return q;
}

/// Fits all grids, group by group in the order of the columns; `visit(i, row)` sees each row of W in Scalar on the way.
template <compute_scalar Scalar, class T, class Visitor>
void fit_rows(matrix_view<T> w, const grid_options& options, quantized_matrix<Scalar>& q, Visitor&& visit) {
    std::vector<Scalar> row(static_cast<std::size_t>(w.cols()));
    const auto width = static_cast<std::size_t>(q.group_size);
    for (index_t i = 0; i < w.rows(); ++i) {
        for (index_t j = 0; j < w.cols(); ++j) row[static_cast<std::size_t>(j)] = static_cast<Scalar>(w(i, j));
        for (index_t g = 0; g < q.scales.cols(); ++g) {
            const std::size_t first = static_cast<std::size_t>(g) * width;
            const auto grid = fit_grid(std::span<const Scalar>(row).subspan(first, std::min(width, row.size() - first)), options);
            q.scales(i, g) = grid.scale;
            q.zeros(i, g) = grid.zero;
        }
        visit(i, std::span<const Scalar>(row));
    }
}

}  // namespace detail

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
    const auto largest = static_cast<scalar>(largest_code(options.bits));
    std::vector<scalar> row(static_cast<std::size_t>(w.cols()));
    for (index_t i = 0; i < w.rows(); ++i) {
        detail::load_row<scalar>(w, i, row);
        detail::fit_row<scalar>(row, i, options, q);
        for (index_t j = 0; j < w.cols(); ++j) {
            const index_t g = j / q.group_size;
            const scalar zero = q.zeros(i, g);
            q.codes(i, j) = static_cast<std::uint8_t>(steps_on_grid(row[static_cast<std::size_t>(j)], q.scales(i, g), zero, largest, i, j) + zero);
        }
    }
    return q;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
