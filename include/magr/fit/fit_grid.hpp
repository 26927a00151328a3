// SPDX-License-Identifier: MIT
#pragma once

#include <span>

#include <magr/calibration/hessian.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/grid/grid.hpp>
#include <magr/grid/weight_grids.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr {
namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// `fit_grids` for a function whose name errors give.
template <compute_scalar Scalar>
[[nodiscard]] weight_grids<Scalar> run_fit_grids(const char* function, const matrix_ref& W, const gram_argument& H,
                                                 const grid_options& options, executor_ref exec);
template <compute_scalar Scalar>
[[nodiscard]] weight_grids<Scalar> run_fit_grids(const char* function, const matrix_ref& W, const grid_options& options, executor_ref exec);

/// The same after all checks except one: that the options need no H.
/// @par Errors    option_error
template <compute_scalar Scalar>
[[nodiscard]] weight_grids<Scalar> fit_all(const char* function, const matrix_ref& w, const grid_options& options, executor_ref exec);

/// The same after all checks.
template <compute_scalar Scalar>
[[nodiscard]] weight_grids<Scalar> fit_all(const matrix_ref& w, const hessian& H, const grid_options& options, executor_ref exec);

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// Chooses the grid of one row, or of one group of a row.
///
/// With low = min(0, min w), high = max(0, max w) and L = 2^bits - 1:
///
///   integer      scale = (high - low) / L           zero = round(-low / scale)
///   none         scale = 2 max(high, -low) / L      zero = 2^(bits-1)
///   real         scale = (high - low) / L           zero = -low / scale        low = min w, high = max w
///   offset       scale = (high - low) / L           zero = low                 low = min w, high = max w
///   levels       scale = max(high / last level, low / first level)
///
/// and high = 1, low = -1 (0 for real and offset) if all weights are zero. Scale, real zero point and offset are rounded to the storage
/// type; the scale is rounded before anything is derived from it. `range_factor` multiplies the scale, and `shrink_towards` determines the
/// zero point that goes with it.
///
/// A search takes the grid with the least error among many candidates: the range times 1, 0.99, .. 0.21 about the weight 0 (an integer zero
/// point stays unchanged); if `joint`, then for up to 3 bits every zero point with 20 scales, or for real ones and offsets each end of the
/// range by itself; scales within 3% of the best; and four times the least-squares scale (and zero point) for the codes of the best.
///
/// @par Shapes    weights: n, contiguous; importance: n, >= 0, or empty for all the same (only for `output_error`). A search ignores
///                weights of importance 0, unless all have it
/// @par Units     scale: that of the weights; zero: codes, or that of the weights for an offset
/// @pre           validate(options) passes; range is not row_output_error; all weights finite; importance finite
/// @post          scale > 0; scale, real zero and offset are exact in the storage type; an integer zero is in 0..L
/// @par Cost      O(n) for min_max; a search takes 80 passes, joint about 90, or 175 (2 bits) and 255 (3 bits). Allocates a few times n
/// @par Numerics  range and scale are computed in double. Numbers that the storage type cannot hold are limited to its largest finite
///                number, or raised to `smallest_stored_scale`; so is a scale whose largest weight would overflow. `count_storage_limits`
///                counts such grids
/// @par Errors    none; checked entry points: magr::fit_grids, magr::quantize_rtn, magr::quantize_optq
/// @par Source    grid rules of OPTQ (arXiv 2210.17323) and MagR (arXiv 2406.00800), with differences. Zero is limited to 0..L: with
///                range_factor < 1 and weights of one sign the published rule leaves the range of codes. A grid without zero point keeps
///                its range symmetric when no weight is negative, where the published rule clips more than half of it. `shrink` with
///                error_exponent 2.4 is the published search. Joint searches follow OWQ (arXiv 2306.02272), but coarse to fine
template <compute_scalar Scalar>
[[nodiscard]] affine_grid<Scalar> fit_grid(std::span<const Scalar> weights, const grid_options& options,
                                           std::span<const double> importance = {});

/// Chooses the grids of a weight matrix: `fit_grid` for each group of columns of each row.
///
/// The result can be used later: `quantize_rtn(W, grids)`, `quantize_optq(W, H, grids)`, also for other weights than those it was fitted
/// to.
///
/// Weights of dead columns, H_jj <= dead_threshold * mean, are ignored: the grid of a group depends only on its other weights, with every
/// search. If all columns of a group are dead, the grid fits their weights, because there are no others.
///
/// @par Shapes    W: rows x cols, any storage and layout; H: cols x cols, or a `hessian`
/// @return        the grids, rounded to the storage type
/// @par Cost      that of `fit_grid` for each group; row_output_error: a product of W with the group's block of H for each of its passes
/// @par Errors    option_error; shape_error; value_error if an entry is NaN or infinite, or H is not a Gram matrix. All before any work
template <class Weights, class Gram>
    requires gram_like<Gram>
[[nodiscard]] auto fit_grids(const Weights& W, const Gram& H, const grid_options& options, executor_ref exec = {}) {
    const auto w = as_const_view(W);
    return detail::run_fit_grids<compute_t<typename decltype(w)::value_type>>("fit_grids", w, detail::as_gram(H), options, exec);
}

/// The same for searches that need no H.
template <class Weights>
[[nodiscard]] auto fit_grids(const Weights& W, const grid_options& options = {}, executor_ref exec = {}) {
    const auto w = as_const_view(W);
    return detail::run_fit_grids<compute_t<typename decltype(w)::value_type>>("fit_grids", w, options, exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/fit/fit_grid_impl.hpp>
#endif
