// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <cstddef>
#include <optional>

#include <magr/calibration/gram.hpp>
#include <magr/calibration/hessian.hpp>
#include <magr/layer/core.hpp>
#include <magr/layer/options.hpp>
#include <magr/layer/result.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/preprocess.hpp>
#include <magr/quantize.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

/// Upper bound of the bytes that `quantize_layer` needs, including its result, beyond W, H and the executor's own memory.
///
/// @tparam T       storage type of W; that of H does not matter
/// @param workers  `concurrency()` of the executor
/// @return         an upper bound if H is a matrix and OPTQ's first attempt to factor it succeeds (see `workspace_bytes` of
///                 `quantize_optq`). For an accumulator add its Gram matrix; a hessian keeps what the steps of all calls derive from H, so
///                 add them up. The memory of a search for ranges is not counted
/// @par Errors     shape_error (rows or cols < 1), option_error (as `quantize_layer`, workers < 1)
template <storage_scalar T, std::same_as<layer_options> Options>
[[nodiscard]] std::size_t workspace_bytes(index_t rows, index_t cols, const Options& options, index_t workers = 1) {
    const std::size_t copy = sizeof(T) == 2 ? static_cast<std::size_t>(rows * cols) * sizeof(float) : 0;  // 16-bit weights in float
    return copy + detail::layer_bytes<compute_t<T>>(rows, cols, options, workers);
}

/// Quantizes the weights of one layer: MagR, grids, codes, refinement, and a report of what each did.
///
/// W' = preprocess(W);  grids = fit_grids(W');  Q = quantize_optq or quantize_rtn(W', grids);  refine_scales and refine_codes(Q, W)
///
/// Each step runs if the options ask for it. Weights of dead columns affect nothing: MagR does not see them, they get the grids of the
/// other weights of their groups, and their errors do not count. They are then rounded, or set to zero. H may be zero, if all inputs are
/// dead; then MagR is skipped and grids are fitted to the weights. There is no silent fallback: `status` reports any substitution, and
/// `optq.on_failure = factor_fallback::none` forbids all of them.
///
/// @par Shapes    W: rows x cols, any storage and layout; H: cols x cols, any storage and layout, or a `hessian`; neither is written
/// @param exec    runs all steps; a `watched_executor` sees and cancels each of them
/// @return        codes and grids with a report; check `status`
/// @par Cost      the sum of its steps, and for the report one product of rows * cols^2 / 2 multiply-adds in double, after MagR another;
///                `measure_rtn` and `optq.measure_error` add to it. `workspace_bytes` says what it allocates
/// @par Numerics  those of its steps; the same bits for every executor; 16-bit weights are preprocessed in float and not rounded back
///                before they are quantized
/// @par Errors    option_error, with every problem of all options; shape_error; value_error if an entry is NaN or infinite, or H is not a
///                Gram matrix. All before any work
template <class Weights, class Gram>
    requires gram_like<Gram>
auto quantize_layer(const Weights& W, const Gram& H, const layer_options& options = {}, executor_ref exec = {}) {
    const auto w = as_const_view(W);
    return detail::run_layer<compute_t<typename decltype(w)::value_type>>(w, detail::as_gram(H), "H", detail::tokens_of(H), options, exec);
}

/// The same with the Gram matrix of an accumulator; the report then includes its number of tokens.
/// @par Errors    also value_error if the accumulator has seen no token
template <class Weights, compute_scalar Sum>
auto quantize_layer(const Weights& W, const gram_accumulator<Sum>& calibration, const layer_options& options = {}, executor_ref exec = {}) {
    const auto w = as_const_view(W);
    const matrix<Sum> gram = calibration.gram(exec);
    return detail::run_layer<compute_t<typename decltype(w)::value_type>>(w, gram.view(), "calibration", calibration.tokens(), options,
                                                                          exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
