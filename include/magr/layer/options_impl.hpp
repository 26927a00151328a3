// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <vector>

#include <magr/detail/contract.hpp>
#include <magr/layer/options.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

MAGR_CORE std::vector<std::string> problems(const layer_options& options) {
    detail::problem_list own("layer_options");
    own.add_all(problems(options.grid));
    if (options.preprocess) own.add_all(problems(*options.preprocess));
    own.add_all(problems(options.optq));
    own.add_all(problems(options.refinement));
    own.require_enumerator("quantizer", options.quantizer);
    own.require_enumerator("target", options.target);
    own.require(options.minimum_tokens >= 0, "minimum_tokens", "at least 0", options.minimum_tokens);
    own.require(options.target != rounding_target::original || options.optq.groups == group_update::fixed, "target",
                "preprocessed with live or stale groups", "original");
    return own.take();
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
