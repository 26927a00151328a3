// SPDX-License-Identifier: MIT
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace examples {

/// What the user gave cannot be worked with: a file, an option. The message is one line and names it; programs print it and exit with 2.
class input_error : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// Throws an `input_error` whose message is the concatenation of `parts`.
template <class... Parts>
[[noreturn]] void refuse(const Parts&... parts) {
    std::ostringstream text;
    (text << ... << parts);
    throw input_error(text.str());
}

}  // namespace examples
