// SPDX-License-Identifier: MIT
#pragma once

#include <stdexcept>
#include <string>

#include "common/text_stream.hpp"

namespace examples {

/// What the user gave cannot be worked with: a file, an option. The message is one line and names it; programs print it and exit with 2.
class input_error : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// Throws an `input_error` whose message is the concatenation of `parts`. They may quote a file, so control characters, which could end
/// the line or steer a terminal, become `?`.
template <class... Parts>
[[noreturn]] void refuse(const Parts&... parts) {
    text_stream text;
    (text << ... << parts);
    std::string message = text.str();
    for (char& c : message)
        if (static_cast<unsigned char>(c) < ' ' || c == '\x7f') c = '?';
    throw input_error(message);
}

}  // namespace examples
