// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include <magr/detail/matrix_ref.hpp>
#include <magr/detail/validate.hpp>
#include <magr/layer/options.hpp>
#include <magr/layer/result.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr {

/// What `quantize_automatic` may choose from.
struct automatic_options {
    /// MagR's penalties, at least 0; 0, without MagR, is always tried. If empty: 1e-4, 1e-3 and 1e-2, or a tenth of these with groups
    std::vector<double> alphas = {};
    std::vector<double> dampings = {1e-2, 1e-1};  ///< of MagR, OPTQ and refinement alike, at least 0; at least one
    std::vector<double> range_factors = {};       ///< factors of the min_max range to try beside `layer.grid`, in (0, 1]
    double required_gain = 0.1;                   ///< MagR is used only if its error is lower by this fraction, in [0, 1)
    layer_options layer = {};                     ///< shared by all candidates, which replace its penalty and dampings
};

/// One way to quantize a layer, and its error.
struct automatic_candidate {
    double alpha = 0;                          ///< MagR's penalty; 0: without MagR
    double damping = 0;                        ///< of all steps
    std::optional<double> range_factor = {};   ///< factor of the min_max range; no value: the range of the options
    std::optional<double> output_error = {};   ///< on the validation data, before refinement, if anything was quantized
    std::optional<double> refined_error = {};  ///< after refinement, of the best with MagR and the best without if they compete
};

/// Outcome of `quantize_automatic`.
template <compute_scalar Scalar>
struct [[nodiscard]] automatic_result {
    layer_result<Scalar> layer;                   ///< of the chosen candidate, made from the fitting data, with its report
    std::vector<automatic_candidate> candidates;  ///< all candidates tried, in order of damping, penalty, range
    std::size_t chosen = 0;                       ///< which of them was chosen
    /// output error of the result, if there is one, on the validation data, which only made the choice
    std::optional<double> validation_error;

    /// Whether there is a quantized matrix.
    [[nodiscard]] explicit operator bool() const noexcept { return static_cast<bool>(layer); }
};

inline namespace MAGR_ISA_NAMESPACE {

/// Every problem of these options; empty if there is none.
[[nodiscard]] MAGR_CORE std::vector<std::string> problems(const automatic_options& options);

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar Scalar>
[[nodiscard]] automatic_result<Scalar> run_automatic(const matrix_ref& W, const matrix_ref& fitting, const matrix_ref& validation,
                                                     std::optional<index_t> fitting_tokens, std::optional<index_t> validation_tokens,
                                                     const automatic_options& options, executor_ref exec);

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/layer/automatic_impl.hpp>
#endif
