// SPDX-License-Identifier: MIT
#include <algorithm>

#include "quantize_llama/text_decoder.hpp"
#include "reading.hpp"

namespace {

/// Each id must have a text, and the text must be printable.
void read_all(const std::filesystem::path& path) {
    examples::llama_config config;
    config.vocab_size = 5;
    const examples::text_decoder decoder(path.parent_path(), config);
    for (examples::token id = 0; id < config.vocab_size; ++id) {
        const std::string text = decoder.text(std::span(&id, 1));
        require(text == examples::printable(text));
        require(std::none_of(text.begin(), text.end(), [](char c) { return (c >= 0 && c < ' ' && c != '\n') || c == '\x7f'; }));
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    read_or_refuse("tokenizer.json", text_of(data, size), read_all);
    return 0;
}
