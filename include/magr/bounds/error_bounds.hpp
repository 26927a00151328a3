// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include <magr/calibration/hessian.hpp>
#include <magr/config.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/detail/validate.hpp>
#include <magr/grid/quantized_matrix.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/quantize/optq_options.hpp>

namespace magr {

/// What `bound_errors` needs besides the matrices.
struct bound_options {
    optq_options optq = {};              ///< those that made the codes; for `round_onto` those with the same feedback and rounding
    double failure_probability = 0.01;   ///< of each statement about random codes, in (0, 1)
    std::optional<index_t> tokens = {};  ///< whose sum H is, >= 1; by default what the hessian knows
};

/// What `bound_errors` did.
enum class bound_status {
    bounded,       ///< all numbers are there
    not_factored,  ///< nothing: H could not be factored as the options allow
    overflowed     ///< nothing: bounds or errors left the range of numbers
};

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(bound_status status) noexcept {
    switch (status) {
        case bound_status::bounded: return "bounded";
        case bound_status::not_factored: return "not_factored";
        case bound_status::overflowed: return "overflowed";
    }
    return "unknown";
}

/// The codes -K..K around the weight 0 (or the point of the grid nearest to it) from which no weight is clipped, at the scales of the
/// grids.
struct alphabet_size {
    double levels = 1;  ///< 2 K + 1
    int bits = 0;       ///< the least number of bits with as many codes
};

/// Bounds of the errors of OPTQ, and whether they apply and held. Only live columns count.
struct [[nodiscard]] error_bounds {
    bound_status status = bound_status::not_factored;
    double damping = 0;         ///< with which H was factored, as a fraction of the mean diagonal entry
    double diagonal_floor = 0;  ///< to which diag(H) was raised besides, unit of H; 0: none was needed
    double pivot_sum = 0;       ///< tr D, unit of H

    index_t outside = 0;  ///< weights outside of their grid when they were rounded
    index_t clipped = 0;  ///< those by more than half a step
    /// codes that rounding does not give: they were changed afterwards, or other options or matrices made them
    index_t unexplained = 0;

    double loss = 0;        ///< tr((Q - W) (H + diag(added)) (Q - W)^T), twice `optq_report::loss`
    double loss_bound = 0;  ///< of `loss`: sum of D_k (s / 2)^2, or of D_k s^2 if stochastic; a quarter then bounds the expected loss

    std::optional<double> largest_output_error = {};  ///< max |X (Q - W)^T|, if there are tokens
    std::optional<double> output_error_bound =
        {};  ///< of that with probability 1 - p, if rounding is stochastic and the tokens are counted

    std::optional<alphabet_size> certain_alphabet = {};   ///< from which certainly no weight is clipped; none for fixed levels
    std::optional<alphabet_size> probable_alphabet = {};  ///< from which none is with probability 1 - p, if rounding is stochastic

    [[nodiscard]] MAGR_ALWAYS_INLINE bool loss_bound_applies() const noexcept {
        return status == bound_status::bounded && clipped == 0 && unexplained == 0;
    }
    /// Whether the bound of the loss held; no value if it does not apply.
    [[nodiscard]] MAGR_ALWAYS_INLINE std::optional<bool> loss_bound_held() const noexcept {
        if (!loss_bound_applies()) return std::nullopt;
        return loss <= loss_bound * (1 + 1e-4);  // each step is rounded to the precision of the weights
    }
    [[nodiscard]] MAGR_ALWAYS_INLINE bool output_bound_applies() const noexcept {
        return output_error_bound && status == bound_status::bounded && outside == 0 && unexplained == 0;
    }
    /// Whether the bound of the largest output error held; no value if it does not apply, or nothing was measured.
    [[nodiscard]] MAGR_ALWAYS_INLINE std::optional<bool> output_bound_held() const noexcept {
        if (!output_bound_applies() || !largest_output_error) return std::nullopt;
        return *largest_output_error <= *output_error_bound * (1 + 1e-4);
    }
};

inline namespace MAGR_ISA_NAMESPACE {

/// Every problem of these options; empty if there is none.
[[nodiscard]] MAGR_CORE std::vector<std::string> problems(const bound_options& options);

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// @param X       null without tokens
/// @param known   the number of tokens of H, if the hessian knows it
template <compute_scalar Scalar>
[[nodiscard]] error_bounds run_bound_errors(const matrix_ref& W, const quantized_matrix<Scalar>& Q, const gram_argument& H,
                                            const matrix_ref* X, std::optional<index_t> known, const bound_options& options,
                                            executor_ref exec);

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// Bounds the errors of codes that OPTQ made, checks whether the bounds apply, and measures whether they held.
///
/// With H + diag(added) = T D T^T, E = Q - W and columns in the order of processing, eta = E T is what rounding did to each weight, so the
/// weights that were rounded are Q - eta, and
///
///   tr(E (H + diag(added)) E^T) = sum_rk eta_rk^2 D_k,        x E^T = sum_k eta_k v_k  with  v = T^-1 x  for every token x
///
/// Nothing has to be quantized again. Where no weight lies more than half a step outside of its grid, |eta_rk| <= s_rk / 2, which bounds
/// the loss; s_rk is the scale, times the widest gap of fixed levels. Stochastic rounding makes |eta_rk| <= s_rk, with mean 0 where no
/// weight lies outside at all: a weight beyond the last code always becomes that code. Then Hoeffding's inequality holds for every token
/// and row, and for all N tokens and m rows together
///
///   max |X E^T| <= sqrt(ln(2 N m / p) / 2) max_ir sqrt(sum_k s_rk^2 v_ik^2)        with probability 1 - p
///
/// Before rounding, weight k has moved by sum_(j<k) eta_j (T^-1)_jk. Bounds of that tell how many codes are needed. Grids that fit the
/// range of the weights hardly ever have so many, and yet clip few weights: the counts say what happened.
///
/// Without tokens, sqrt(max_rk s_rk^2 D_k) takes the place of the last factor, and H must be X^T X itself, not a multiple of it.
///
/// This bounds Qronos in its projection form, too. With inputs Y of the quantized network and X of the original one, pass as W what
/// `compensate_drift` makes of the weights W0 with fraction 1 and the same damping. Then
///
///   ||X W0^T - Y Q^T||^2 + damping mean(diag H) ||W0 - Q||^2        over live columns
///
/// is its own minimum, which W has in place of Q, plus `loss`. It does not bound Qronos with the exact first step.
///
/// @par Shapes    W: rows x cols, the weights that were quantized; Q: codes for them; H: cols x cols, or a `hessian`; any storage and
///                layout
/// @param options `optq` as passed to `quantize_optq`: damping, order, groups, dead_threshold (that of the grids if it is larger),
///                on_failure, rounding and precision matter. A shared hessian has kept the factors
/// @return        bounds, counts and measured errors; `status` says if there are none. There is no bound of the output error, and no
///                probable alphabet, if groups were fitted during the quantization, because scales then depend on random numbers. With
///                probability p at most no weight lies outside and yet a probable bound is broken
/// @par Cost      1.5 rows cols^2 + cols^3 / 6 multiply-adds in double, and rows * cols * groups per row; allocates three matrices of H's
///                size and two of W's
/// @par Numerics  in double, whatever the size of W and H. A weight counts as outside, or a code as unexplained, from 1e-4 of a step on
///                for float and 1e-9 for double. Dead columns are left out, and their inputs in X count as 0. The same bits for every
///                executor
/// @par Errors    option_error; shape_error; value_error if an entry is NaN or infinite, H is not a Gram matrix, a code is outside of its
///                grid, or a grid is not usable. All before any work
/// @par Source    derived here from LDLQ (QuIP, arXiv 2307.13304) and Hoeffding's inequality. "Provable PTQ" (arXiv 2508.04853) bounds the
///                same norms for OPTQ and Qronos; the constants are not taken from there
template <class Weights, class Gram, compute_scalar Scalar>
error_bounds bound_errors(const Weights& W, const quantized_matrix<Scalar>& Q, const Gram& H, const bound_options& options = {},
                          executor_ref exec = {}) {
    return detail::run_bound_errors<Scalar>(as_const_view(W), Q, detail::as_gram(H), nullptr, detail::tokens_of(H), options, exec);
}

/// The same with tokens, for which the output error is measured. Any tokens will do, those of the calibration or others: the bound of the
/// output error is for these. For those of the calibration it is sharper than the one from H.
///
/// @par Shapes    X: tokens x cols
/// @par Cost      also tokens * (rows * cols + cols^2 / 2) multiply-adds, and tokens * rows * groups per row
/// @par Errors    also option_error if `tokens` is another number than X has
template <class Weights, class Gram, class Tokens, compute_scalar Scalar>
    requires(!std::is_same_v<Tokens, bound_options>)
error_bounds bound_errors(const Weights& W, const quantized_matrix<Scalar>& Q, const Gram& H, const Tokens& X,
                          const bound_options& options = {}, executor_ref exec = {}) {
    const detail::matrix_ref x = as_const_view(X);
    return detail::run_bound_errors<Scalar>(as_const_view(W), Q, detail::as_gram(H), &x, std::nullopt, options, exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/bounds/error_bounds_impl.hpp>
#endif
