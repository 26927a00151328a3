// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <type_traits>

#include <magr/detail/rollback.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/preprocess/core.hpp>
#include <magr/preprocess/observer.hpp>
#include <magr/preprocess/options.hpp>
#include <magr/preprocess/result.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

/// Bytes that `preprocess` needs at most, beyond W, H and what the executor allocates itself: one matrix of H's size in double, for each
/// worker five matrices of 96 rows and some blocks that stay in cache, at most 200 rows for the spectrum of H and its dominating
/// directions, and a report for each row.
///
/// @tparam T         storage type of W; that of H does not matter
/// @tparam Observer  type of the observer: if calling it may throw, a copy of W is kept
/// @param workers    `concurrency()` of the executor
/// @return           an upper bound. Layers whose rows are all solved in float, as most are (see `preprocess_result::rows_in_double`), need
///                   half of the matrices; with alpha = 0, where nothing is solved, less is needed
/// @par Errors       shape_error (rows or cols < 1), option_error (as `preprocess`, workers < 1)
template <storage_scalar T, progress_observer Observer = ignore_progress>
[[nodiscard]] std::size_t workspace_bytes(index_t rows, index_t cols, const preprocess_options& options, index_t workers = 1) {
    const std::size_t bytes = detail::preprocess_bytes(rows, cols, options, workers);
    return detail::may_throw<Observer> ? bytes + static_cast<std::size_t>(rows * cols) * sizeof(T) : bytes;
}

/// MagR: reduces the largest magnitude of every row (or group) of a weight matrix while its layer's output changes little, in place.
///
/// Solves for every row w of W, with w0 the row as passed in and H_d = (H + damping mean(diag H) I) / lambda_max(H),
///
///     min_w  1/2 (w - w0)^T H_d (w - w0) + alpha * ||w||_inf          (with groups: alpha * sum over groups of ||w_g||_inf)
///
/// Smaller ranges make finer grids: quantize the result in place of W. Calibrate H on the layer's own inputs.
///
/// @par Shapes    W: out x in, any dense matrix (in/out) · H: in x in, the Gram matrix X^T X of the inputs, any positive multiple of it
/// @par Units     alpha: see `preprocess_options`; W keeps its unit
/// @param observer  called when some rows are done, may cancel (see `progress_observer`)
/// @param exec      what runs the tiles of rows and the factorization (see `executor`); serial by default
/// @pre           W and H do not overlap in memory
/// @post          no row's objective, of the row as it is stored, is above its value at W0, however early the iteration ended. A row that
///                `stop_reason::converged` speaks of is within the tolerance of its own optimum
/// @par Errors    before W is written: shape_error (empty W, H not square or not in x in), value_error (NaN, Inf, asymmetric H, or a
///                negative diagonal entry), option_error. What an observer throws passes through and leaves W as it was. That the
///                iteration limit came first is no error: see `preprocess_result::stopped`
/// @par Cost      admm: in^3 / 2 multiply-adds for the matrix of the iteration and at most in^3 / 3 for a floor of H_d, which bounds are
///                made of; then in^2 for every row and iteration, commonly 3-8, and as many for measuring energies; a row that is done is
///                left alone. Rows of very different size share several such matrices,
///                one at a time. `workspace_bytes` says what it allocates: mostly, at 4096 inputs in float, a matrix of 64 MiB and 9.3 MiB
///                for each worker
/// @par Numerics  arithmetic in float, or double for a double W; rows whose energies cancel in float, as they do where a direction of H
///                dominates by more than about 50, or whose penalty is lost in it, are solved in double. Sums over blocks of a row in that
///                type, across them in double. Without damping the gap may be a loose bound. A row gets the same bits whatever executes it
///                and whatever the other rows are
/// @par Dead inputs  weights that meet an input with H_jj = 0 take no part, nor do these inputs in the mean; they are clipped to the
/// largest magnitude of the others in
///                their group, or stay as they are where there is no other. If H is zero, W stays as it is
/// @par Source    arXiv 2406.00800, eq. (4) and Algorithm 1. We solve the same problem to a certified gap by ADMM, and damp H by default,
///                which the authors do not; `solver::proximal_gradient` without further options is their iteration
template <class Weights, class Gram, progress_observer Observer = ignore_progress>
preprocess_result preprocess(Weights&& W, const Gram& H, const preprocess_options& options = {}, Observer&& observer = {},
                             executor_ref exec = {}) {
    const auto weights = as_mutable_view(W);
    const auto gram = detail::as_gram(H);
    if constexpr (std::is_same_v<std::remove_cvref_t<Observer>, ignore_progress>) {
        return detail::run_preprocess(weights, gram, options, {}, exec);
    } else {
        const auto tell = [&observer](const preprocess_progress& progress) { return detail::notify(observer, progress); };
        const detail::observer_ref told(tell);
        if constexpr (!detail::may_throw<Observer>) {
            return detail::run_preprocess(weights, gram, options, told, exec);
        } else {
            detail::rollback undo(weights);
            const preprocess_result result = detail::run_preprocess(weights, gram, options, told, exec);
            undo.keep();
            return result;
        }
    }
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
