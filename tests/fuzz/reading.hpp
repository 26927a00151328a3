// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "common/error.hpp"
#include "examples/scratch_folder.hpp"

/// Shared by the fuzz targets of the examples' readers. A target is the function that libFuzzer calls with ever new bytes. The ordinary
/// tests replay its corpus, corpus/<target> (replay.cpp).

/// The bytes of an input, as text.
inline std::string_view text_of(const std::uint8_t* data, std::size_t size) { return {reinterpret_cast<const char*>(data), size}; }

/// Ends the program, which reports a bug.
inline void require(bool holds) {
    if (!holds) std::abort();
}

/// Runs `reader` on a file with these contents. It may finish, or refuse them with an `input_error` of one printable line. Any other
/// exception ends the program.
template <class Reader>
void read_or_refuse(const char* file_name, std::string_view contents, Reader&& reader) {
    static const scratch_folder folder;
    const auto path = folder.write(file_name, std::string(contents));
    try {
        reader(path);
    } catch (const examples::input_error& error) {
        const std::string_view message = error.what();
        require(message.starts_with(folder.path().string()));  // it names the file, of those that belong together
        for (const char c : message) require(static_cast<unsigned char>(c) >= ' ' && c != '\x7f');
    }
}

/// Calls `use` with the text up to and including its last `}` (all of it if there is none) and with the rest. They become the header and
/// the data of a file whose header states its length, so the fuzzer need not learn to keep that length right.
template <class Use>
void split_after_header(std::string_view text, Use&& use) {
    const std::size_t brace = text.rfind('}');
    const std::size_t length = brace == std::string_view::npos ? text.size() : brace + 1;
    use(std::string(text.substr(0, length)), std::string(text.substr(length)));
}
