// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <optional>
#include <span>
#include <vector>

#include <magr/calibration/hessian.hpp>
#include <magr/config.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr {

/// The dampings that `choose_damping` tries unless told otherwise: from the usual one to one that leaves little of the correlations. More
/// than that changed errors on other text by less than 1% where it was measured.
inline constexpr std::array default_dampings{0.01, 0.03, 0.1, 0.3, 1.0};

/// What `choose_damping` found.
struct [[nodiscard]] damping_choice {
    std::optional<double> damping = {};  ///< the one with the smallest error; none if H could not be factored with any
    /// Of each candidate, what rounding with its feedback is expected to cost on the validation data, over the cost of rounding to the
    /// nearest; infinite if H could not be factored with it.
    std::vector<double> errors = {};
};

inline namespace MAGR_ISA_NAMESPACE {

/// Chooses the damping of OPTQ for one Gram matrix by what its feedback is worth on tokens that it was not made from.
///
/// With H + damping mean(diag H) I = T D T^T of the fitting data, rounding errors E of equal variance, independent of each other, leave
/// Q - W = E T^-1. Their expected cost on validation data with the Gram matrix V, over that of rounding to the nearest, is
///
///   tr(T^-1 V T^-T) / tr(V)
///
/// The smallest one wins; between equals the first candidate. Nothing is quantized, so the choice holds for all layers with these inputs
/// and for any number of bits. Then pass the Gram matrix of all tokens, and this damping, to OPTQ and refinement.
///
/// OPTQ fits the feedback of n inputs to the tokens it sees. If there are few of them for each input, or if they resemble each other, or if
/// most inputs are zero in most tokens, it also fits what only these tokens have in common, and on other text costs more than it saves.
/// Damping prevents that, but costs precision where tokens abound: the best damping of three real layers was 0.01, 0.3 and 1.
///
/// @par Shapes    fitting, validation: n x n, from two parts of the calibration data, of any size and convention. Split by sequence,
/// because
///                tokens of one sequence resemble each other; a quarter for validation works well
/// @par Dead inputs  those of the fitting data are rounded to the nearest, and count with their energy in the validation data; those of
///                   the validation data do not count
/// @par Cost      7/6 n^3 multiply-adds for each candidate, in parallel; allocates four matrices of n x n doubles
/// @par Numerics  in double; a positive factor of either matrix changes nothing but rounding errors; the same bits for every executor
/// @par Errors    shape_error if the sizes differ; option_error if there is no candidate, or one is negative or not finite
/// @par Source    the formula is the error of LDLQ (QuIP, arXiv 2307.13304, theorem 1) for rounding errors of variance 1, with V in place
/// of
///                H. Real errors have the variances of their grids, and are not independent where weights are clipped
[[nodiscard]] MAGR_CORE damping_choice choose_damping(const hessian& fitting, const hessian& validation,
                                                      std::span<const double> candidates = default_dampings, executor_ref exec = {});

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/quantize/choose_damping_impl.hpp>
#endif
