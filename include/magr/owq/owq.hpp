// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include <magr/calibration/hessian.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/grid/grid.hpp>
#include <magr/grid/storage_type.hpp>
#include <magr/grid/weight_grids.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/owq/owq_budget.hpp>
#include <magr/owq/owq_result.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/quantize/optq_options.hpp>

namespace magr {

/// Options of `quantize_owq`.
struct owq_options {
    index_t weak_columns = 0;                       ///< k, in 0..cols: columns that are kept; `owq_weak_columns` computes it from a budget
    storage_type weak_storage = storage_type::f16;  ///< of the weights in these columns
    grid_options grid = {};                         ///< of all others: zero point none, middle or integer, without levels
    /// If set, the scale and zero point of a grid are the best among all pairs of this many scales, at least 1, and every zero point, by
    /// the sum of |error|^grid.error_exponent; at most 40 scales for groups and for the selection, as published. A candidate whose error is
    /// soon too large costs little; all together take some 20 passes over W for 3 bits. If not set, `grid.range` decides.
    std::optional<index_t> clips = 100;
    optq_options optq = {};  ///< of the quantization: groups must be fixed, order natural or act_order
};

inline namespace MAGR_ISA_NAMESPACE {

/// Every problem of these options; empty if there is none.
[[nodiscard]] MAGR_CORE std::vector<std::string> problems(const owq_options& options);

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Columns in the order in which they are worth more bits.
struct owq_ranking {
    std::vector<double> sensitivity;  ///< by column
    std::vector<index_t> order;       ///< the most sensitive first, lower indices first among equals; dead columns last
};

template <compute_scalar Scalar>
[[nodiscard]] owq_ranking run_owq_ranking(const char* function, const matrix_ref& W, const gram_argument& H, const owq_options& options,
                                          executor_ref exec);
template <compute_scalar Scalar>
[[nodiscard]] owq_ranking run_owq_ranking(const char* function, const matrix_ref& W, const gram_argument& H,
                                          const weight_grids<Scalar>& grids, executor_ref exec);
template <compute_scalar Scalar>
[[nodiscard]] owq_result<Scalar> run_owq(const matrix_ref& W, const gram_argument& H, const owq_options& options, executor_ref exec);

/// The first k of the ranking, ascending.
/// @par Errors    option_error
[[nodiscard]] MAGR_CORE std::vector<index_t> most_sensitive(const char* function, const owq_ranking& ranking, index_t k);

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// What rounding each column to nearest costs at the output of the layer, if nothing compensates for it:
///
///   sensitivity_j = H_jj ||W_j - Q_j||^2       Q: W rounded to nearest, on grids of whole rows
///
/// @par Shapes    W: rows x cols, any storage and layout; H: cols x cols, or a `hessian`
/// @return        cols numbers; 0 for dead columns, whose weights affect no grid
/// @par Units     of H times that of W squared
/// @par Cost      that of the grids, and O(rows * cols); allocates codes and weights once
/// @par Numerics  in double; columns are ranked before a number can overflow
/// @par Errors    option_error; shape_error; value_error if an entry is NaN or infinite, or H is not a Gram matrix. All before any work
/// @par Source    OWQ (arXiv 2306.02272)
template <class Weights, class Gram>
    requires gram_like<Gram>
[[nodiscard]] std::vector<double> owq_sensitivity(const Weights& W, const Gram& H, const owq_options& options, executor_ref exec = {}) {
    const auto w = as_const_view(W);
    using scalar = compute_t<typename decltype(w)::value_type>;
    return detail::run_owq_ranking<scalar>("owq_sensitivity", w, detail::as_gram(H), options, exec).sensitivity;
}

/// The same on given grids.
/// @par Errors    also those of `require_grids`
template <class Weights, class Gram, compute_scalar Scalar>
    requires gram_like<Gram>
[[nodiscard]] std::vector<double> owq_sensitivity(const Weights& W, const Gram& H, const weight_grids<Scalar>& grids,
                                                  executor_ref exec = {}) {
    const auto w = as_const_view(W);
    static_assert(std::is_same_v<Scalar, compute_t<typename decltype(w)::value_type>>,
                  "magr: grids must be double for double weights, float for others");
    return detail::run_owq_ranking<Scalar>("owq_sensitivity", w, detail::as_gram(H), grids, exec).sensitivity;
}

/// The `options.weak_columns` most sensitive columns, ascending: those that `quantize_owq` keeps. Lower indices win among equals, and dead
/// columns are taken only if there are not enough others.
/// @par Errors    as `owq_sensitivity`
template <class Weights, class Gram>
    requires gram_like<Gram>
[[nodiscard]] std::vector<index_t> owq_select(const Weights& W, const Gram& H, const owq_options& options, executor_ref exec = {}) {
    const auto w = as_const_view(W);
    using scalar = compute_t<typename decltype(w)::value_type>;
    return detail::most_sensitive("owq_select", detail::run_owq_ranking<scalar>("owq_select", w, detail::as_gram(H), options, exec),
                                  options.weak_columns);
}

/// The k most sensitive columns on given grids.
template <class Weights, class Gram, compute_scalar Scalar>
    requires gram_like<Gram>
[[nodiscard]] std::vector<index_t> owq_select(const Weights& W, const Gram& H, const weight_grids<Scalar>& grids, index_t k,
                                              executor_ref exec = {}) {
    const auto w = as_const_view(W);
    static_assert(std::is_same_v<Scalar, compute_t<typename decltype(w)::value_type>>,
                  "magr: grids must be double for double weights, float for others");
    return detail::most_sensitive("owq_select", detail::run_owq_ranking<Scalar>("owq_select", w, detail::as_gram(H), grids, exec), k);
}

/// Quantizes a weight matrix but for its k most sensitive columns, the weak ones, which stay numbers of 16 bits.
///
/// The other columns are quantized by OPTQ, on grids that no weak column affects, and hand on their errors. Weak columns come last, so they
/// end at the least-squares optimum given all codes, and are then rounded to `weak_storage`:
///
///   Q_w = W_w - (Q - W)_q H_qw H_ww^-1       w: weak columns, q: all others; H damped as in OPTQ, over all columns
///
/// With act_order the other columns are processed by decreasing sensitivity. Groups are formed of the columns of W, and each is fitted
/// without its weak columns. Without weak columns this is `quantize_optq` with the same grids.
///
/// @par Shapes    W: rows x cols, any storage and layout; H: cols x cols, X^T X up to a positive factor, or a `hessian`
/// @return        codes, grids and weak columns, with a report. There is no silent fallback: `status` reports any substitution
/// @par Cost      that of the grids, twice if there are weak columns, and rows * cols^2 / 2 multiply-adds in Scalar, cols^3 / 6 for the
///                factor of H, which depends on the order of W's columns, so that layers cannot share it; rows * cols^2 in double for
///                `measure_error`. Allocates T one and a half times, codes and grids twice, and 256 rows for each worker
/// @par Numerics  as `quantize_optq`; the same bits for every executor
/// @par Errors    option_error; shape_error; value_error if an entry is NaN or infinite, or H is not a Gram matrix. All before any work
/// @par Source    OWQ (arXiv 2306.02272). Differs from the published code: groups consist of neighbouring columns in every order; dead
///                columns take no part in grids, in the mean of diag(H), or in the selection
template <class Weights, class Gram>
    requires gram_like<Gram>
[[nodiscard]] auto quantize_owq(const Weights& W, const Gram& H, const owq_options& options = {}, executor_ref exec = {}) {
    const auto w = as_const_view(W);
    return detail::run_owq<compute_t<typename decltype(w)::value_type>>(w, detail::as_gram(H), options, exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/owq/owq_impl.hpp>
#endif
