// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <magr/calibration/column_order.hpp>
#include <magr/config.hpp>
#include <magr/detail/validate.hpp>
#include <magr/feedback/factor_precision.hpp>

namespace magr {

/// Which weights the grids of groups are fitted to during a sequential quantization.
enum class group_update {
    fixed,  ///< the weights passed in; groups are neighbouring columns, in every order of processing
    live,   ///< the weights as compensated when the group is reached; with act_order groups are formed in the order of processing
    stale   ///< like live, but compensated only for the blocks before the current one, as in the published OPTQ code
};

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(group_update update) noexcept {
    switch (update) {
        case group_update::fixed: return "fixed";
        case group_update::live: return "live";
        case group_update::stale: return "stale";
    }
    return "unknown";
}

/// What happens to the weights of dead columns, whose input was zero, or nearly so, during all of the calibration.
enum class dead_columns {
    round,  ///< rounded to nearest, on grids fitted to the other weights: to the end of the grid if they are outside
    zero,   ///< set to zero, as in the published OPTQ code, or to the nearest weight on grids without 0
    refuse  ///< nothing is quantized, and the result says so
};

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(dead_columns policy) noexcept {
    switch (policy) {
        case dead_columns::round: return "round";
        case dead_columns::zero: return "zero";
        case dead_columns::refuse: return "refuse";
    }
    return "unknown";
}

/// What happens if H cannot be factored with the damping asked for.
enum class factor_fallback {
    none,             ///< nothing is quantized
    more_damping,     ///< more damping, see `factor_feedback`; if that does not help either, nothing is quantized
    round_to_nearest  ///< more damping; if that does not help either, plain rounding
};

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(factor_fallback value) noexcept {
    switch (value) {
        case factor_fallback::none: return "none";
        case factor_fallback::more_damping: return "more_damping";
        case factor_fallback::round_to_nearest: return "round_to_nearest";
    }
    return "unknown";
}

/// How weights are rounded to their grids.
enum class rounding_mode {
    nearest,    ///< `round_half_even`
    stochastic  ///< `stochastic_rounding`
};

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(rounding_mode mode) noexcept {
    switch (mode) {
        case rounding_mode::nearest: return "nearest";
        case rounding_mode::stochastic: return "stochastic";
    }
    return "unknown";
}

/// Options of `quantize_optq`; `grid_options` describe the grids.
struct optq_options {
    double damping = 1e-2;  ///< added to diag(H), as a fraction of its mean over live columns, >= 0; see also `weaken_correlations`
    /// columns per matrix product, >= 1; default: 96, a multiple of the columns that kernels take at once, or with stale groups, where it
    /// changes the result, the published 128
    std::optional<index_t> block_size = {};
    column_order order = column_order::natural;                  ///< in which order columns are quantized
    group_update groups = group_update::fixed;                   ///< which weights the grids of groups are fitted to
    dead_columns dead = dead_columns::round;                     ///< what happens to dead columns
    double dead_threshold = 0;                                   ///< columns with H_jj <= this fraction of the mean are dead, in [0, 1)
    factor_fallback on_failure = factor_fallback::more_damping;  ///< what happens if H cannot be factored
    rounding_mode rounding = rounding_mode::nearest;             ///< how weights are rounded
    std::uint64_t seed = 0;                                      ///< of stochastic rounding
    factor_precision precision = factor_precision::automatic;    ///< in which H is factored
    /// whether to compute `optq_report::output_error`, a third of the time; default: yes, but not in `quantize_layer`, whose report
    /// measures the final result
    std::optional<bool> measure_error = {};
};

inline namespace MAGR_ISA_NAMESPACE {

/// Every problem of these options; empty if there is none.
[[nodiscard]] MAGR_CORE std::vector<std::string> problems(const optq_options& options);

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

[[nodiscard]] inline index_t columns_per_block(const optq_options& options) noexcept {
    return options.block_size.value_or(options.groups == group_update::stale ? 128 : 96);
}
[[nodiscard]] inline bool measures_error(const optq_options& options) noexcept { return options.measure_error.value_or(true); }

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/quantize/optq_options_impl.hpp>
#endif
