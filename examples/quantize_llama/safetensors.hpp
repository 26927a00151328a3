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

/// Element types of the format. Only the three floating-point types that models are published in can be read.
enum class safetensors_dtype {
    BOOL, U8, I8, F8_E5M2, F8_E4M3, F8_E8M0, F8_E5M2FNUZ, F8_E4M3FNUZ, I16, U16, F16, BF16, I32, U32, F32, C64, F64, I64, U64, F4, F6_E2M3, F6_E3M2,
};

/// One tensor as the header of a file describes it.
struct tensor_info {
    safetensors_dtype dtype;
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
