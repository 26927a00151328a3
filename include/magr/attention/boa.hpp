// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <type_traits>
#include <vector>

#include <magr/attention/boa_options.hpp>
#include <magr/attention/boa_result.hpp>
#include <magr/calibration/hessian.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/grid/grid.hpp>
#include <magr/grid/weight_grids.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr {
namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar Scalar>
[[nodiscard]] boa_result<Scalar> run_boa(const matrix_ref& W, const gram_argument& H, std::span<const matrix_ref> H_rows,
                                         const grid_options& grid, const boa_options& options, executor_ref exec);
template <compute_scalar Scalar>
[[nodiscard]] boa_result<Scalar> run_boa(const matrix_ref& W, const gram_argument& H, std::span<const matrix_ref> H_rows,
                                         const weight_grids<Scalar>& grids, const boa_options& options, executor_ref exec);

/// One row Hessian, or several in a container.
template <class Rows>
[[nodiscard]] std::vector<matrix_ref> row_hessians(const Rows& H_rows) {
    std::vector<matrix_ref> all;
    if constexpr (requires { requires dense_matrix<const typename Rows::value_type>; })
        for (const auto& H_row : H_rows) all.emplace_back(as_const_view(H_row));
    else
        all.emplace_back(as_const_view(H_rows));
    return all;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// Quantizes the heads of a query or key projection so that attention scores change least. Errors are made up for by later columns of the
/// same row, as in OPTQ, and by later rows of the same head.
///
/// Approximately solves, for each head,
///
///   min_Q  tr(H_row (Q - W) H (Q - W)^T)     Q on the grids of `fit_grids`, both matrices damped
///
/// which is OPTQ on the rows of W in sequence, with the Hessian H_row (x) H that is never formed. With H_row = T D T^T, T unit upper
/// triangular, row r is OPTQ of
///
///   w_r + sum_{i < r} T_ir (w_i - q_i)
///
/// With `rows_per_step` > 1 blocks B of rows take the place of rows, T_{:,B} T_BB^-1 that of T, and the rows of a block are rounded
/// independently. With the identity as H_row, or a whole head in one step, it is OPTQ.
///
/// The layer drifted, because layers before it are quantized? Call `compensate_drift` with strength 1 and no damping first. The loss
/// towards the original outputs is that towards the changed weights, plus a number that does not depend on Q.
///
/// @par Shapes    W: (heads * head_size) x cols, heads one below the other; H: cols x cols, or a `hessian`; H_rows: head_size x head_size,
/// one
///                matrix or a container of several, each for as many consecutive heads. Any storage and layout, X^T X up to a positive
///                factor
/// @return        codes and grids, with a report. There is no silent fallback: `status` reports any substitution
/// @par Dead inputs  are rounded to nearest: no error in them counts. Dead rows, those with 0 in the diagonal of H_row, are rounded as by
/// OPTQ:
///                their errors count in no score, but they still pass them on along their columns
/// @par Cost      rows * cols * (cols + head_size) / 2 multiply-adds in Scalar and the factors: cols^3 / 6 and head_size^3 / 6 each. The
/// factor
///                of H is read once for each step and worker, because the rows of all heads in a step are rounded together; a single row of
///                a few heads is a small task, so a few rows per step are much faster. Scales cost rows * cols * (2 cols + 2 head_size) in
///                double, and 2 head_size more with every pass. It allocates T once and a half, W, codes and grids three times, twice the
///                rows of a step, and 256 rows per worker; for scales H in double, and 4 heads in double per worker
/// @par Numerics  weights and errors are Scalar: float, or double for double weights; row Hessians are factored in double. A positive
/// factor
///                of H or of a row Hessian gives the same codes unless a rounding error decides a tie. The same bits for every executor
/// @par Errors    option_error, also if scales of groups are to be refined; shape_error; value_error if an entry is NaN or infinite, or H
/// or
///                a row Hessian is not a Gram matrix. All before any work
/// @par Source    BoA (arXiv 2406.13474, algorithm and row Hessians) and TurboBoA (arXiv 2602.04929, blocks of rows and scales), computed
/// by
///                T instead of inverses; known to the author from descriptions. Differs from the published code: dead columns are rounded,
///                and affect neither damping nor grids; by default grids are min_max, where BoA searches with H:
///                `range_search::row_output_error`; grids of blocks are not fitted anew
template <class Weights, class Gram, class Rows>
auto quantize_boa(const Weights& W, const Gram& H, const Rows& H_rows, const grid_options& grid = {}, const boa_options& options = {},
                  executor_ref exec = {}) {
    const auto w = as_const_view(W);
    return detail::run_boa<compute_t<typename decltype(w)::value_type>>(w, detail::as_gram(H), detail::row_hessians(H_rows), grid, options,
                                                                        exec);
}

/// The same on given grids.
/// @par Errors    also those of `require_grids`
template <class Weights, class Gram, class Rows, compute_scalar Scalar>
auto quantize_boa(const Weights& W, const Gram& H, const Rows& H_rows, const weight_grids<Scalar>& grids, const boa_options& options = {},
                  executor_ref exec = {}) {
    const auto w = as_const_view(W);
    static_assert(std::is_same_v<Scalar, compute_t<typename decltype(w)::value_type>>,
                  "magr: grids must be double for double weights, float for others");
    return detail::run_boa<Scalar>(w, detail::as_gram(H), detail::row_hessians(H_rows), grids, options, exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/attention/boa_impl.hpp>
#endif
