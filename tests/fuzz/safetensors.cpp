// SPDX-License-Identifier: MIT
#include "quantize_llama/safetensors.hpp"

#include <bit>
#include <cmath>

#include "reading.hpp"

namespace {

/// Everything that the reader reports must be true of the file, and every tensor can be read or is refused.
void read_all(const std::filesystem::path& path) {
    examples::safetensors_file file(path);
    std::uint64_t total = 0;
    for (const auto& [name, info] : file.tensors()) {
        require(info.begin <= info.end && info.end <= std::filesystem::file_size(path));
        total += info.end - info.begin;
    }
    require(total <= std::filesystem::file_size(path));
    for (const auto& entry : file.tensors()) {
        const examples::tensor_info& info = entry.second;
        try {
            const std::vector<float> values = file.read(entry.first);
            std::uint64_t elements = 1;
            for (const std::uint64_t dimension : info.shape) elements *= dimension;
            require(values.size() == elements);
            for (const float value : values) require(std::isfinite(value));
        } catch (const examples::input_error&) {  // refuses this tensor; the others must still be read
        }
    }
}

/// The length of the header in the first 8 bytes of a file, little endian.
std::string length_prefix(std::uint64_t length) {
    std::string bytes;
    for (int i = 0; i < 8; ++i) bytes += static_cast<char>(length >> (8 * i) & 255);
    return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text = text_of(data, size);
    read_or_refuse("whole.safetensors", text, read_all);
    split_after_header(text, [](const std::string& header, const std::string& rest) {
        read_or_refuse("prefixed.safetensors", length_prefix(header.size()) + header + rest, read_all);
    });
    return 0;
}
