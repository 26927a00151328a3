// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/files.hpp"
#include "common/output_file.hpp"

/// GGUF files, versions 2 and 3, little endian: the file of llama.cpp and other programs built on ggml.
///
///   "GGUF", version, number of tensors, number of entries
///   entries: key, type, value
///   tensors: name, sizes from the innermost on, type, offset
///   zeros up to a multiple of the alignment
///   data of the tensors in their order, each followed by zeros up to a multiple of the alignment
namespace examples {

/// How elements of a tensor are stored: in blocks.
struct gguf_type {
    std::uint32_t number;  ///< in files
    const char* name;
    std::uint64_t elements;  ///< of a block
    std::uint64_t bytes;     ///< of a block
};

inline constexpr std::uint32_t gguf_f32 = 0, gguf_f16 = 1, gguf_bf16 = 30;

/// The type with this number; null if there is none that is known here.
[[nodiscard]] const gguf_type* find_gguf_type(std::uint32_t number);

/// Types of metadata, with their numbers in files.
enum class gguf_value : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, text, array, u64, i64, f64 };

/// An entry of the metadata.
struct gguf_entry {
    std::string key;
    gguf_value type = gguf_value::u32;
    std::string bytes;  ///< the value as it is in the file

    friend bool operator==(const gguf_entry&, const gguf_entry&) = default;
};

[[nodiscard]] gguf_entry gguf_number(std::string key, std::uint32_t value);

/// Replaces the entry of this key, or adds it at the end.
void set_entry(std::vector<gguf_entry>& metadata, gguf_entry entry);

struct gguf_tensor_info {
    std::string name;
    std::vector<std::uint64_t> sizes;  ///< of a matrix: columns, rows
    std::uint32_t type = gguf_f32;     ///< number of a known type
    std::uint64_t begin = 0, end = 0;  ///< bytes of the file; the writer sets them

    /// Bytes that a tensor of these sizes and type has.
    [[nodiscard]] std::uint64_t bytes() const;
    [[nodiscard]] std::uint64_t elements() const;
};

/// A GGUF file for reading. Its metadata is in memory, and what was read of tensors until it is released.
class gguf_file {
public:
    /// Refuses everything that is not as the format says, and tensors of unknown types.
    /// @throws input_error  one line that names the file and what is wrong with it, here and below
    explicit gguf_file(const std::filesystem::path& path);

    [[nodiscard]] const std::filesystem::path& path() const noexcept { return file_.path(); }
    [[nodiscard]] const std::vector<gguf_entry>& metadata() const noexcept { return metadata_; }
    [[nodiscard]] const std::vector<gguf_tensor_info>& tensors() const noexcept { return tensors_; }

    /// The entry of a key; null if there is none.
    [[nodiscard]] const gguf_entry* find_entry(std::string_view key) const;
    /// A text or a whole number of the metadata; nothing if the key is missing.
    /// @throws input_error  if its value is of another type or negative
    [[nodiscard]] std::optional<std::string> text(std::string_view key) const;
    [[nodiscard]] std::optional<std::uint64_t> number(std::string_view key) const;

    [[nodiscard]] bool contains(const std::string& name) const { return places_.contains(name); }
    /// @throws input_error  if the tensor does not exist
    [[nodiscard]] const gguf_tensor_info& tensor(const std::string& name) const;
    /// The bytes of a tensor as they are in the file. They stay in memory until `release`.
    [[nodiscard]] std::span<const std::byte> bytes(const std::string& name) const;
    void release(std::span<const std::byte> bytes) const noexcept { file_.release(bytes); }

    /// All elements of an F32, F16 or BF16 tensor, row after row.
    /// @throws input_error  if the type is another one, the tensor does not exist, it has not as many elements as there are values, or one is
    ///                      not finite
    void read(const std::string& name, std::span<float> values) const;

private:
    mapped_file file_;
    std::vector<gguf_entry> metadata_;
    std::vector<gguf_tensor_info> tensors_;
    std::map<std::string, std::size_t> places_;  ///< tensor -> index in tensors_
};

/// A GGUF file, version 3, that is written tensor by tensor, and appears complete or not at all.
class gguf_writer {
public:
    /// Writes everything in front of the tensors' data.
    /// @param metadata  general.alignment is that of the file; default: 32
    /// @throws input_error  if the file cannot be written, here and below
    gguf_writer(const std::filesystem::path& path, std::span<const gguf_entry> metadata, std::vector<gguf_tensor_info> tensors);

    /// The next tensor, whose data is given in one or more parts.
    void append(std::span<const std::byte> part);

    /// @throws std::logic_error  if not all of the tensors were written
    void commit();

private:
    void pad();

    output_file file_;
    std::vector<gguf_tensor_info> tensors_;
    std::size_t next_ = 0;        ///< the tensor that is written now
    std::uint64_t position_ = 0;  ///< in the file
    std::uint64_t alignment_ = 0;
};

}  // namespace examples
