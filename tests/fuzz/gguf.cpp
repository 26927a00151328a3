// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <vector>

#include "quantize_llama/gguf_file.hpp"
#include "reading.hpp"

namespace {

/// Everything that the reader reports must be true of the file, every tensor can be read or is refused, and all of it can be written again.
void read_all(const std::filesystem::path& path) {
    const examples::gguf_file file(path);
    std::uint64_t position = 0;
    for (const examples::gguf_tensor_info& info : file.tensors()) {
        require(position <= info.begin && info.begin <= info.end && info.end <= std::filesystem::file_size(path));
        require(file.bytes(info.name).size() == info.bytes());
        position = info.end;
        try {
            std::vector<float> values(info.elements());
            file.read(info.name, values);
            for (const float value : values) require(std::isfinite(value));
        } catch (const examples::input_error&) {  // refuses this tensor; the others must still be read
        }
    }
    for (const examples::gguf_entry& entry : file.metadata()) {
        try {
            static_cast<void>(file.text(entry.key));
        } catch (const examples::input_error&) {
        }
        try {
            static_cast<void>(file.number(entry.key));
        } catch (const examples::input_error&) {
        }
    }
    if (file.number("general.alignment").value_or(0) > 4096) return;  // which may ask for gigabytes of zeros
    const std::filesystem::path again = path.string() + ".again";
    examples::gguf_writer writer(again, file.metadata(), file.tensors());
    for (const examples::gguf_tensor_info& info : file.tensors()) writer.append(file.bytes(info.name));
    writer.commit();
    const examples::gguf_file copy(again);
    require(copy.metadata() == file.metadata());
    for (const examples::gguf_tensor_info& info : file.tensors()) {
        const auto was = file.bytes(info.name), is = copy.bytes(info.name);
        require(std::equal(was.begin(), was.end(), is.begin(), is.end()));
    }
    std::filesystem::remove(again);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    read_or_refuse("file.gguf", text_of(data, size), read_all);
    return 0;
}
