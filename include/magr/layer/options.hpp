// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <magr/detail/validate.hpp>
#include <magr/grid/grid.hpp>
#include <magr/preprocess/options.hpp>
#include <magr/quantize/optq_options.hpp>
#include <magr/refine/refine_rounds.hpp>

namespace magr {

/// Which quantizer chooses the codes.
enum class layer_quantizer { rtn, optq };

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(layer_quantizer value) noexcept {
    switch (value) {
        case layer_quantizer::rtn: return "rtn";
        case layer_quantizer::optq: return "optq";
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
    layer_quantizer quantizer = layer_quantizer::optq;  ///< which quantizer chooses the codes
    grid_options grid = {};                             ///< the grids; range: output_error unless told otherwise or range_factor < 1
    /// MagR before the grids are fitted, with their group size unless told otherwise; default: none
    std::optional<preprocess_options> preprocess = std::nullopt;
    optq_options optq = {};  ///< of OPTQ; both quantizers obey its policies for dead columns and for an unusable H
    rounding_target target = rounding_target::preprocessed;  ///< which weights OPTQ rounds; `original` needs fixed groups
    refinement_options refinement = {};                      ///< of the chosen codes; rounds = 0: none
    index_t minimum_tokens = 0;                              ///< with fewer calibration tokens H is unusable; >= 0
    bool measure_rtn = false;  ///< whether to compute `layer_result::output_error_rtn`; after MagR this takes grids of its own
};

inline namespace MAGR_ISA_NAMESPACE {

/// Every problem of these options; empty if there is none.
[[nodiscard]] MAGR_CORE std::vector<std::string> problems(const layer_options& options);

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/layer/options_impl.hpp>
#endif
