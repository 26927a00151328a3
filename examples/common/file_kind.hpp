// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cctype>
#include <string>
#include <string_view>

namespace examples {

/// What a file is that lies where another kind was expected, judged by its beginning: the usual accidents of downloading. Empty if it is
/// none of them.
[[nodiscard]] inline std::string_view mistaken_kind(std::string_view contents) {
    constexpr std::size_t enough = 64;
    std::string beginning(contents.substr(0, enough));
    std::transform(beginning.begin(), beginning.end(), beginning.begin(),
                   [](char c) { return static_cast<char>(std::tolower(static_cast<unsigned char>(c))); });
    const std::size_t visible = beginning.find_first_not_of(" \t\r\n");
    const std::string_view text = visible == std::string::npos ? std::string_view() : std::string_view(beginning).substr(visible);
    if (text.starts_with("version https://git-lfs") || text.starts_with("version https://hawser"))
        return "a pointer of Git LFS in place of the file, which `git lfs pull` fetches";
    if (text.starts_with("<!doctype html") || text.starts_with("<html")) return "a page of HTML, as a download that failed leaves";
    if (text.starts_with("<?xml")) return "an XML text, as a download that failed leaves";
    if (contents.starts_with("PK\x03\x04"))
        return "a zip archive; weights saved by torch.save are one, and must be converted to safetensors";
    if (contents.starts_with("\x1f\x8b")) return "compressed by gzip";
    if (contents.starts_with("GGUF")) return "a GGUF file";
    return {};
}

}  // namespace examples
