// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "support/catch.hpp"

/// Checks that `to_string` knows the enumerators 0, 1, .. of a type by these names, and no others.
template <class Enum>
void check_names(const std::vector<std::string>& names) {
    for (std::size_t k = 0; k < names.size(); ++k) CHECK(to_string(static_cast<Enum>(k)) == names[k]);
    CHECK(to_string(static_cast<Enum>(names.size())) == std::string("unknown"));
    CHECK(to_string(static_cast<Enum>(-1)) == std::string("unknown"));
}
