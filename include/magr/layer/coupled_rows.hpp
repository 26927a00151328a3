// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <magr/calibration/hessian.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/detail/validate.hpp>
#include <magr/grid/quantized_matrix.hpp>
#include <magr/layer/options.hpp>
#include <magr/layer/result.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr {

/// Options of `quantize_coupled_rows`.
struct coupled_options {
    /// Grid, OPTQ and refinement of each row; MagR is not run, and the quantizer is OPTQ.
    layer_options layer = {};
    /// Each grid is tried with its fitted scale times each of these, > 0; the row keeps the best after refinement. Empty: 0.8, 0.85, .. 1.1
    std::vector<double> range_factors = {};
    index_t refined_candidates = 3;  ///< of these, the ones with the least loss are refined, per row; >= 1
    index_t passes = 3;              ///< over all rows after the first one, >= 0
    bool from_scratch = true;        ///< whether passes also quantize each row anew, instead of only refining its codes and scales
    index_t rows_per_step = 16;      ///< rows that do not see each other's errors until the next step, >= 1
    double damping = 0.1;            ///< added to diag(A), as a fraction of its mean over live outputs, >= 0
};

/// Outcome of `quantize_coupled_rows`. Losses are tr(A E H E^T) / 2, E = Q - W, with both matrices damped.
template <compute_scalar Scalar>
struct [[nodiscard]] coupled_result {
    quantized_matrix<Scalar> quantized;                        ///< empty (0 x 0) if `status` says that nothing was quantized
    quantization_status status = quantization_status::failed;  ///< what was done
    index_t dead_inputs = 0;                                   ///< by the largest `dead_threshold` of the options
    std::vector<double> losses;                                ///< after the first pass and after each later one; never rises
    double output_error = 0;                                   ///< tr(E H E^T) / tr(W H W^T), H as passed in

    /// Whether there is a quantized matrix.
    [[nodiscard]] explicit operator bool() const noexcept { return !quantized.codes.empty(); }
};

inline namespace MAGR_ISA_NAMESPACE {

/// Every problem of these options; empty if there is none.
[[nodiscard]] MAGR_CORE std::vector<std::string> problems(const coupled_options& options);

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar Scalar>
[[nodiscard]] coupled_result<Scalar> run_coupled_rows(const matrix_ref& W, const gram_argument& H, const matrix_ref& A,
                                                      const coupled_options& options, executor_ref exec);

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// Quantizes a layer whose outputs do not count the same, nor by themselves: A says what an error at the output costs.
///
///   min_Q  tr(A (Q - W) H (Q - W)^T)      Q on grids that are fitted on the way
///
/// The rows are quantized one step after the other, like the columns by OPTQ: with A = T D T^T, row k is rounded from
/// w_k + sum_{j < k} (w_j - q_j) T_jk, which is where it makes up best for the errors of the rows before it. Later passes take every row
/// again with all others fixed: its target is then w_k - (sum_{j != k} A_kj e_j) / A_kk. A row changes only if that lowers the loss.
///
/// A is the sum of g g^T over tokens, g the gradient of the network's loss at the output of the layer (its Fisher matrix), or a factor from
/// attention (arXiv 2406.13474), or any other Gram matrix. With the identity each row is quantized as by `quantize_layer` without MagR.
///
/// @par Shapes    W: rows x cols, any storage and layout; H: cols x cols, or a `hessian`; A: rows x rows, up to a positive factor
/// @return        codes and grids, with a report; there is no silent fallback. `overflowed` and no codes also if the loss is beyond the
///                largest double
/// @par Cost      (1 + passes) times that of `quantize_layer` without MagR for each candidate that is refined, and 2 rows^2 *
///                cols multiply-adds a pass; allocates twice W, A and H in double, and for each row of a step several rows for each range
///                factor
/// @par Numerics  losses in double. Rows far apart are taken together in a step, since neighbouring rows depend most on each other. The
///                same bits for every executor
/// @par Errors    option_error; shape_error; value_error if an entry is NaN or infinite, or H or A is not a Gram matrix. All before
///                any work
/// @par Source    BoA's row updates (arXiv 2406.13474) in the blocks of TurboBoA (arXiv 2602.04929), followed by Gauss-Seidel passes
template <class Weights, class Gram, class Metric>
    requires gram_like<Gram> && dense_matrix<const Metric>
auto quantize_coupled_rows(const Weights& W, const Gram& H, const Metric& A, const coupled_options& options = {}, executor_ref exec = {}) {
    const auto w = as_const_view(W);
    return detail::run_coupled_rows<compute_t<typename decltype(w)::value_type>>(w, detail::as_gram(H), as_const_view(A), options, exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/layer/coupled_rows_impl.hpp>
#endif
