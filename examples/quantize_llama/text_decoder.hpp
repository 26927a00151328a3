// SPDX-License-Identifier: MIT
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "quantize_llama/config.hpp"

namespace examples {

/// Turns token ids into text for display.
///
/// Uses the vocabulary of the folder's tokenizer.json (sentencepiece's "▁" and <0xNN>, or GPT-2's alphabet of bytes), else takes ids as
/// bytes if there are 256 of them, else prints the numbers. Special tokens are left out.
class text_decoder {
public:
    /// @throws input_error  if there is a tokenizer.json that cannot be read
    text_decoder(const std::filesystem::path& folder, const llama_config& config);

    /// Valid UTF-8 without control characters other than the newline.
    [[nodiscard]] std::string text(std::span<const token> ids) const;

private:
    void read_tokenizer(const std::filesystem::path& file);

    std::vector<std::string> pieces_;  ///< bytes of each id; empty if ids are printed as numbers
};

/// Replaces what is not UTF-8, and control characters other than the newline, by U+FFFD.
[[nodiscard]] std::string printable(std::string_view bytes);

}  // namespace examples
