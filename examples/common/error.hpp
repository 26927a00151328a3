// SPDX-License-Identifier: MIT
#pragma once

#include <stdexcept>
#include <string>

#include "common/text_stream.hpp"

namespace examples {

/// Something that the user gave is unusable: a file, an option. The message is one line and names it; programs print it and exit with 2.
class input_error : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// The concatenation of `parts` on one line. They may quote a file or a name, so control characters, which could end the line or steer a
/// terminal, become `?`.
template <class... Parts>
[[nodiscard]] std::string one_line(const Parts&... parts) {
    text_stream text;
    (text << ... << parts);
    std::string line = text.str();
    for (char& c : line)
        if (static_cast<unsigned char>(c) < ' ' || c == '\x7f') c = '?';
    return line;
}

/// Throws an `input_error` with such a line.
template <class... Parts>
[[noreturn]] void refuse(const Parts&... parts) {
    throw input_error(one_line(parts...));
}

}  // namespace examples
