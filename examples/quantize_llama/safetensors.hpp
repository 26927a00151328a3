// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
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

/// What tells a file from a damaged copy of it.
struct file_digest {
    std::uint64_t bytes = 0;  ///< its size
    std::string hash;         ///< of its contents, `content_hash`

    bool operator==(const file_digest&) const = default;
};

/// A `.safetensors` file: 8 bytes header length (little endian), the header (a JSON object), then the tensors' bytes, row-major.
///
/// The constructor validates everything that the format promises: lengths, known types, sizes that do not overflow and match the
/// offsets, and bytes that are covered by the tensors without a gap, an overlap or a rest. The file is mapped: contents are read on demand.
class safetensors_file {
public:
    /// @throws input_error  naming the file, the tensor and what is wrong
    explicit safetensors_file(const std::filesystem::path& path);

    [[nodiscard]] const std::map<std::string, tensor_info>& tensors() const noexcept { return tensors_; }

    /// Texts that the header holds besides the tensors.
    [[nodiscard]] const std::map<std::string, std::string>& metadata() const noexcept { return metadata_; }

    [[nodiscard]] const std::filesystem::path& path() const noexcept { return file_.path(); }

    /// The bytes of a tensor as they are in the file. They stay in memory until `release`.
    /// @throws input_error  if the tensor does not exist
    [[nodiscard]] std::span<const std::byte> bytes(const std::string& name) const;
    void release(std::span<const std::byte> bytes) const noexcept { file_.release(bytes); }

    /// All elements of a F32, F16 or BF16 tensor, in row-major order.
    /// @param values  as many as the tensor has elements
    /// @throws input_error  if the type is another one, the tensor does not exist or a value is not finite
    void read(const std::string& name, std::span<float> values) const;
    [[nodiscard]] std::vector<float> read(const std::string& name) const;

    /// Of the whole file, which is read for it.
    [[nodiscard]] file_digest digest() const;

private:
    mapped_file file_;
    std::map<std::string, tensor_info> tensors_;
    std::map<std::string, std::string> metadata_;
};

/// The tensors of a model folder: `model.safetensors`, or the files that `model.safetensors.index.json` names.
class model_tensors {
public:
    /// @throws input_error  if neither exists, a file is invalid, or index and files disagree
    explicit model_tensors(const std::filesystem::path& folder);

    /// The tensors of one file.
    [[nodiscard]] static model_tensors of_file(const std::filesystem::path& file);

    [[nodiscard]] bool contains(const std::string& name) const { return places_.contains(name); }
    [[nodiscard]] std::vector<std::string> names() const;

    /// The files that were read, the index among them.
    [[nodiscard]] std::vector<std::filesystem::path> files() const;
    [[nodiscard]] const safetensors_file& file_of(const std::string& name) const;

    /// Refuses a tensor that is missing or has another shape.
    void require(const std::string& name, const std::vector<std::uint64_t>& shape) const;

    /// Elements of a tensor that must have this shape.
    void read(const std::string& name, const std::vector<std::uint64_t>& shape, std::span<float> values) const;

private:
    model_tensors() = default;
    void add(const std::filesystem::path& path);
    void add_all(const std::filesystem::path& path);

    std::filesystem::path index_;  ///< empty if there is none
    std::vector<std::unique_ptr<safetensors_file>> files_;
    std::map<std::string, std::size_t> places_;  ///< tensor -> index in files_
};

/// A tensor to write.
struct tensor_to_write {
    std::string name;
    std::string dtype;
    std::vector<std::uint64_t> shape;
    std::span<const std::byte> bytes;
};

/// Writes a file that appears complete or not at all. Wider types come first, so that every tensor is aligned to its elements.
/// @param metadata  besides "format": "pt", without which transformers does not read a file
/// @return          of what was written, from the memory that it was written from
file_digest write_safetensors(const std::filesystem::path& path, std::vector<tensor_to_write> tensors,
                              const std::map<std::string, std::string>& metadata = {});

/// The digest that a file of these tensors has.
[[nodiscard]] file_digest digest_of(std::vector<tensor_to_write> tensors);

}  // namespace examples
