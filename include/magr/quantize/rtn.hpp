// SPDX-License-Identifier: MIT
#pragma once

#include <type_traits>
#include <utility>

#include <magr/calibration/hessian.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/fit/fit_grid.hpp>
#include <magr/grid/quantized_matrix.hpp>
#include <magr/grid/round_onto_grids.hpp>
#include <magr/grid/rounding.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr {
namespace detail {

/// Whether it rounds in one of the arithmetic types.
template <class Rounding>
inline constexpr bool is_rounding = rounding_policy<Rounding, float> || rounding_policy<Rounding, double>;

inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar Scalar>
[[nodiscard]] quantized_matrix<Scalar> run_rtn(const matrix_ref& W, const grid_options& options, executor_ref exec);
template <compute_scalar Scalar>
[[nodiscard]] quantized_matrix<Scalar> run_rtn(const matrix_ref& W, const gram_argument& H, const grid_options& options, executor_ref exec);
template <compute_scalar Scalar>
[[nodiscard]] quantized_matrix<Scalar> run_rtn(const matrix_ref& W, const weight_grids<Scalar>& grids, executor_ref exec);

template <compute_scalar Scalar>
void require_roundable(const matrix_ref& W, const weight_grids<Scalar>& grids, executor_ref exec);

/// Rounds weights of any storage type.
template <compute_scalar Scalar, class T, rounding_policy<Scalar> Rounding>
[[nodiscard]] quantized_matrix<Scalar> round_as(matrix_view<const T> w, weight_grids<Scalar> grids, const Rounding& rounding,
                                                executor_ref exec) {
    if constexpr (std::is_same_v<T, Scalar>) {
        return round_onto_grids(w, std::move(grids), rounding, exec);
    } else {
        matrix<Scalar> copy(w.rows(), w.cols());
        for (index_t i = 0; i < w.rows(); ++i) matrix_ref(w).load_row(i, 0, w.cols(), &copy(i, 0));
        return round_onto_grids(copy.view(), std::move(grids), rounding, exec);
    }
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// Rounds every weight to the nearest point of its grid, or as a `rounding_policy` says.
///
/// With an integer zero point, code = clamp(round(w / scale) + zero, 0, 2^bits - 1), on the grids of `fit_grids`.
///
/// @par Shapes    W: rows x cols, any storage and layout; not written; H, for the searches that use it: cols x cols
/// @return        codes and grids; scales are float, or double for double weights
/// @par Cost      O(rows * cols) for min_max, otherwise that of `fit_grids`; allocates the result, 32 rows for each worker, and
///                16-bit weights in float
/// @par Numerics  half-way cases round to even; the same bits for every executor
/// @par Errors    option_error; shape_error if W is empty; value_error if an entry is NaN or infinite, or H is not a Gram matrix
template <class Weights, class Rounding = round_half_even>
    requires detail::is_rounding<Rounding>
[[nodiscard]] auto quantize_rtn(const Weights& W, const grid_options& options = {}, const Rounding& rounding = {}, executor_ref exec = {}) {
    const auto w = as_const_view(W);
    using scalar = compute_t<typename decltype(w)::value_type>;
    if constexpr (std::is_same_v<Rounding, round_half_even>)
        return detail::run_rtn<scalar>(w, options, exec);
    else
        return detail::round_as(w, detail::run_fit_grids<scalar>("quantize_rtn", w, options, exec), rounding, exec);
}

/// The same for the searches that use H. Weights of dead columns do not affect the grids, see `fit_grids`: they are rounded onto the grids
/// of the others, to the nearest end if they are outside.
template <class Weights, class Gram, class Rounding = round_half_even>
    requires(gram_like<Gram> && detail::is_rounding<Rounding>)
[[nodiscard]] auto quantize_rtn(const Weights& W, const Gram& H, const grid_options& options, const Rounding& rounding = {},
                                executor_ref exec = {}) {
    const auto w = as_const_view(W);
    using scalar = compute_t<typename decltype(w)::value_type>;
    if constexpr (std::is_same_v<Rounding, round_half_even>)
        return detail::run_rtn<scalar>(w, detail::as_gram(H), options, exec);
    else
        return detail::round_as(w, detail::run_fit_grids<scalar>("quantize_rtn", w, detail::as_gram(H), options, exec), rounding, exec);
}

/// The same on given grids.
/// @par Errors    shape_error if the grids are not those of a rows x cols matrix or do not fit together; value_error if an entry of W is
///                NaN or infinite, or a grid is not usable (see `require_grids`)
template <class Weights, compute_scalar Scalar, rounding_policy<Scalar> Rounding = round_half_even>
[[nodiscard]] auto quantize_rtn(const Weights& W, const weight_grids<Scalar>& grids, const Rounding& rounding = {},
                                executor_ref exec = {}) {
    const auto w = as_const_view(W);
    static_assert(std::is_same_v<Scalar, compute_t<typename decltype(w)::value_type>>,
                  "magr: grids must be double for double weights, float for others");
    if constexpr (std::is_same_v<Rounding, round_half_even>) {
        return detail::run_rtn<Scalar>(w, grids, exec);
    } else {
        detail::require_roundable<Scalar>(w, grids, exec);
        return detail::round_as(w, grids, rounding, exec);
    }
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/quantize/rtn_impl.hpp>
#endif
