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

/// Upper bound of the bytes that `preprocess` needs beyond W, H and the executor's own memory: one matrix of H's size in double, for each
/// worker five matrices of 96 rows and some blocks that stay in cache, at most 200 rows for the spectrum of H and its dominating
/// directions, and a report for each row. Calls that share a hessian add up, as it keeps what they derive from H.
///
/// @tparam T         storage type of W; that of H does not matter
/// @tparam Observer  type of the observer: if calling it may throw, the function keeps a copy of W
/// @param workers    `concurrency()` of the executor
/// @return           an upper bound. Most layers solve all rows in float (see `preprocess_result::rows_in_double`) and need half of the
///                   matrices; alpha = 0 solves nothing and needs less
/// @par Errors       shape_error (rows or cols < 1), option_error (as `preprocess`, workers < 1)
template <storage_scalar T, progress_observer Observer = ignore_progress>
[[nodiscard]] std::size_t workspace_bytes(index_t rows, index_t cols, const preprocess_options& options, index_t workers = 1) {
    const std::size_t bytes = detail::preprocess_bytes(rows, cols, options, workers);
    return detail::may_throw<Observer> ? bytes + static_cast<std::size_t>(rows * cols) * sizeof(T) : bytes;
}

/// MagR: reduces the largest magnitude of every row (or group) of a weight matrix, in place, while the layer's output changes little.
///
/// Solves for every row w of W, with w0 the row as passed in and H_d = (H + damping mean(diag H) I) / lambda_max(H),
///
///     min_w  1/2 (w - w0)^T H_d (w - w0) + alpha * ||w||_inf          (with groups: alpha * sum over groups of ||w_g||_inf)
///
/// Smaller ranges make finer grids: quantize the result instead of W. Calibrate H on the layer's own inputs.
///
/// @par Shapes    W: out x in, any dense matrix (in/out) · H: in x in, the Gram matrix X^T X of the inputs, any positive multiple
///                of it, or a `hessian`
/// @par Units     alpha: see `preprocess_options`; W keeps its unit
/// @param observer  called whenever some rows are done; may cancel (see `progress_observer`)
/// @param exec      runs the tiles of rows and the factorization (see `executor`); serial by default
/// @post          no row's objective, measured on the row as stored, is above its value at W0, however early the iteration ends. After
///                `stop_reason::converged` every row is within the tolerance of its own optimum
/// @par Errors    before W is written: shape_error (empty W, H not square or not in x in), value_error (NaN, Inf, asymmetric H, or a
///                negative diagonal entry), option_error. An exception of the observer passes through and leaves W unchanged. Reaching the
///                iteration limit is not an error: see `preprocess_result::stopped`
/// @par Cost      admm: in^3 / 2 multiply-adds for the matrix of the iteration and at most in^3 / 3 for a floor of H_d, which the bounds
///                need; then in^2 for every row and iteration, commonly 3-8, and as many to measure energies; finished rows cost nothing.
///                Rows of very different size share several such matrices, one at a time. `workspace_bytes` says what it allocates: mostly,
///                at 4096 inputs in float, a matrix of 64 MiB and 9.3 MiB for each worker
/// @par Numerics  arithmetic in float, or double for a double W. A row is solved in double if its energies cancel in float, as they do
///                where a direction of H dominates by more than about 50, or if its penalty is lost in float. Sums over blocks of a row are
///                in that type, across blocks in double. Without damping the gap may be a loose bound. A row gets the same bits for every
///                executor and whatever the other rows are
/// @par Dead inputs  weights of inputs with H_jj = 0 are not part of the problem, and these inputs do not enter the mean. Such weights are
///                   clipped to the largest magnitude of the other weights of their group, or stay unchanged if there are none. If H is
///                   zero, W stays unchanged
/// @par Source    arXiv 2406.00800, eq. (4) and Algorithm 1. We solve the same problem to a certified gap by ADMM, and damp H by default,
///                unlike the authors; `preprocess_solver::proximal_gradient` without further options is their iteration
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
