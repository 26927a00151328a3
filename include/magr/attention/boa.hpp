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
/// by OPTQ with the Hessian H_row (x) H of all weights of the head, which is never formed. With H_row = T D T^T, T unit upper triangular,
/// row r is rounded as by OPTQ with H from
///
///   w_r + sum_{i < r} T_ir (w_i - q_i)
///
/// `rows_per_step` takes blocks B of rows instead of rows, and T_{:,B} T_BB^-1 instead of T: rows of a block do not make up for each
/// other, later blocks do. With H_row = I, or a whole head in one step, this is OPTQ.
///
/// `scale_passes` then changes scales, but no code, row after row: with c the steps of the codes of row j,
///
///   s_j <- s_j - c H (Q - W)^T H_row,:j / (H_row,jj c H c^T)        the minimiser over this scale alone
///
/// A change is kept only if it lowers the loss, and passes end early when one gains less than 1e-12 of it.
///
/// If the inputs have drifted because layers in front are quantized, call `compensate_drift` with fraction 1 and no damping first. The loss
/// towards the original scores is that towards the changed weights, plus a number that does not depend on Q.
///
/// @par Shapes    W: (heads * head_size) x cols, heads one below the other; H: cols x cols, or a `hessian`; H_rows: one matrix or a
///                container of matrices, head_size x head_size, each for as many consecutive heads. Any storage and layout; H and each
///                matrix of H_rows up to a positive factor
/// @return        codes and grids, with a report. There is no silent fallback: `status` reports any substitution
/// @par Dead inputs  are rounded to nearest, because errors in them cost nothing. Dead rows, those with 0 in the diagonal of H_row, neither
///                make up for other rows nor are made up for: they are rounded as by OPTQ
/// @par Cost      rows * cols * (cols + head_size) / 2 multiply-adds in Scalar, and cols^3 / 6 and head_size^3 / 6 for each factor. The
///                factor of H is read once in each step by each worker, for all heads together; steps of few rows are slow because of
///                that. Scales add rows * cols * (2 cols + head_size) in double, and 2 rows * cols * head_size for each pass. Allocates T
///                one and a half times, W, codes and grids three times, the rows of a step twice and 256 rows per worker; for scales also
///                H twice and a head four times per worker in double
/// @par Numerics  weights and errors are Scalar: float, or double for double weights; row Hessians are factored in double. A positive
///                factor of H or H_row gives the same codes unless a rounding error decides a tie. The same bits for every executor
/// @par Errors    option_error, also if scales are to be refined and a row has several; shape_error; value_error if an entry is NaN or
///                infinite, or H or a row Hessian is not a Gram matrix. All before any work
/// @par Source    BoA (arXiv 2406.13474); blocks and scales: TurboBoA (arXiv 2602.04929). Derived for this library from their objective,
///                and not compared with their code. Differs from what is published: no inverses; dead columns are rounded, and affect
///                neither damping nor grids; grids are min_max unless asked for (`row_output_error` is BoA's search); blocks keep theirs
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
