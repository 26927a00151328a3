// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <magr/calibration/column_order.hpp>
#include <magr/calibration/hessian.hpp>
#include <magr/detail/contract.hpp>
#include <magr/detail/validate.hpp>
#include <magr/drift/drift_argument.hpp>
#include <magr/drift/drift_method.hpp>
#include <magr/drift/drift_quantizer.hpp>
#include <magr/grid/quantized_matrix.hpp>
#include <magr/grid/rounding.hpp>
#include <magr/grid/weight_grids.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/quantize/grid_quantizer.hpp>
#include <magr/quantize/round_onto.hpp>
#include <magr/sequential/load_strip.hpp>
#include <magr/sequential/sequential_pass.hpp>

namespace magr {
namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// The terms of a method, or nothing if it cannot make them or a number is too large for Scalar.
template <compute_scalar Scalar, class Method>
[[nodiscard]] std::optional<drift_terms<Scalar>> make_drift_terms(const Method& method, const matrix_ref& W, const hessian& H,
                                                                  const matrix_ref& C, std::span<const index_t> order, executor_ref exec) {
    std::optional<drift_terms<Scalar>> terms = method.template make<Scalar>(W, H, C, order, exec);
    if (!terms || !is_finite(terms->target.view()) || !is_finite(terms->offsets.view()) || !is_finite(terms->feedback.view()))
        return std::nullopt;
    return terms;
}

template <class Method>
void validate_drift_method(const Method& method) {
    if constexpr (requires { validate(method); }) validate(method);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// Rounds a matrix onto grids, column by column, so that the output of the layer is that of the original network although its inputs have
/// drifted:
///
///   q_k = round(t_k + o_k + sum_{j < k} (t_j - q_j) T_jk)        t, o and T of the method, on the given grids
///
/// Include the method that you use: `qronos`, `gpfq_drift` or `gptaq`.
///
/// @code
/// magr::gram_accumulator<> gram(inputs);     // of Y, the inputs in the network quantized so far
/// magr::drift_accumulator<> drift(inputs);   // of X, those in the original network, and Y: the same tokens in the same order
/// ...
/// const magr::hessian H(gram);
/// const auto q = magr::round_onto_drift(magr::fit_grids(W, H, {.bits = 4}), W, H, drift, magr::qronos{});
/// @endcode
///
/// @par Shapes    grids: those of a rows x cols matrix, of W or of `drift_target`; W: rows x cols, the original weights, also in dead
///                columns; H, C: cols x cols, sums over the same tokens. H may be a `hessian`, C a `drift_accumulator`. Any storage and
///                layout
/// @param method    a `drift_method`
/// @param rounding  a `rounding_policy`
/// @return        codes on these grids, those of the weight 0 in dead columns; nothing if the method cannot make its terms from this H, or
///                numbers overflow
/// @par Cost      rows * cols^2 / 2 multiply-adds and the cost of the method; allocates its terms, half of T, codes and grids twice, and
///                256 rows for each worker
/// @par Numerics  in Scalar; a common factor of H and C cancels; the same bits for every executor
/// @par Errors    option_error; shape_error; value_error if an entry is NaN or infinite, H is not a Gram matrix, a grid is not usable, or
///                accumulators say that C is of another number of tokens than H. All before any work
template <compute_scalar Scalar, class Weights, class Gram, class Drift, drift_method<Scalar> Method,
          rounding_policy<Scalar> Rounding = round_half_even>
    requires gram_like<Gram> && drift_like<Drift>
[[nodiscard]] std::optional<quantized_matrix<Scalar>> round_onto_drift(const weight_grids<Scalar>& grids, const Weights& W, const Gram& H,
                                                                       const Drift& C, const Method& method, const Rounding& rounding = {},
                                                                       const round_options& options = {}, executor_ref exec = {}) {
    const detail::matrix_ref w = as_const_view(W);
    static_assert(std::is_same_v<Scalar, compute_t<typename decltype(as_const_view(W))::value_type>>,
                  "magr: grids must be double for double weights, float for others");
    detail::require_enumerator("round_onto_drift", "order", options.order);
    detail::require_option(options.block_size >= 1, "round_onto_drift", "block_size", "at least 1", options.block_size);
    detail::validate_drift_method(method);
    const detail::used_hessian h("round_onto_drift", w, detail::as_gram(H), 0, exec);
    const detail::matrix_ref c = detail::checked_drift("round_onto_drift", C, H, w.cols(), exec);
    require_grids("round_onto_drift", grids, w.rows(), w.cols());

    const std::vector<index_t> order = order_columns(h->live().view(), options.order, grids.group_size);
    const auto terms = detail::make_drift_terms<Scalar>(method, w, *h, c, order, exec);
    if (!terms) return std::nullopt;
    std::vector<double> live;
    for (const index_t j : order) live.push_back(h->is_dead(j) ? 0 : 1);
    quantized_matrix<Scalar> q{grids, matrix<std::uint8_t>(w.rows(), w.cols())};
    detail::grid_quantizer<Scalar, Rounding> onto_grids(q, order, live, rounding);
    detail::drift_quantizer<Scalar, decltype(onto_grids)> quantizer(terms->offsets.view(), w.rows(), onto_grids);
    const auto load = [&](index_t row, index_t rows, Scalar* strip) {
        detail::load_strip<Scalar>(terms->target.view().block(row, 0, rows, w.cols()), order, strip);
    };
    const auto finish = [&](index_t row, index_t rows, const Scalar*) { onto_grids.store_codes(row, rows); };
    static_cast<void>(detail::sequential_pass<Scalar>(terms->feedback.view(), options.block_size, exec)
                          .run(w.rows(), load, quantizer, finish, false, exec));
    if (quantizer.overflowed()) return std::nullopt;
    return q;
}

/// The weights that a method rounds instead of W: what grids may be fitted to. For `qronos` it is the least-squares fit to the original
/// output.
///
/// @param order       in which columns will be rounded; it matters to `gptaq` alone
/// @param group_size  of the grids, for `column_order::group_aware`; the whole row if absent
/// @return            rows x cols, 0 in dead columns; nothing if the method cannot make its terms from this H, or numbers overflow
/// @par Cost          that of the method; allocates its terms
/// @par Errors        as `round_onto_drift`
template <class Weights, class Gram, class Drift, class Method>
    requires gram_like<Gram> && drift_like<Drift>
[[nodiscard]] auto drift_target(const Weights& W, const Gram& H, const Drift& C, const Method& method,
                                column_order order = column_order::natural, std::optional<index_t> group_size = {}, executor_ref exec = {})
    -> std::optional<matrix<compute_t<typename decltype(as_const_view(W))::value_type>>> {
    using scalar = compute_t<typename decltype(as_const_view(W))::value_type>;
    static_assert(drift_method<Method, scalar>, "magr: the method must be a drift_method, such as qronos");
    const detail::matrix_ref w = as_const_view(W);
    detail::require_enumerator("drift_target", "order", order);
    if (group_size) detail::require_option(*group_size >= 1, "drift_target", "group_size", "at least 1", *group_size);
    detail::validate_drift_method(method);
    const detail::used_hessian h("drift_target", w, detail::as_gram(H), 0, exec);
    const detail::matrix_ref c = detail::checked_drift("drift_target", C, H, w.cols(), exec);

    const std::vector<index_t> columns = order_columns(h->live().view(), order, group_size.value_or(w.cols()));
    auto terms = detail::make_drift_terms<scalar>(method, w, *h, c, columns, exec);
    if (!terms) return std::nullopt;
    return std::move(terms->target);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
