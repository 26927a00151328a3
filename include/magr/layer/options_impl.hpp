// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <vector>

#include <magr/detail/contract.hpp>
#include <magr/layer/options.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

MAGR_CORE std::vector<std::string> problems(const refinement_options& options) {
    detail::problem_list own("refinement_options");
    own.require(options.rounds >= 0, "rounds", "at least 0", options.rounds);
    std::vector<std::string> found = own.take();
    const auto add = [&](const std::vector<std::string>& more) { found.insert(found.end(), more.begin(), more.end()); };
    if (options.scales) add(problems(*options.scales));
    if (options.codes) add(problems(*options.codes));
    return found;
}

MAGR_CORE std::vector<std::string> problems(const layer_options& options) {
    std::vector<std::string> found;
    const auto add = [&](std::vector<std::string> more) { found.insert(found.end(), more.begin(), more.end()); };
    add(problems(options.grid));
    if (options.preprocess) add(problems(*options.preprocess));
    add(problems(options.optq));
    add(problems(options.refinement));
    detail::problem_list own("layer_options");
    own.require_enumerator("quantizer", options.quantizer);
    own.require_enumerator("target", options.target);
    own.require(options.minimum_tokens >= 0, "minimum_tokens", "at least 0", options.minimum_tokens);
    own.require(options.target != rounding_target::original || options.optq.groups == group_update::fixed, "target",
                "preprocessed with live or stale groups", "original");
    add(own.take());
    return found;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
