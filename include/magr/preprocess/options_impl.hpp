// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <vector>

#include <magr/detail/contract.hpp>
#include <magr/detail/finite.hpp>
#include <magr/preprocess/options.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

MAGR_CORE std::vector<std::string> problems(const preprocess_options& options) {
    detail::problem_list found("preprocess_options");
    const auto not_negative = [](double value) { return detail::is_finite(value) && value >= 0; };
    found.require(not_negative(options.alpha.value_or(0)), "alpha", "finite and at least 0", options.alpha.value_or(0));
    found.require(options.group_size.value_or(1) >= 1, "group_size", "at least 1", options.group_size.value_or(1));
    found.require_enumerator("solver", options.solver);
    found.require(not_negative(options.damping.value_or(0)), "damping", "finite and at least 0", options.damping.value_or(0));
    found.require(options.max_iterations.value_or(1) >= 1, "max_iterations", "at least 1", options.max_iterations.value_or(1));
    found.require(not_negative(options.tolerance.value_or(0)), "tolerance", "finite and at least 0", options.tolerance.value_or(0));
    found.require(detail::is_finite(options.rho.value_or(1)) && options.rho.value_or(1) > 0, "rho", "finite and above 0",
                  options.rho.value_or(1));
    found.require(options.relaxation > 0 && options.relaxation < 2, "relaxation", "between 0 and 2 exclusively", options.relaxation);
    return found.take();
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
