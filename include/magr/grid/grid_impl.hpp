// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <magr/detail/contract.hpp>
#include <magr/detail/finite.hpp>
#include <magr/grid/grid.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

MAGR_CORE std::vector<std::string> problems(const grid_options& options) {
    detail::problem_list found("grid_options");
    found.require(options.bits >= 2 && options.bits <= 8, "bits", "in 2..8", options.bits);
    found.require_enumerator("zero_point", options.zero_point);
    if (options.group_size) found.require(*options.group_size >= 1, "group_size", "at least 1", *options.group_size);
    found.require_enumerator("storage", options.storage);
    found.require_enumerator("range", options.range.value_or(range_search::min_max));
    found.require_enumerator("candidates", options.candidates);
    found.require_enumerator("shrink_towards", options.shrink_towards);
    found.require(options.error_exponent >= 1 && options.error_exponent <= 8, "error_exponent", "in [1, 8]", options.error_exponent);
    found.require(options.range_factor > 0 && options.range_factor <= 1, "range_factor", "in (0, 1]", options.range_factor);
    found.require(options.dead_threshold >= 0 && options.dead_threshold < 1, "dead_threshold", "in [0, 1)", options.dead_threshold);
    if (options.range.value_or(range_search::min_max) != range_search::min_max && options.range_factor > 0 && options.range_factor <= 1)
        found.require(options.range_factor == 1, "range_factor", "1 with a search, which finds the shrink itself", options.range_factor);
    if (options.levels.empty()) return found.take();

    const auto& levels = options.levels;
    const auto count = static_cast<index_t>(levels.size());
    found.require(options.zero_point == zero_point::none, "zero_point", "none with levels", "another");
    if (options.bits >= 2 && options.bits <= 8)
        found.require(count >= 2 && count <= (index_t{1} << options.bits), "levels", "2 to 2^bits numbers", count);
    const auto not_too_large = [](double level) { return detail::is_finite(level) && std::abs(level) <= largest_level; };
    const bool in_range = std::all_of(levels.begin(), levels.end(), not_too_large);
    found.require(in_range, "levels", "finite and at most 1e6", "not");
    const auto not_below = [](double a, double b) { return !(static_cast<float>(a) < static_cast<float>(b)); };
    found.require(!in_range || std::adjacent_find(levels.begin(), levels.end(), not_below) == levels.end(), "levels",
                  "in increasing order, also as float", "not");
    found.require(std::any_of(levels.begin(), levels.end(), [](double level) { return std::abs(level) >= 1e-6; }), "levels",
                  "not all below 1e-6", "so");
    return found.take();
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
