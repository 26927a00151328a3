// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <magr/calibration/column_order.hpp>
#include <magr/calibration/hessian.hpp>
#include <magr/detail/contract.hpp>
#include <magr/detail/convert.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/error.hpp>
#include <magr/feedback/feedback.hpp>
#include <magr/grid/grid_family.hpp>
#include <magr/grid/quantized_matrix.hpp>
#include <magr/grid/rounding.hpp>
#include <magr/grid/weight_grids.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/quantize/grid_quantizer.hpp>
#include <magr/sequential/load_strip.hpp>
#include <magr/sequential/sequential_pass.hpp>

namespace magr {

/// How `round_onto` processes a matrix.
struct round_options {
    column_order order = column_order::natural;  ///< the order in which columns are rounded
    index_t block_size = 96;                     ///< columns per matrix product, >= 1; affects only the speed
};

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// What a column-by-column rounding needs besides grids.
template <compute_scalar Scalar>
class rounding_task {
public:
    template <error_feedback<Scalar> Feedback>
    rounding_task(const matrix_ref& W, const hessian& H, const Feedback& feedback, std::vector<index_t> order, const round_options& options,
                  executor_ref exec)
        : weights_(W),
          order_(std::move(order)),
          feedback_(feedback.template make<Scalar>(H, order_, exec)),
          block_size_(options.block_size),
          exec_(exec) {}

    /// Whether the feedback could be made.
    [[nodiscard]] explicit operator bool() const noexcept { return feedback_.has_value(); }
    [[nodiscard]] std::span<const index_t> order() const noexcept { return order_; }

    /// @param finish  finish(first row, row count), after these rows are rounded
    template <class Quantizer, class Finish>
    void run(Quantizer& quantizer, const Finish& finish) const {
        const matrix_view<const Scalar> w = weights_.view();
        const auto load = [&](index_t row, index_t rows, Scalar* strip) {
            load_strip<Scalar>(w.block(row, 0, rows, w.cols()), order_, strip);
        };
        static_cast<void>(
            sequential_pass<Scalar>(feedback_->view(), block_size_, exec_)
                .run(
                    w.rows(), load, quantizer, [&](index_t row, index_t rows, const Scalar*) { finish(row, rows); }, false, exec_));
    }

private:
    weights_in<Scalar> weights_;
    std::vector<index_t> order_;
    std::optional<matrix<Scalar>> feedback_;
    index_t block_size_;
    executor_ref exec_;
};

/// Checks the arguments of `round_onto` other than its grids.
inline void require_round_options(const round_options& options) {
    require_enumerator("round_onto", "order", options.order);
    require_option(options.block_size >= 1, "round_onto", "block_size", "at least 1", options.block_size);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

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
    detail::require_round_options(options);
    const detail::used_hessian h("round_onto", w, detail::as_gram(H), 0, exec);
    require_grids("round_onto", grids, w.rows(), w.cols());

    const detail::rounding_task<Scalar> task(w, *h, feedback, order_columns(h->live().view(), options.order, grids.group_size), options,
                                             exec);
    if (!task) return std::nullopt;
    std::vector<double> live;
    for (const index_t j : task.order()) live.push_back(h->is_dead(j) ? 0 : 1);
    quantized_matrix<Scalar> q{grids, matrix<std::uint8_t>(w.rows(), w.cols())};
    detail::grid_quantizer<Scalar, Rounding> quantizer(q, task.order(), live, rounding);
    task.run(quantizer, [&](index_t row, index_t rows) { quantizer.store_codes(row, rows); });
    return q;
}

/// The same on grids of a kind of their own.
///
/// @par Errors    also those of `grids.require`. `group_aware` is refused: the grids need not have groups
template <grid_family Grids, class Weights, class Gram, error_feedback<typename Grids::scalar> Feedback,
          rounding_policy<typename Grids::scalar> Rounding = round_half_even>
    requires gram_like<Gram>
[[nodiscard]] std::optional<coded_matrix<Grids>> round_onto(const Grids& grids, const Weights& W, const Gram& H, const Feedback& feedback,
                                                            const Rounding& rounding = {}, const round_options& options = {},
                                                            executor_ref exec = {}) {
    using Scalar = typename Grids::scalar;
    const detail::matrix_ref w = as_const_view(W);
    static_assert(std::is_same_v<Scalar, compute_t<typename decltype(as_const_view(W))::value_type>>,
                  "magr: grids must be double for double weights, float for others");
    detail::require_round_options(options);
    if (options.order == column_order::group_aware)
        detail::raise<option_error>("round_onto: order must be natural, act_order or reversed for these grids, it is group_aware");
    const detail::used_hessian h("round_onto", w, detail::as_gram(H), 0, exec);
    grids.require("round_onto", w.rows(), w.cols());

    const detail::rounding_task<Scalar> task(w, *h, feedback, order_columns(h->live().view(), options.order, w.cols()), options, exec);
    if (!task) return std::nullopt;
    coded_matrix<Grids> q{grids, matrix<std::uint8_t>(w.rows(), w.cols())};
    detail::family_quantizer<Grids, Rounding> quantizer(q, task.order(), rounding);
    task.run(quantizer, [](index_t, index_t) {});
    return q;
}

/// Rounds each weight by itself, without feedback, onto grids of a kind of their own.
///
/// @par Cost      O(rows * cols), allocates the codes
/// @par Errors    shape_error, value_error if an entry is NaN or infinite, and those of `grids.require`; all before any work
template <grid_family Grids, class Weights, rounding_policy<typename Grids::scalar> Rounding = round_half_even>
[[nodiscard]] coded_matrix<Grids> round_onto(const Grids& grids, const Weights& W, const Rounding& rounding = {}) {
    using Scalar = typename Grids::scalar;
    const detail::matrix_ref w = as_const_view(W);
    detail::require_not_empty("round_onto", "W", w);
    detail::require_distinct("round_onto", "W", w);
    detail::require_finite("round_onto", "W", w);
    grids.require("round_onto", w.rows(), w.cols());
    const detail::weights_in<Scalar> weights(w);
    coded_matrix<Grids> q{grids, matrix<std::uint8_t>(w.rows(), w.cols())};
    for (index_t i = 0; i < w.rows(); ++i)
        for (index_t j = 0; j < w.cols(); ++j) {
            const auto map = grids.map(i, j);
            q.codes(i, j) = map.code(detail::steps_on_grid(map, weights.view()(i, j), i, j, rounding));
        }
    return q;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
