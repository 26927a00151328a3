// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include <magr/calibration/gram.hpp>
#include <magr/detail/contract.hpp>
#include <magr/detail/convert.hpp>
#include <magr/detail/finite.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/parallel/executor.hpp>
#include <magr/preprocess.hpp>
#include <magr/quantize.hpp>

namespace magr {

/// Which quantizer chooses the codes.
enum class quantizer { rtn, optq };

/// Which weights OPTQ rounds, once the grids have been fitted to the preprocessed ones.
enum class rounding_target {
    preprocessed,  ///< those that MagR made, as published
    original       ///< the original ones, on the grids of those that MagR made
};

/// From weights to codes, step by step.
struct layer_options {
    magr::quantizer quantizer = quantizer::optq;                     ///< which quantizer chooses the codes
    grid_options grid = {};                                          ///< the grids; range: output_error unless told otherwise or beta < 1
    std::optional<preprocess_options> preprocessing = std::nullopt;  ///< MagR before the grids are fitted; default: none
    optq_options optq = {};                                          ///< OPTQ, and what happens if H does not serve
    rounding_target target = rounding_target::preprocessed;          ///< which weights OPTQ rounds; original needs fixed groups
    index_t refinement_rounds = 3;                                   ///< of scales, then codes, towards the original weights; >= 0
    std::optional<scale_refinement> scales = scale_refinement{};     ///< in each round; nothing: scales stay as they are
    std::optional<code_refinement> codes = code_refinement{};        ///< in each round; nothing: codes stay as they are
    index_t minimum_tokens = 0;                                      ///< fewer calibration tokens than this do not serve, >= 0
};

/// What `quantize_layer` did.
enum class layer_status {
    as_requested,          ///< everything, as the options say
    damped_more,           ///< the same, but OPTQ needed more damping
    rounded_to_nearest,    ///< H did not serve: plain rounding of the original weights, as `fallback::round_to_nearest` allows
    too_few_tokens,        ///< nothing: H is from fewer tokens than `minimum_tokens`
    dead_columns_refused,  ///< nothing: there are dead columns, which `dead_columns::refuse` forbids
    failed,                ///< nothing: H could not be factored as far as `fallback` allows
    overflowed             ///< nothing: weights or errors left the range of numbers
};

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(layer_status status) noexcept {
    switch (status) {
        case layer_status::as_requested: return "as_requested";
        case layer_status::damped_more: return "damped_more";
        case layer_status::rounded_to_nearest: return "rounded_to_nearest";
        case layer_status::too_few_tokens: return "too_few_tokens";
        case layer_status::dead_columns_refused: return "dead_columns_refused";
        case layer_status::failed: return "failed";
        case layer_status::overflowed: return "overflowed";
    }
    return "unknown";
}

/// Outcome of `quantize_layer`. Output errors are tr((V - W) H (V - W)^T) / tr(W H W^T) with the original weights W.
template <compute_scalar Scalar>
struct [[nodiscard]] layer_result {
    quantized_matrix<Scalar> quantized;           ///< empty (0 x 0) if `status` says that nothing was quantized
    layer_status status = layer_status::failed;   ///< what was done
    std::optional<index_t> tokens;                ///< calibration tokens seen, if known
    std::optional<preprocess_result> preprocess;  ///< how MagR went, if it ran
    std::optional<optq_report> optq;              ///< how OPTQ went, if it ran; its errors are relative to the weights that it rounded
    std::optional<refinement_result> refinement;  ///< all rounds together, if there were any; passes are those of codes
    index_t clipped = 0;                          ///< weights more than half a step outside of their grid when they were rounded
    storage_limits limits;                        ///< grids at the ends of what their storage type can hold
    double output_error_rtn = 0;                  ///< of the original weights, rounded to nearest on grids of their own
    double output_error_preprocessed = 0;         ///< of what MagR made of them, before any rounding; 0 without MagR
    double output_error = 0;                      ///< of the result

    /// Whether there is a quantized matrix.
    [[nodiscard]] explicit operator bool() const noexcept { return !quantized.codes.empty(); }
};

inline namespace MAGR_ISA_NAMESPACE {

/// What is wrong with these options; empty if nothing is.
[[nodiscard]] inline std::vector<std::string> problems(const layer_options& options) {
    std::vector<std::string> found;
    const auto add = [&](std::vector<std::string> more) { found.insert(found.end(), more.begin(), more.end()); };
    add(problems(options.grid));
    if (options.preprocessing) add(problems(*options.preprocessing));
    add(problems(options.optq));
    if (options.scales) add(problems(*options.scales));
    if (options.codes) add(problems(*options.codes));
    detail::problem_list own("layer_options");
    own.require(options.refinement_rounds >= 0, "refinement_rounds", "at least 0", options.refinement_rounds);
    own.require(options.minimum_tokens >= 0, "minimum_tokens", "at least 0", options.minimum_tokens);
    own.require(options.target == rounding_target::preprocessed || options.optq.groups == group_update::fixed, "target",
                "preprocessed with live or stale groups", "original");
    add(own.take());
    return found;
}

/// Refuses options outside of their documented range.
/// @par Errors    option_error, with all problems
inline void validate(const layer_options& options) { detail::refuse_problems(problems(options)); }

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

[[nodiscard]] inline layer_status status_of(optq_status status) {
    switch (status) {
        case optq_status::as_requested: return layer_status::as_requested;
        case optq_status::damped_more: return layer_status::damped_more;
        case optq_status::rounded_to_nearest: return layer_status::rounded_to_nearest;
        case optq_status::dead_columns_refused: return layer_status::dead_columns_refused;
        case optq_status::overflowed: return layer_status::overflowed;
        case optq_status::failed: break;
    }
    return layer_status::failed;
}

/// The options with the range of the grids decided.
[[nodiscard]] inline layer_options with_range(layer_options options) {
    if (!options.grid.range) options.grid.range = options.grid.beta == 1 ? range_search::output_error : range_search::min_max;
    return options;
}

/// Rounds of scales and codes; the losses of all of them as one.
template <compute_scalar Scalar, class T, class U, class Executor>
[[nodiscard]] refinement_result refine(quantized_matrix<Scalar>& q, matrix_view<T> w, matrix_view<U> h, const layer_options& options,
                                       Executor& exec) {
    refinement_result all;
    bool first = true;
    const auto add = [&](const refinement_result& step) {
        if (first) all.loss_before = step.loss_before;
        first = false;
        all.loss_after = step.loss_after;
        all.changes += step.changes;
        return step.changes > 0;
    };
    for (index_t round = 0; round < options.refinement_rounds; ++round) {
        bool changed = options.scales && add(refine_scales(q, w, h, *options.scales, exec));
        if (options.codes) {
            const refinement_result codes = refine_codes(q, w, h, *options.codes, exec);
            all.passes += codes.passes;
            changed = add(codes) || changed;
        }
        if (!changed) break;
    }
    return all;
}

/// On a copy of W in the arithmetic type, so that all storage types share the code.
template <compute_scalar Scalar, class U, executor Executor>
[[nodiscard]] layer_result<Scalar> run_layer(const row_major_matrix<Scalar>& W, matrix_view<U> h, std::optional<index_t> tokens,
                                             const layer_options& options, Executor& exec) {
    const auto w = as_const_view(W);
    layer_result<Scalar> result;
    result.tokens = tokens;
    const grid_options grid = with_range(options).grid;
    const output_meter meter(w, h, exec);
    quantized_matrix<Scalar> rtn = round_onto_grids(w, fit_grids<Scalar>(w, h, grid, exec), round_half_even{});
    result.output_error_rtn = meter.error(w, rtn.dequantize().view(), exec);

    const bool too_few = tokens && *tokens < options.minimum_tokens;
    if (too_few && options.optq.on_failure != fallback::round_to_nearest) {
        result.status = layer_status::too_few_tokens;
        return result;
    }

    row_major_matrix<Scalar> target = W;
    weight_grids<Scalar> grids = rtn;
    bool serves = !too_few;  // whether anything may be made of H
    if (options.preprocessing && serves) {
        result.preprocess = preprocess(target, h, *options.preprocessing, ignore_progress{}, exec);
        serves = result.preprocess->stopped != stop_reason::not_factored;
        if (!serves && options.optq.on_failure != fallback::round_to_nearest) {
            result.status = layer_status::failed;
            return result;
        }
        result.output_error_preprocessed = meter.error(w, as_const_view(target), exec);
        grids = fit_grids<Scalar>(as_const_view(target), h, grid, exec);
        if (options.target == rounding_target::original) target = W;
    }
    if (options.quantizer == quantizer::optq && serves) {
        const bool fixed = options.optq.groups == group_update::fixed;
        auto optq = run_optq<Scalar>(as_const_view(target), h, fixed ? &grids : nullptr, grid, options.optq, exec);
        result.optq = optq;
        result.status = status_of(optq.status);
        result.clipped = optq.clipped;
        if (!optq && optq.status != optq_status::rounded_to_nearest) return result;
        result.quantized = std::move(optq.quantized);
    } else {
        result.status = serves ? layer_status::as_requested : layer_status::rounded_to_nearest;
    }
    if (options.quantizer == quantizer::rtn && serves) {
        result.quantized = round_onto_grids(as_const_view(target), grids, round_half_even{});
        result.clipped = count_clipped(as_const_view(target), grids);
    }
    if (result.status == layer_status::rounded_to_nearest) {
        result.quantized = std::move(rtn);
        result.clipped = count_clipped(w, static_cast<const weight_grids<Scalar>&>(result.quantized));
    } else if (options.refinement_rounds > 0 && (options.scales || options.codes)) {
        result.refinement = refine(result.quantized, w, h, options, exec);
    }
    result.limits = count_storage_limits(result.quantized);
    result.output_error = meter.error(w, result.quantized.dequantize().view(), exec);
    if (is_nan(result.output_error)) {
        result.status = layer_status::overflowed;
        result.quantized = {};
    }
    return result;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// Quantizes the weights of one layer: MagR, grids, codes, refinement, and a report of what each did.
///
/// W' = preprocess(W);  grids = fit_grids(W');  Q = quantize_optq or quantize_rtn(W', grids);  refine_scales and refine_codes(Q, W)
///
/// each if the options ask for it. Nothing is ever put in the place of what was asked for without `status` saying so; with
/// `optq.on_failure = fallback::none` nothing is put in its place at all.
///
/// @par Shapes    W: rows x cols, any storage and layout; H: cols x cols, any storage and layout; neither is written
/// @param exec    what runs all steps
/// @return        codes and grids, and how it went; look at `status`
/// @par Cost      the sum of its steps, and for the report two or three products of rows * cols^2 / 2 multiply-adds in double
/// @par Numerics  that of its steps, the same bits for every executor; 16-bit weights are preprocessed in float and not rounded back before
/// they are quantized
/// @par Errors    option_error, with every problem of all options; shape_error; value_error if an entry is NaN or infinite, or H is not a
///                Gram matrix. All before any work
template <class Weights, class Gram, executor Executor = serial_executor>
    requires dense_matrix<const Gram>
auto quantize_layer(const Weights& W, const Gram& H, const layer_options& options = {}, Executor&& exec = {}) {
    const auto w = as_const_view(W);
    const auto h = as_const_view(H);
    using scalar = compute_t<typename decltype(w)::value_type>;
    validate(options);
    detail::require_layer("quantize_layer", w, h, exec);
    return detail::run_layer(detail::load<scalar>(w), h, std::nullopt, options, exec);
}

/// The same for the Gram matrix that an accumulator has gathered, whose number of tokens is then part of the report.
/// @par Errors    also value_error if it has seen no token
template <class Weights, compute_scalar Sum, executor Executor = serial_executor>
auto quantize_layer(const Weights& W, gram_accumulator<Sum>& calibration, const layer_options& options = {}, Executor&& exec = {}) {
    const auto w = as_const_view(W);
    using scalar = compute_t<typename decltype(w)::value_type>;
    validate(options);
    detail::require_not_empty("quantize_layer", "W", w);
    const auto h = as_const_view(calibration.gram());
    detail::require_gram("quantize_layer", "calibration", h, w.cols());
    detail::require_finite("quantize_layer", "W", w);
    return detail::run_layer(detail::load<scalar>(w), h, calibration.tokens(), options, exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
