// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include <magr/calibration/column_order.hpp>
#include <magr/calibration/hessian.hpp>
#include <magr/detail/contract.hpp>
#include <magr/detail/convert.hpp>
#include <magr/feedback/feedback.hpp>
#include <magr/grid/quantized_matrix.hpp>
#include <magr/grid/rounding.hpp>
#include <magr/grid/weight_grids.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/quantize/grid_quantizer.hpp>
#include <magr/quantize/load_strip.hpp>
#include <magr/quantize/sequential_pass.hpp>

namespace magr {

/// How `round_onto` processes a matrix.
struct round_options {
    column_order order = column_order::natural;  ///< the order in which columns are rounded
    index_t block_size = 96;                     ///< columns per matrix product, >= 1; affects only the speed
};

inline namespace MAGR_ISA_NAMESPACE {

/// Rounds a matrix onto grids, column by column, with any feedback and any rounding. This is the core of all such quantizers.
///
///   q_k = round(w_k + sum_{j < k} (w_j - q_j) T_jk)        T of the feedback, on the given grids
///
/// `quantize_optq` adds reports and policies to this with `ldl_feedback`. A new method is a new feedback or rounding.
///
/// @par Shapes    grids: those of a rows x cols matrix, from `fit_grids` or your own; W: rows x cols; H: cols x cols, or a `hessian`. Any
///                storage and layout
/// @param feedback  an `error_feedback`
/// @param rounding  a `rounding_policy`
/// @return        codes on these grids; nothing if the feedback cannot be made from this H
/// @par Cost      rows * cols^2 / 2 multiply-adds and the cost of the feedback; allocates T one and a half times, codes and grids twice,
///                and 256 rows for each worker
/// @par Numerics  in Scalar; the same bits for every executor
/// @par Errors    option_error; shape_error; value_error if an entry is NaN or infinite, H is not a Gram matrix, or a grid is not usable.
///                All before any work
template <compute_scalar Scalar, class Weights, class Gram, error_feedback<Scalar> Feedback,
          rounding_policy<Scalar> Rounding = round_half_even>
    requires gram_like<Gram>
[[nodiscard]] std::optional<quantized_matrix<Scalar>> round_onto(const weight_grids<Scalar>& grids, const Weights& W, const Gram& H,
                                                                 const Feedback& feedback, const Rounding& rounding = {},
                                                                 const round_options& options = {}, executor_ref exec = {}) {
    const detail::matrix_ref w = as_const_view(W);
    static_assert(std::is_same_v<Scalar, compute_t<typename decltype(as_const_view(W))::value_type>>,
                  "magr: grids must be double for double weights, float for others");
    detail::require_enumerator("round_onto", "order", options.order);
    detail::require_option(options.block_size >= 1, "round_onto", "block_size", "at least 1", options.block_size);
    const detail::used_hessian h("round_onto", w, detail::as_gram(H), 0, exec);
    require_grids("round_onto", grids, w.rows(), w.cols());

    const std::vector<index_t> order = order_columns(h->live().view(), options.order, grids.group_size);
    const std::optional<matrix<Scalar>> T = feedback.template make<Scalar>(*h, order, exec);
    if (!T) return std::nullopt;
    const detail::weights_in<Scalar> weights(w);
    std::vector<double> live;
    for (const index_t j : order) live.push_back(h->is_dead(j) ? 0 : 1);
    quantized_matrix<Scalar> q{grids, matrix<std::uint8_t>(w.rows(), w.cols())};
    detail::grid_quantizer<Scalar, Rounding> quantizer(q, order, live, rounding);
    const auto load = [&](index_t row, index_t rows, Scalar* strip) {
        detail::load_strip<Scalar>(weights.view().block(row, 0, rows, w.cols()), order, strip);
    };
    const auto finish = [&](index_t row, index_t rows, const Scalar*) { quantizer.store_codes(row, rows); };
    static_cast<void>(
        detail::sequential_pass<Scalar>(T->view(), options.block_size, exec).run(w.rows(), load, quantizer, finish, false, exec));
    return q;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
