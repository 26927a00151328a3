// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <vector>

#include <magr/detail/contract.hpp>
#include <magr/detail/finite.hpp>
#include <magr/quantize/optq_options.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

MAGR_CORE std::vector<std::string> problems(const optq_options& options) {
    detail::problem_list found("optq_options");
    found.require(options.damping >= 0 && detail::is_finite(options.damping), "damping", "at least 0 and finite", options.damping);
    found.require(options.block_size.value_or(1) >= 1, "block_size", "at least 1", options.block_size.value_or(1));
    found.require_enumerator("order", options.order);
    found.require_enumerator("groups", options.groups);
    found.require_enumerator("dead", options.dead);
    found.require(options.dead_threshold >= 0 && options.dead_threshold < 1, "dead_threshold", "in [0, 1)", options.dead_threshold);
    found.require_enumerator("on_failure", options.on_failure);
    found.require_enumerator("rounding", options.rounding);
    found.require_enumerator("precision", options.precision);
    return found.take();
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
