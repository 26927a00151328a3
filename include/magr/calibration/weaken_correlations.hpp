// SPDX-License-Identifier: MIT
#pragma once

#include <magr/detail/contract.hpp>
#include <magr/detail/finite.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/detail/text.hpp>
#include <magr/error.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/matrix/matrix.hpp>

namespace magr {
namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

template <int Instance = 0>  // compiled only where it is called
void run_weaken_correlations(const mutable_matrix_ref& H, double amount) {
    require_option(amount >= 0 && is_finite(amount), "weaken_correlations", "amount", ">= 0 and finite", amount);
    require_not_empty("weaken_correlations", "H", H);
    require_gram("weaken_correlations", "H", H, H.rows());
    matrix<double> diagonal(1, H.rows());
    for (index_t j = 0; j < H.rows(); ++j) {
        diagonal(0, j) = H(j, j) * (1 + amount);
        H.type().round(&diagonal(0, j), 1);
        if (!is_finite(diagonal(0, j)))
            raise<value_error>(concat("weaken_correlations: ", 1 + amount,
                                      " times the diagonal of H must be finite in its type, entry (row ", j, ", column ", j, ") is ",
                                      H(j, j)));
    }
    for (index_t j = 0; j < H.rows(); ++j) H.store_row(j, j, 1, &diagonal(0, j));
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// Makes a Gram matrix trust its calibration text less: divides the correlation of each two inputs by 1 + amount.
///
///   H <- H + amount diag(H)
///
/// Few tokens for many inputs show correlations that other texts do not have. Damping with a multiple of the mean of diag(H) weakens them
/// only for inputs of like size: a few that are much larger than the rest raise the mean, so that the same multiple drowns the others. This
/// does the same to all inputs, whatever their sizes.
///
/// An amount of 10 inputs / tokens was the best of those tried on SmolLM2-135M and as good as any on two small models, for weights that are
/// refined afterwards; a third one, for which the rule gives 0.03 to 0.07, was 2% better with 0.1 (examples/quantize_llama/RESULTS.md).
///
/// @par Shapes    H: n x n (in/out), any storage and layout
/// @par Cost      n^2 reads for the checks, n writes; allocates n doubles
/// @par Errors    shape_error; option_error if amount is negative or not finite; value_error if H is not a Gram matrix, or its diagonal
///                would be beyond the largest number of its type. All before H is written
/// @par Source    the estimate of Schäfer and Strimmer (2005) that shrinks correlations and keeps variances, with the intensity
///                amount / (1 + amount), times 1 + amount. They derive the intensity from the data; ours is a rule of thumb
template <class Gram>
void weaken_correlations(Gram&& H, double amount) {
    detail::run_weaken_correlations(as_mutable_view(H), amount);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
