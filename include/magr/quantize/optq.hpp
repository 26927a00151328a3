// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <type_traits>

#include <magr/matrix/dense_matrix.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/quantize/grid.hpp>
#include <magr/quantize/optq_core.hpp>
#include <magr/quantize/optq_options.hpp>
#include <magr/quantize/optq_result.hpp>
#include <magr/quantize/weight_grids.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

/// Bytes that `quantize_optq` needs at its peak, its result among them, beyond W, H and what the executor allocates itself.
///
/// Two peaks compete: factoring H, with T and one more matrix of H's size, and quantizing, with T twice (the second time half of it), codes
/// and grids twice, and 256 rows per worker.
///
/// @tparam T         storage type of W; that of H does not matter
/// @param workers    `concurrency()` of the executor
/// @return           at least the bytes, and within 1% where no column is dead and no threshold asked for, if the first attempt to factor H
///                   succeeds: `factor_precision::automatic` goes on in double where it does not, with a matrix of cols x cols doubles in
///                   the place of floats. `dead_columns::zero` counts as if there were some (a copy of W), a `dead_threshold` as if it
///                   found some (a copy of H, taken for double, and with `measure_error` the weights and H once more). Not counted is what
///                   a search for ranges needs, some rows of a group (for `row_output_error` the blocks of H on the diagonal, too)
/// @par Errors       shape_error (rows or cols < 1), option_error (as `quantize_optq`, workers < 1)
template <storage_scalar T>
[[nodiscard]] std::size_t workspace_bytes(index_t rows, index_t cols, const grid_options& grid, const optq_options& options,
                                          index_t workers = 1) {
    const std::size_t copy = sizeof(T) == 2 ? static_cast<std::size_t>(rows * cols) * sizeof(float) : 0;  // 16-bit weights in float
    return copy + detail::optq_bytes<compute_t<T>>(rows, cols, grid, options, workers);
}

/// Quantizes a weight matrix column by column, each column making up for the output error of those before it.
///
/// Approximately solves, row by row,
///
///   min_Q  tr((Q - W) (H + diag(added)) (Q - W)^T)     Q on the grids of `fit_grids`, added = damping * mean(diag H)
///
/// by rounding the columns in `order`; in each step the columns still to come are the least-squares optimum given those already rounded.
///
/// @par Shapes    W: rows x cols, any storage and layout; H: cols x cols, any storage and layout, X^T X up to a positive factor;
///                neither is written
/// @return        codes and grids, and how it went; look at `status`: nothing is ever put in the place of what was asked for without
///                saying so
/// @par Cost      rows * cols^2 multiply-adds in Scalar (half of them for `measure_error`) and cols^3 / 6 for the factor of H; live and
///                stale groups that reach beyond their block add rows * cols^2 / 2. `workspace_bytes` says what it allocates. The tasks of
///                `exec` are 256 rows each, for grids 32
/// @par Numerics  weights and errors are Scalar: float, or double for double weights; `precision` is that of the factor of H. H times a
/// positive factor gives the
///                same codes as long as no rounding error decides a tie. `loss` is what the rounding errors sum up to, and
///                `output_error` is derived from it: it agrees with magr::output_error to about the precision of Scalar. The same bits
///                for every executor
/// @par Errors    option_error; shape_error; value_error if an entry is NaN or infinite, or H is not a Gram matrix. All before any work
/// @par Source    E. Frantar et al., OPTQ (arXiv 2210.17323), computed as LDLQ (QuIP, arXiv 2307.13304). Differs from the published code:
///                no inverse of H; dead columns are rounded unless told otherwise, and enter neither the mean of diag(H) nor the ranges of
///                grids; groups are `fixed` unless told otherwise
template <class Weights, class Gram>
auto quantize_optq(const Weights& W, const Gram& H, const grid_options& grid = {}, const optq_options& options = {},
                   executor_ref exec = {}) {
    const auto w = as_const_view(W);
    return detail::run_optq<compute_t<typename decltype(w)::value_type>>(w, detail::as_gram(H), grid, options, exec);
}

/// The same on grids that are given: those of another matrix (of MagR's weights, while W are the original ones), of a file format, or
/// one's own.
///
/// @par Errors    also those of `require_grids`; option_error if `groups` is not fixed
template <class Weights, class Gram, compute_scalar Scalar>
auto quantize_optq(const Weights& W, const Gram& H, const weight_grids<Scalar>& grids, const optq_options& options = {},
                   executor_ref exec = {}) {
    const auto w = as_const_view(W);
    static_assert(std::is_same_v<Scalar, compute_t<typename decltype(w)::value_type>>,
                  "magr: grids must be double for double weights, float for others");
    return detail::run_optq<Scalar>(w, detail::as_gram(H), grids, options, exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
