// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <cstddef>
#include <string>
#include <vector>

#include <magr/config.hpp>
#include <magr/error.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Refuses options with problems, naming all of them.
MAGR_COLD inline void refuse_problems(const std::vector<std::string>& problems) {
    if (problems.empty()) return;
    std::string message = problems.front();
    for (std::size_t i = 1; i < problems.size(); ++i) message += "; " + problems[i];
    raise<option_error>(message);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

/// Refuses options that are outside of their documented ranges: those of which `problems` has something to say.
/// @par Errors    option_error, with all problems
template <class Options>
    requires requires(const Options& options) {
        { problems(options) } -> std::same_as<std::vector<std::string>>;
    }
void validate(const Options& options) {
    detail::refuse_problems(problems(options));
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
