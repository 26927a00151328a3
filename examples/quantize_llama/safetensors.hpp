// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/files.hpp"

namespace examples {

/// One tensor as the header of a file describes it.
struct tensor_info {
    std::string dtype;  ///< "F32", "BF16", ...: as the format names it
    std::vector<std::uint64_t> shape;
    std::uint64_t begin = 0;  ///< of its bytes, from the beginning of the file
    std::uint64_t end = 0;
};

/// A `.safetensors` file: 8 bytes header length (little endian), the header (a JSON object), then the tensors' bytes, row-major.
///
/// The constructor validates everything that the format promises: lengths, known types, sizes that do not overflow and match the
/// offsets, and bytes that are covered by the tensors without a gap, an overlap or a rest. Contents are read on demand.
class safetensors_file {
public:
    /// @throws input_error  naming the file, the tensor and what is wrong
    explicit safetensors_file(const std::filesystem::path& path);

    [[nodiscard]] const std::map<std::string, tensor_info>& tensors() const noexcept { return tensors_; }

    /// All elements of a F32, F16 or BF16 tensor, in row-major order.
    /// @throws input_error  if the type is another one, the tensor does not exist or a value is not finite
    [[nodiscard]] std::vector<float> read(const std::string& name);

private:
    input_file file_;
    std::map<std::string, tensor_info> tensors_;
};

/// The tensors of a model folder: `model.safetensors`, or the files that `model.safetensors.index.json` names.
class model_tensors {
public:
    /// @throws input_error  if neither exists, a file is invalid, or index and files disagree
    explicit model_tensors(const std::filesystem::path& folder);

    [[nodiscard]] bool contains(const std::string& name) const { return places_.contains(name); }
    [[nodiscard]] std::vector<std::string> names() const;

    /// Elements of a tensor that must have this shape.
    [[nodiscard]] std::vector<float> read(const std::string& name, const std::vector<std::uint64_t>& shape);

private:
    void add(const std::filesystem::path& path);

    std::vector<std::unique_ptr<safetensors_file>> files_;
    std::vector<std::filesystem::path> paths_;
    std::map<std::string, std::size_t> places_;  ///< tensor -> index in files_
};

}  // namespace examples
