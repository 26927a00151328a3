// SPDX-License-Identifier: MIT
#include <fstream>

#include "quantize_llama/safetensors.hpp"
#include "reading.hpp"

namespace {

/// A file of one byte per tensor.
void write_file(const std::filesystem::path& path, const std::string& names) {
    std::string header;
    for (std::size_t i = 0; i < names.size(); ++i)
        header += (i == 0 ? "{\"" : ",\"") + std::string(1, names[i]) + R"(":{"dtype":"U8","shape":[1],"data_offsets":[)" +
                  std::to_string(i) + "," + std::to_string(i + 1) + "]}";
    header += '}';
    std::ofstream(path, std::ios::binary) << static_cast<char>(header.size()) << std::string(7, '\0') << header << names;
}

/// Everything that the index promises beside two valid files must be there.
void read_all(const std::filesystem::path& path) {
    const std::filesystem::path folder = path.parent_path();
    write_file(folder / "1.safetensors", "a");
    write_file(folder / "2.safetensors", "bc");
    const examples::model_tensors tensors(folder);
    for (const std::string& name : tensors.names()) require(name == "a" || name == "b" || name == "c");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    read_or_refuse("model.safetensors.index.json", text_of(data, size), read_all);
    return 0;
}
