// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include <magr/detail/contract.hpp>
#include <magr/detail/convert.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/quantize/column_order.hpp>
#include <magr/quantize/feedback_factor.hpp>
#include <magr/quantize/fit_grid.hpp>
#include <magr/quantize/grid_quantizer.hpp>
#include <magr/quantize/output_error.hpp>
#include <magr/quantize/quantized_matrix.hpp>
#include <magr/quantize/sequential.hpp>

namespace magr {

/// What becomes of the weights of dead columns, whose input was zero in all of the calibration (H_jj = 0).
enum class dead_columns {
    round,  ///< rounded to nearest: the calibration says nothing about them
    zero    ///< set to zero, as the published OPTQ code does
};

/// How OPTQ goes about it; the grids are `grid_options`.
struct optq_options {
    double damping = 1e-2;                                ///< added to diag(H), as a fraction of its mean, >= 0
    index_t block_size = 128;                             ///< columns per matrix product, >= 1; with stale groups it changes the result
    column_order order = column_order::natural;           ///< in which order columns are quantized
    group_update groups = group_update::fixed;            ///< from which weights the grids of groups are fitted
    magr::dead_columns dead = magr::dead_columns::round;  ///< what becomes of dead columns
};

/// Outcome of `quantize_optq`.
template <compute_scalar Scalar>
struct [[nodiscard]] optq_result {
    quantized_matrix<Scalar> quantized;            ///< empty (0 x 0) if `status` is `failed`
    factorization status = factorization::failed;  ///< how factoring the damped H ended
    double damping = 0;                            ///< of the last attempt, as a fraction of the mean diagonal entry
    int attempts = 0;                              ///< factorizations tried
    index_t dead_columns = 0;                      ///< columns with H_jj = 0
    double output_error = 0;                       ///< tr((Q - W) H (Q - W)^T) / tr(W H W^T), as magr::output_error
    double loss = 0;                               ///< tr((Q - W) (H + shift I) (Q - W)^T) / 2; unit of H times that of W squared
};

inline namespace MAGR_ISA_NAMESPACE {

/// Refuses options outside of their documented range.
/// @par Errors    option_error
inline void validate(const optq_options& options) {
    const char* const function = "optq_options";
    detail::require_option(options.damping >= 0 && std::isfinite(options.damping), function, "damping", "at least 0 and finite",
                           options.damping);
    detail::require_option(options.block_size >= 1, function, "block_size", "at least 1", options.block_size);
}

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Working copy of W with its columns in another order.
template <compute_scalar Scalar, class T>
[[nodiscard]] col_major_matrix<Scalar> load_columns(matrix_view<T> w, std::span<const index_t> order) {
    constexpr index_t panel = 32;  // rows read side by side, so that neither matrix is walked across its memory order over long distances
    col_major_matrix<Scalar> out(w.rows(), w.cols());
    for (index_t first = 0; first < w.rows(); first += panel)
        for (index_t k = 0; k < w.cols(); ++k)
            for (index_t i = first; i < std::min(first + panel, w.rows()); ++i)
                out(i, k) = static_cast<Scalar>(w(i, order[static_cast<std::size_t>(k)]));
    return out;
}

/// tr(W (H + shift I) W^T) = sum_k D_k ||(W T)_k||^2 over the columns that are not dead.
template <compute_scalar Scalar>
[[nodiscard]] double damped_energy(const col_major_matrix<Scalar>& W, const feedback_factor<Scalar>& factor) {
    constexpr index_t block = 128;
    const index_t n = W.cols();
    const Eigen::Map<const col_major_matrix<Scalar>> T(factor.feedback.data(), n, n);
    col_major_matrix<Scalar> product;
    double energy = 0;
    for (index_t first = 0; first < n; first += block) {
        const index_t width = std::min(block, n - first);
        product.noalias() = W.leftCols(first + width) * T.block(0, first, first + width, width);
        for (index_t k = 0; k < width; ++k)
            energy += factor.pivots[static_cast<std::size_t>(first + k)] * product.col(k).template cast<double>().squaredNorm();
    }
    return energy;
}

/// ||W||_F^2 over the columns that are not dead.
template <compute_scalar Scalar>
[[nodiscard]] double live_energy(const col_major_matrix<Scalar>& W, const feedback_factor<Scalar>& factor) {
    double energy = 0;
    for (index_t k = 0; k < W.cols(); ++k)
        if (factor.pivots[static_cast<std::size_t>(k)] > 0) energy += W.col(k).template cast<double>().squaredNorm();
    return energy;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// Quantizes a weight matrix column by column, each column making up for the output error of those before it.
///
/// Approximately solves, row by row,
///
///   min_Q  tr((Q - W) (H + shift I) (Q - W)^T)     Q on the grids of `fit_grid`, shift = damping * mean(diag H)
///
/// by rounding the columns in `order`; in each step the columns still to come are the least-squares optimum given those already rounded.
///
/// Each of these can be replaced on its own by building on the parts: the factor (`factor_feedback`), the order (`order_columns`), the
/// quantizer of a column and its rounding (`grid_quantizer`), the loop (`quantize_sequentially`).
///
/// @par Shapes    W: rows x cols, any storage and layout; H: cols x cols, any storage and layout, X^T X up to a positive factor;
///                neither is written
/// @return        codes and grids, and how it went; look at `status`: a matrix H that cannot be factored even with more damping gives
///                no quantized matrix, and nothing else is put in its place
/// @par Cost      rows * cols^2 multiply-adds in Scalar (half of them for `output_error`) and cols^3 / 6 in double; live and stale groups
///                that reach beyond their block add rows * cols^2 / 2. Allocates rows * (cols + block_size) and cols^2 in Scalar,
///                cols^2 in double, and the result
/// @par Numerics  H is factored in double, weights are Scalar: float, or double for double weights. H times a positive factor gives the
///                same codes as long as no rounding error decides a tie. `loss` is what the rounding errors sum up to, and
///                `output_error` is derived from it: it agrees with magr::output_error to about the precision of Scalar
/// @par Errors    option_error; shape_error; value_error if an entry is NaN or infinite, or H is not a Gram matrix. All before any work
/// @par Source    E. Frantar et al., OPTQ (arXiv 2210.17323), computed as LDLQ (QuIP, arXiv 2307.13304). Differs from the published code:
///                no inverse of H; dead columns are rounded unless told otherwise and do not enter the mean of diag(H); groups are
///                `fixed` unless told otherwise
template <class Weights, class Gram>
auto quantize_optq(const Weights& W, const Gram& H, const grid_options& grid = {}, const optq_options& options = {}) {
    const auto w = as_const_view(W);
    const auto h = as_const_view(H);
    using scalar = compute_t<typename decltype(w)::value_type>;
    validate(grid);
    validate(options);
    detail::require_not_empty("quantize_optq", "W", w);
    detail::require_gram("quantize_optq", "H", h, w.cols());
    detail::require_finite("quantize_optq", "W", w);

    const std::vector<index_t> order = order_columns(h, options.order);
    const feedback_factor<scalar> factor = factor_feedback<scalar>(h, order, options.damping);
    optq_result<scalar> result;
    result.status = factor.status;
    result.damping = factor.damping;
    result.attempts = factor.attempts;
    result.dead_columns = factor.dead_columns;
    if (factor.status == factorization::failed) return result;

    result.quantized = detail::make_quantized_matrix<scalar>(w.rows(), w.cols(), grid);
    // one group per row has no earlier columns that could have changed its weights
    const group_update update = result.quantized.scales.cols() == 1 ? group_update::fixed : options.groups;
    if (update == group_update::fixed) detail::fit_grids(w, grid, result.quantized);
    detail::col_major_matrix<scalar> residual = detail::load_columns<scalar>(w, order);
    const double energy = detail::damped_energy(residual, factor) - factor.shift * detail::live_energy(residual, factor);
    if (options.dead == dead_columns::zero)
        for (index_t k = 0; k < w.cols(); ++k)
            if (factor.pivots[static_cast<std::size_t>(k)] == 0) residual.col(k).setZero();

    grid_quantizer<scalar> quantizer(result.quantized, grid, order, update);
    const auto columns = matrix_view<scalar>(residual.data(), residual.rows(), residual.cols(), residual.rows(), layout::col_major);
    const std::vector<double> squared_errors = quantize_sequentially(columns, factor.feedback.view(), options.block_size, quantizer);

    for (std::size_t k = 0; k < squared_errors.size(); ++k) result.loss += 0.5 * factor.pivots[k] * squared_errors[k];
    const double error = 2 * result.loss - factor.shift * detail::live_energy(residual, factor);
    result.output_error = detail::error_ratio(error, energy);
    return result;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
