// SPDX-License-Identifier: MIT
#pragma once

#include <string>

#include "common/error.hpp"
#include "support/catch.hpp"

/// The message of the `input_error` that `action` throws; empty if it throws none.
template <class Action>
std::string refusal(Action&& action) {
    try {
        static_cast<void>(action());
    } catch (const examples::input_error& error) {
        return error.what();
    }
    return {};
}

/// Matches a message that contains `part`. Catch2 2 and 3 name this matcher differently.
inline auto mentions(const std::string& part) {
#if __has_include(<catch2/catch_all.hpp>)
    return Catch::Matchers::ContainsSubstring(part);
#else
    return Catch::Matchers::Contains(part);
#endif
}
