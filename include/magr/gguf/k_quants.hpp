// SPDX-License-Identifier: MIT
#pragma once

#include <magr/calibration/hessian.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/gguf/gguf.hpp>
#include <magr/grid/weight_grids.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr {
namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar Scalar>
[[nodiscard]] weight_grids<Scalar> run_fit_k_quant_grids(const matrix_ref& W, ggml_type type, executor_ref exec);
template <compute_scalar Scalar>
[[nodiscard]] weight_grids<Scalar> run_fit_k_quant_grids(const matrix_ref& W, const gram_argument& H, ggml_type type, double dead_threshold,
                                                         executor_ref exec);

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// Fits the two-level grids of ggml's k-quants to a weight matrix. Each group of 16 or 32 columns has its own scale and, in some types, its
/// own offset. They are small integer multiples of two f16 numbers, d and dmin, that 256 columns share:
///
///   q2_k, q4_k, q5_k   w = d sc c - dmin m   sc, m: 0..15 (q2_k) or 0..63, sc not 0
///   q3_k, q6_k         w = d sc (c - z)      sc: 1..31 (q3_k) or 1..127; z: one of the two middle codes
///
/// The grids come before the codes, so any quantizer can choose the codes: `quantize_rtn(W, grids)`, `quantize_optq(W, H, grids)`, then
/// `pack_gguf`.
///
/// The search first finds the best grid of each group by itself (25 ranges, each improved twice by least squares). Then d and dmin are such
/// that the largest scale and offset have the largest codes, and each group takes the codes sc, m with the least error of those nearby. Up
/// to four times, least squares give new d and dmin, and the codes are chosen again.
///
/// @par Shapes    W: rows x cols, cols a multiple of 256, any storage and layout
/// @return        grids whose scales are d sc and whose offsets are -dmin m, exactly; `shared` holds the parts
/// @post          every scale > 0: d is at least the smallest f16 number, sc at least 1. What f16 cannot hold is limited to its range
/// @par Cost      100 to 250 passes over W; allocates the result
/// @par Numerics  in double, in units of the largest weight of 256; the same bits for every executor
/// @par Errors    option_error if the type is not a k-quant; shape_error; value_error if an entry is NaN or infinite
/// @par Source    the layout is ggml's, the search is not: ggml chooses codes along with the grid. The lower middle code as zero point
///                corresponds to its negative sc
template <class Weights>
[[nodiscard]] auto fit_k_quant_grids(const Weights& W, ggml_type type, executor_ref exec = {}) {
    const auto w = as_const_view(W);
    return detail::run_fit_k_quant_grids<compute_t<typename decltype(w)::value_type>>(w, type, exec);
}

/// The same with errors weighted by H_jj, as ggml does with an importance matrix. Weights of dead columns, H_jj <= dead_threshold * mean,
/// do not influence what live ones share: a group without live columns takes the codes sc, m that suit it best with the d and dmin of the
/// others. Only 256 columns without a live one have the d and dmin of their own weights.
/// @par Shapes    H: cols x cols
/// @par Errors    also value_error if H is not a Gram matrix; option_error if dead_threshold is not in [0, 1)
template <class Weights, class Gram>
    requires gram_like<Gram>
[[nodiscard]] auto fit_k_quant_grids(const Weights& W, const Gram& H, ggml_type type, double dead_threshold = 0, executor_ref exec = {}) {
    const auto w = as_const_view(W);
    return detail::run_fit_k_quant_grids<compute_t<typename decltype(w)::value_type>>(w, detail::as_gram(H), type, dead_threshold, exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/gguf/k_quants_impl.hpp>
#endif
