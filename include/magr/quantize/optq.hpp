// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <type_traits>

#include <magr/grid/grid.hpp>
#include <magr/grid/weight_grids.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/quantize/optq_core.hpp>
#include <magr/quantize/optq_options.hpp>
#include <magr/quantize/optq_result.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

/// The peak number of bytes of `quantize_optq`, including its result, beyond W, H and the executor's own memory.
///
/// There are two candidates for the peak. Factoring H needs T and one more matrix of H's size. Quantizing needs T twice (the second time
/// half of it), codes and grids twice, and 256 rows per worker, or a few times as many columns of a group with live or stale groups.
/// Calls that share a hessian add up, as it keeps what they derive from H.
///
/// @tparam T         storage type of W; that of H does not matter
/// @param workers    `concurrency()` of the executor
/// @return           an upper bound, if the first attempt to factor H succeeds. If it fails, `factor_precision::automatic` continues in
///                   double, with a matrix of cols x cols doubles instead of floats, which the bound does not count. Without dead columns
///                   and thresholds it is within 1% of the peak. It assumes that `dead_columns::zero` and a `dead_threshold` find dead
///                   columns: the former adds a copy of W, the latter a copy of H, counted in double, and with `measure_error` the weights
///                   and H once more. It does not count the memory of a search for ranges: some rows of a group (for `row_output_error`
///                   also the blocks of H on the diagonal)
/// @par Errors       shape_error (rows or cols < 1), option_error (as `quantize_optq`, workers < 1)
template <storage_scalar T>
[[nodiscard]] std::size_t workspace_bytes(index_t rows, index_t cols, const grid_options& grid, const optq_options& options,
                                          index_t workers = 1) {
    const std::size_t copy = sizeof(T) == 2 ? static_cast<std::size_t>(rows * cols) * sizeof(float) : 0;  // 16-bit weights in float
    return copy + detail::optq_bytes<compute_t<T>>(rows, cols, grid, options, workers);
}

/// Quantizes a weight matrix column by column. Each column compensates for the output error of those before it.
///
/// Approximately solves, row by row,
///
///   min_Q  tr((Q - W) (H + diag(added)) (Q - W)^T)     Q on the grids of `fit_grids`, added = damping * mean(diag H)
///
/// by rounding the columns in `order`. After each step the remaining columns are the least-squares optimum given those already rounded.
///
/// @par Shapes    W: rows x cols, any storage and layout; H: cols x cols, any storage and layout, X^T X up to a positive factor, or a
///                `hessian`; neither is written
/// @return        codes and grids, with a report. There is no silent fallback: `status` reports any substitution
/// @par Cost      rows * cols^2 multiply-adds in Scalar (half of them for `measure_error`) and cols^3 / 6 for the factor of H; live and
///                stale groups that reach beyond their block add rows * cols^2 / 2. `workspace_bytes` says what it allocates. The tasks of
///                `exec` are 256 rows each, for grids 32
/// @par Numerics  weights and errors are Scalar: float, or double for double weights; `precision` is that of the factor of H. H times a
///                positive factor gives the same codes unless a rounding error decides a tie. `loss` is the sum of the rounding errors, and
///                `output_error` is derived from it: it agrees with magr::output_error to about the precision of Scalar. The same bits for
///                every executor
/// @par Errors    option_error; shape_error; value_error if an entry is NaN or infinite, or H is not a Gram matrix. All before any work
/// @par Source    E. Frantar et al., OPTQ (arXiv 2210.17323), computed as LDLQ (QuIP, arXiv 2307.13304). Differs from the published code:
///                no inverse of H; by default dead columns are rounded, and they affect neither the mean of diag(H) nor the ranges of
///                grids; by default groups are `fixed`
template <class Weights, class Gram>
auto quantize_optq(const Weights& W, const Gram& H, const grid_options& grid = {}, const optq_options& options = {},
                   executor_ref exec = {}) {
    const auto w = as_const_view(W);
    return detail::run_optq<compute_t<typename decltype(w)::value_type>>(w, detail::as_gram(H), grid, options, exec);
}

/// The same on given grids: those of another matrix (of MagR's weights, while W holds the original ones), of a file format, or your own.
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
