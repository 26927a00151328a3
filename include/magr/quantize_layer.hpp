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
#include <magr/calibration/live_gram.hpp>
#include <magr/detail/contract.hpp>
#include <magr/detail/convert.hpp>
#include <magr/detail/finite.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/preprocess.hpp>
#include <magr/quantize.hpp>

namespace magr {

/// Which quantizer chooses the codes.
enum class quantizer { rtn, optq };

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(quantizer value) noexcept {
    switch (value) {
        case quantizer::rtn: return "rtn";
        case quantizer::optq: return "optq";
    }
    return "unknown";
}

/// Which weights OPTQ rounds, once the grids have been fitted to the preprocessed ones.
enum class rounding_target {
    preprocessed,  ///< the output of MagR, as published
    original       ///< the original weights, on grids fitted to the output of MagR
};

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(rounding_target target) noexcept {
    switch (target) {
        case rounding_target::preprocessed: return "preprocessed";
        case rounding_target::original: return "original";
    }
    return "unknown";
}

/// Options of `quantize_layer`, step by step.
struct layer_options {
    magr::quantizer quantizer = quantizer::optq;                     ///< which quantizer chooses the codes
    grid_options grid = {};                                          ///< the grids; range: output_error unless told otherwise or beta < 1
    std::optional<preprocess_options> preprocessing = std::nullopt;  ///< MagR before the grids are fitted; default: none
    optq_options optq = {};  ///< of OPTQ; both quantizers obey its policies for dead columns and for an unusable H
    rounding_target target = rounding_target::preprocessed;       ///< which weights OPTQ rounds; `original` needs fixed groups
    index_t refinement_rounds = 3;                                ///< of scales, then codes, towards the original weights; >= 0
    std::optional<scale_refinement> scales = scale_refinement{};  ///< in each round; no value: scales stay unchanged
    std::optional<code_refinement> codes = code_refinement{};     ///< in each round; no value: codes stay unchanged
    index_t minimum_tokens = 0;                                   ///< with fewer calibration tokens H is unusable; >= 0
};

/// What `quantize_layer` did.
enum class layer_status {
    as_requested,          ///< everything that the options ask for
    damped_more,           ///< the same, but OPTQ needed more damping
    rounded_to_nearest,    ///< H was unusable: plain rounding of the original weights, as `fallback::round_to_nearest` allows
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
    index_t dead_columns = 0;                     ///< by the largest `dead_threshold` of the options, which holds for all steps
    std::optional<preprocess_result> preprocess;  ///< how MagR went, if it ran
    std::optional<optq_report> optq;              ///< how OPTQ went, if it ran; its errors are relative to the weights that it rounded
    /// all rounds together, if there were any; passes are those of codes. Both losses use the damping of codes, or that of scales if codes
    /// are not refined
    std::optional<refinement_result> refinement;
    index_t clipped = 0;          ///< weights of live columns more than half a step outside of their grid when they were rounded
    storage_limits limits;        ///< grids at the ends of what their storage type can hold
    double output_error_rtn = 0;  ///< of the original weights, rounded to nearest on grids of their own
    std::optional<double> output_error_preprocessed;  ///< of the output of MagR, before any rounding, if it ran
    double output_error = 0;                          ///< of the result

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
    own.require_enumerator("quantizer", options.quantizer);
    own.require_enumerator("target", options.target);
    own.require(options.refinement_rounds >= 0, "refinement_rounds", "at least 0", options.refinement_rounds);
    own.require(options.minimum_tokens >= 0, "minimum_tokens", "at least 0", options.minimum_tokens);
    own.require(options.target != rounding_target::original || options.optq.groups == group_update::fixed, "target",
                "preprocessed with live or stale groups", "original");
    add(own.take());
    return found;
}

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

/// Decides what the steps share: the range of the grids, and one threshold for dead columns, the largest.
[[nodiscard]] inline layer_options with_defaults(layer_options options) {
    if (!options.grid.range) options.grid.range = options.grid.beta == 1 ? range_search::output_error : range_search::min_max;
    double& threshold = options.optq.dead_threshold;
    threshold = (std::max)(threshold, options.grid.dead_threshold);
    if (options.scales) threshold = (std::max)(threshold, options.scales->dead_threshold);
    if (options.codes) threshold = (std::max)(threshold, options.codes->dead_threshold);
    return options;
}

/// Runs rounds of scales and codes. The losses are those before and after all rounds, with the damping of codes if codes are refined.
/// Scales that were refined with another damping are kept only if they lower that loss.
/// @param h       of a `live_gram`
template <compute_scalar Scalar, class T, class U>
[[nodiscard]] refinement_result refine(quantized_matrix<Scalar>& q, matrix_view<T> w, matrix_view<U> h, const layer_options& options,
                                       executor_ref exec) {
    refinement_result all;
    bool first = true;
    const auto add = [&](const refinement_result& step) {
        if (first) all.loss_before = step.loss_before;
        first = false;
        all.loss_after = step.loss_after;
        all.changes += step.changes;
        return step.changes > 0;
    };
    const auto scales_towards_codes = [&]() -> refinement_result {
        if (!options.codes || options.codes->damping == options.scales->damping) return run_refine_scales(q, w, h, *options.scales, exec);
        const double loss = first ? loss_of(q, w, h, options.codes->damping, exec) : all.loss_after;
        const quantized_matrix<Scalar> before = q;
        refinement_result step = run_refine_scales(q, w, h, *options.scales, exec);
        step.loss_before = loss;
        step.loss_after = loss_of(q, w, h, options.codes->damping, exec);
        if (step.loss_after <= loss) return step;
        q = before;
        return {.loss_before = loss, .loss_after = loss};
    };
    for (index_t round = 0; round < options.refinement_rounds; ++round) {
        bool changed = options.scales && add(scales_towards_codes());
        if (options.codes) {
            const refinement_result codes = run_refine_codes(q, w, h, *options.codes, exec);
            all.passes += codes.passes;
            changed = add(codes) || changed;
        }
        if (!changed) break;
    }
    return all;
}

/// A layer to quantize.
template <compute_scalar Scalar, class U>
class layer_input {
public:
    /// @param W  the original weights; if the policy says so, `weights()` has zeros in dead columns
    layer_input(const row_major_matrix<Scalar>& W, matrix_view<U> h, const layer_options& options)
        : W_(W), h_(h), gram_(h, options.optq.dead_threshold) {
        if (options.optq.dead == dead_columns::zero && gram_.has_dead()) zeroed_ = without_dead<Scalar>(as_const_view(W), gram_);
    }

    [[nodiscard]] const row_major_matrix<Scalar>& weights() const noexcept { return zeroed_.size() > 0 ? zeroed_ : W_; }
    [[nodiscard]] matrix_view<U> h() const noexcept { return h_; }
    [[nodiscard]] const live_gram<U>& gram() const noexcept { return gram_; }

    /// Restores the weights of dead columns, which MagR clips.
    void restore_dead(row_major_matrix<Scalar>& M) const {
        for (index_t j = 0; j < M.cols(); ++j)
            if (gram_.is_dead(j)) M.col(j) = weights().col(j);
    }

private:
    const row_major_matrix<Scalar>& W_;
    matrix_view<U> h_;
    live_gram<U> gram_;
    row_major_matrix<Scalar> zeroed_;
};

/// Chooses codes for the output of MagR, or for the weights themselves.
/// @param M       the weights that the grids are fitted to
/// @param grids   of M
/// @param plan    of OPTQ; null for rounding to nearest
template <compute_scalar Scalar, class U>
[[nodiscard]] layer_result<Scalar> choose_codes(const layer_input<Scalar, U>& in, const row_major_matrix<Scalar>& M,
                                                const weight_grids<Scalar>& grids, const optq_plan<Scalar>* plan,
                                                const layer_options& options, executor_ref exec) {
    layer_result<Scalar> result;
    result.dead_columns = in.gram().dead_columns();
    const auto h = in.gram().view();
    const auto target = as_const_view(options.target == rounding_target::original ? in.weights() : M);
    if (plan == nullptr) {
        result.status = layer_status::as_requested;
        result.quantized = round_onto_grids(target, grids, round_half_even{});
        result.clipped = count_clipped(target, in.gram(), grids);
        return result;
    }
    // a row that is one group has no earlier columns that could have changed its weights
    const bool fixed = options.optq.groups == group_update::fixed || groups_per_row(options.grid, target.cols()) == 1;
    auto optq = run_optq<Scalar>(target, h, *plan, fixed ? &grids : nullptr, options.grid, options.optq, exec);
    result.status = status_of(optq.status);
    result.clipped = optq.clipped;
    result.quantized = std::move(optq.quantized);
    result.optq = optq;
    return result;
}

/// Measures the error of OPTQ against the weights that it rounded, if the options ask for it and it is not known yet.
template <compute_scalar Scalar, class U>
void measure_optq(layer_result<Scalar>& result, const layer_input<Scalar, U>& in, const row_major_matrix<Scalar>& M,
                  const layer_options& options, executor_ref exec) {
    if (!result || !result.optq || !options.optq.measure_error) return;
    if (result.optq->output_error && !in.gram().is_copy()) return;
    const auto target = as_const_view(options.target == rounding_target::original ? in.weights() : M);
    result.optq->output_error = output_meter(target, in.h(), exec).error(target, result.quantized.dequantize().view(), exec);
}

/// Refines the chosen codes, or replaces them by plain rounding, and completes the report.
/// @param grids   of the weights without MagR; null if they are still to be fitted, for the report or for plain rounding
/// @param meter   of the original weights
template <compute_scalar Scalar, class U>
void complete(layer_result<Scalar>& result, const row_major_matrix<Scalar>& W, const layer_input<Scalar, U>& in,
              const weight_grids<Scalar>* grids, const output_meter& meter, const layer_options& options, executor_ref exec) {
    const auto w = as_const_view(W);
    const auto wanted = as_const_view(in.weights());
    quantized_matrix<Scalar> rtn = round_onto_grids(
        wanted, grids != nullptr ? *grids : fit_grids<Scalar>(wanted, in.gram().view(), options.grid, exec), round_half_even{});
    result.output_error_rtn = meter.error(w, rtn.dequantize().view(), exec);
    if (result.status == layer_status::rounded_to_nearest) {
        result.quantized = std::move(rtn);
        result.clipped = count_clipped(wanted, in.gram(), static_cast<const weight_grids<Scalar>&>(result.quantized));
    } else if (result && options.refinement_rounds > 0 && (options.scales || options.codes)) {
        result.refinement = refine(result.quantized, wanted, in.gram().view(), options, exec);
    }
    if (!result) return;
    result.limits = count_storage_limits(result.quantized);
    result.output_error = meter.error(w, result.quantized.dequantize().view(), exec);
    if (!detail::is_finite(result.output_error) && meter.has_energy()) {
        result.status = layer_status::overflowed;
        result.quantized = {};
    }
}

/// The reason not to use H with either quantizer; no value if H is usable. `rounded_to_nearest` means to do that instead.
template <compute_scalar Scalar, class U>
[[nodiscard]] std::optional<layer_status> objection_to(const layer_input<Scalar, U>& in, std::optional<index_t> tokens,
                                                       const layer_options& options) {
    if (in.gram().dead_columns() > 0 && options.optq.dead == dead_columns::refuse) return layer_status::dead_columns_refused;
    if (!tokens || *tokens >= options.minimum_tokens) return std::nullopt;
    return options.optq.on_failure == fallback::round_to_nearest ? layer_status::rounded_to_nearest : layer_status::too_few_tokens;
}

/// Works on a copy of W in the arithmetic type, so that all storage types share the code.
template <compute_scalar Scalar, class U>
[[nodiscard]] layer_result<Scalar> run_layer(const row_major_matrix<Scalar>& W, matrix_view<U> h, std::optional<index_t> tokens,
                                             const layer_options& given, executor_ref exec) {
    const layer_options options = with_defaults(given);
    const layer_input<Scalar, U> in(W, h, options);
    const output_meter meter(as_const_view(W), h, exec);
    std::optional<preprocess_result> preprocessed;
    std::optional<double> error_preprocessed;
    std::optional<layer_status> objection = objection_to(in, tokens, options);

    row_major_matrix<Scalar> M;
    if (!objection && options.preprocessing && in.gram().has_live()) {
        M = in.weights();
        preprocessed = preprocess(M, in.gram().view(), *options.preprocessing, ignore_progress{}, exec);
        in.restore_dead(M);
        error_preprocessed = meter.error(as_const_view(W), as_const_view(M), exec);
        if (preprocessed->stopped == stop_reason::not_factored)
            objection = options.optq.on_failure == fallback::round_to_nearest ? layer_status::rounded_to_nearest : layer_status::failed;
    }
    layer_result<Scalar> result;
    std::optional<weight_grids<Scalar>> grids;
    if (objection) {
        result.status = *objection;
        result.dead_columns = in.gram().dead_columns();
        if (objection == layer_status::dead_columns_refused && options.quantizer == quantizer::optq) {
            result.optq.emplace();
            result.optq->status = optq_status::dead_columns_refused;
            result.optq->dead_columns = result.dead_columns;
        }
    } else {
        const row_major_matrix<Scalar>& fitted = preprocessed ? M : in.weights();
        std::optional<optq_plan<Scalar>> plan;
        if (options.quantizer == quantizer::optq)
            plan = make_optq_plan<Scalar>(in.gram().view(), columns_per_group(options.grid, W.cols()), options.optq, exec);
        grids = fit_grids<Scalar>(as_const_view(fitted), in.gram().view(), options.grid, exec);
        result = choose_codes(in, fitted, *grids, plan ? &*plan : nullptr, options, exec);
        measure_optq(result, in, fitted, options, exec);
    }
    result.tokens = tokens;
    result.preprocess = preprocessed;
    result.output_error_preprocessed = error_preprocessed;
    complete(result, W, in, grids && !preprocessed ? &*grids : nullptr, meter, options, exec);
    return result;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// Quantizes the weights of one layer: MagR, grids, codes, refinement, and a report of what each did.
///
/// W' = preprocess(W);  grids = fit_grids(W');  Q = quantize_optq or quantize_rtn(W', grids);  refine_scales and refine_codes(Q, W)
///
/// Each step runs if the options ask for it. Weights of dead columns influence nothing: MagR does not see them, they get the grids of the
/// other weights of their groups, and their errors do not count. They are then rounded, or set to zero. H may be zero, if all inputs are
/// dead; then MagR is skipped and grids are fitted to the weights. There is no silent fallback: `status` reports any substitution, and
/// `optq.on_failure = fallback::none` forbids all of them.
///
/// @par Shapes    W: rows x cols, any storage and layout; H: cols x cols, any storage and layout; neither is written
/// @param exec    runs all steps
/// @return        codes and grids with a report; look at `status`
/// @par Cost      the sum of its steps, and for the report two or three products of rows * cols^2 / 2 multiply-adds in double
/// @par Numerics  that of its steps; the same bits for every executor; 16-bit weights are preprocessed in float and not rounded back before
///                they are quantized
/// @par Errors    option_error, with every problem of all options; shape_error; value_error if an entry is NaN or infinite, or H is not a
///                Gram matrix. All before any work
template <class Weights, class Gram>
    requires dense_matrix<const Gram>
auto quantize_layer(const Weights& W, const Gram& H, const layer_options& options = {}, executor_ref exec = {}) {
    const auto w = as_const_view(W);
    const auto h = as_const_view(H);
    using scalar = compute_t<typename decltype(w)::value_type>;
    validate(options);
    detail::require_layer("quantize_layer", w, h, exec);
    return detail::run_layer(detail::load<scalar>(w), h, std::nullopt, options, exec);
}

/// The same with the Gram matrix of an accumulator; the report then includes its number of tokens.
/// @par Errors    also value_error if the accumulator has seen no token
template <class Weights, compute_scalar Sum>
auto quantize_layer(const Weights& W, const gram_accumulator<Sum>& calibration, const layer_options& options = {}, executor_ref exec = {}) {
    const auto w = as_const_view(W);
    using scalar = compute_t<typename decltype(w)::value_type>;
    validate(options);
    detail::require_not_empty("quantize_layer", "W", w);
    const matrix<Sum> gram = calibration.gram(exec);
    const auto h = gram.view();
    detail::require_gram("quantize_layer", "calibration", h, w.cols());
    detail::require_finite("quantize_layer", "W", w);
    return detail::run_layer(detail::load<scalar>(w), h, calibration.tokens(), options, exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
