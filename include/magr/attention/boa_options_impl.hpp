// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <vector>

#include <magr/attention/boa_options.hpp>
#include <magr/detail/contract.hpp>
#include <magr/detail/finite.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

MAGR_CORE std::vector<std::string> problems(const boa_options& options) {
    detail::problem_list found("boa_options");
    found.require(options.damping >= 0 && detail::is_finite(options.damping), "damping", "at least 0 and finite", options.damping);
    found.require_enumerator("order", options.order);
    found.require(options.row_order == column_order::natural || options.row_order == column_order::act_order, "row_order",
                  "natural or act_order", static_cast<int>(options.row_order));
    found.require(options.rows_per_step >= 1, "rows_per_step", "at least 1", options.rows_per_step);
    found.require(options.scale_passes >= 0, "scale_passes", "at least 0", options.scale_passes);
    found.require(options.dead_threshold >= 0 && options.dead_threshold < 1, "dead_threshold", "in [0, 1)", options.dead_threshold);
    return found.take();
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
