// SPDX-License-Identifier: MIT
#pragma once

#include <optional>

#include <magr/calibration/gram.hpp>
#include <magr/layer/automatic.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

/// Quantizes the weights of one layer, and chooses MagR's penalty, the damping and the range by their error on held-out data:
///
///     1. every candidate quantizes W (MagR, grids, codes) with the fitting data alone; its error is
///        tr((Q - W) V (Q - W)^T) / tr(W V W^T), where V is the Gram matrix of the validation data. The first damping is tried with all
///        penalties and ranges, each other damping with all ranges, without a penalty and with the best penalty so far
///     2. if the best candidate with MagR beats the best one without by `required_gain`, both are refined, and the one with MagR is taken
///        if it still does; otherwise the one without is refined and taken
///
/// The function returns that very candidate, so its error on held-out data is known. An input that is zero throughout the fitting data, but
/// not the validation data, counts in the errors with its energy in the latter. An input that is dead by the threshold does not count in
/// the errors that decide.
///
/// A penalty tuned on the calibration text may not generalise, and the best one differs between layers and bits by orders of magnitude.
/// Refinement takes longer than everything else, and often undoes what MagR gained. MagR also shrinks the outputs of a layer. Unlike
/// rounding errors, this adds up over layers: on the small networks measured, gains of a few percent in the layers were losses in
/// perplexity. Hence the candidate with MagR must win by a tenth.
///
/// @par Shapes    W: rows x cols; fitting, validation: cols x cols, the Gram matrices H = X^T X of two parts of the calibration data, sums
///                of the same convention. Split by sequence, because tokens of one sequence resemble each other; a quarter for validation
///                works well. Any storage and layout; nothing is written
/// @return        the layer and a table of the candidates
/// @par Cost      for each damping one factorization for MagR and one for OPTQ; the penalties start from each other's solutions; for each
///                candidate OPTQ and half a product to measure; then refinement and the report of one, or two. Allocates a copy of W for
///                each penalty, the codes of three candidates, and three matrices of H's size in double
/// @par Numerics  those of its steps; the same bits for every executor
/// @par Errors    option_error, with every problem of all options; shape_error; value_error if an entry is NaN or infinite, or an
///                argument is not a Gram matrix. All before any work
template <class Weights, class Fitting, class Validation>
    requires dense_matrix<const Fitting> && dense_matrix<const Validation>
auto quantize_automatic(const Weights& W, const Fitting& fitting, const Validation& validation, const automatic_options& options = {},
                        executor_ref exec = {}) {
    const auto w = as_const_view(W);
    return detail::run_automatic<compute_t<typename decltype(w)::value_type>>(w, as_const_view(fitting), as_const_view(validation),
                                                                              std::nullopt, std::nullopt, options, exec);
}

/// The same with the Gram matrices of two accumulators; the report then includes their number of tokens.
/// @par Errors    also value_error if an accumulator has seen no token
template <class Weights, compute_scalar Sum>
auto quantize_automatic(const Weights& W, const gram_accumulator<Sum>& fitting, const gram_accumulator<Sum>& validation,
                        const automatic_options& options = {}, executor_ref exec = {}) {
    const auto w = as_const_view(W);
    const matrix<Sum> fitting_gram = fitting.gram(exec), validation_gram = validation.gram(exec);
    return detail::run_automatic<compute_t<typename decltype(w)::value_type>>(w, fitting_gram.view(), validation_gram.view(),
                                                                              fitting.tokens(), validation.tokens(), options, exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
