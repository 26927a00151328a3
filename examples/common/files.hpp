// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <system_error>

#include "common/error.hpp"

/// Checked reading and writing of whole files.
namespace examples {

/// A file open for reading at any position, whose size is known.
class input_file {
public:
    explicit input_file(const std::filesystem::path& path) : path_(path) {
        std::error_code error;
        if (!std::filesystem::is_regular_file(path, error)) refuse(path.string(), ": no such file");
        size_ = std::filesystem::file_size(path, error);
        if (!error) stream_.open(path, std::ios::binary);
        if (error || !stream_) refuse(path.string(), ": cannot be opened for reading");
    }

    [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
    [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

    /// Reads exactly `bytes` bytes that begin at `offset`.
    void read(std::uint64_t offset, void* target, std::uint64_t bytes) {
        stream_.seekg(static_cast<std::streamoff>(offset));
        stream_.read(static_cast<char*>(target), static_cast<std::streamsize>(bytes));
        if (!stream_) refuse(path_.string(), ": cannot read ", bytes, " bytes at offset ", offset);
    }

private:
    std::filesystem::path path_;
    std::uint64_t size_ = 0;
    std::ifstream stream_;
};

/// The contents of a file of at most `limit` bytes.
[[nodiscard]] inline std::string read_file(const std::filesystem::path& path, std::uint64_t limit) {
    input_file file(path);
    if (file.size() > limit) refuse(path.string(), ": has ", file.size(), " bytes, more than the ", limit, " that are plausible");
    std::string contents(static_cast<std::size_t>(file.size()), '\0');
    if (!contents.empty()) file.read(0, contents.data(), file.size());
    return contents;
}

/// A file that appears complete or not at all: written under a temporary name, which is created at once, so that an unwritable place
/// is noticed before hours of work and not after them.
class output_file {
public:
    explicit output_file(const std::filesystem::path& path) : path_(path), temporary_(path) {
        temporary_ += ".part";
        if (std::filesystem::is_directory(path)) refuse(path.string(), ": is a directory");
        stream_.open(temporary_, std::ios::binary | std::ios::trunc);
        if (!stream_) refuse(path.string(), ": cannot be written (", temporary_.string(), " cannot be created)");
    }
    output_file(const output_file&) = delete;
    output_file& operator=(const output_file&) = delete;
    ~output_file() {
        stream_.close();
        std::error_code ignored;
        if (!committed_) std::filesystem::remove(temporary_, ignored);
    }

    /// Writes the contents and gives the file its name.
    void commit(std::string_view contents) {
        stream_.write(contents.data(), static_cast<std::streamsize>(contents.size()));
        stream_.close();
        if (!stream_) refuse(path_.string(), ": cannot be written");
        std::error_code error;
        std::filesystem::rename(temporary_, path_, error);
        if (error) refuse(path_.string(), ": cannot be written: ", error.message());
        committed_ = true;
    }

private:
    std::filesystem::path path_;
    std::filesystem::path temporary_;
    std::ofstream stream_;
    bool committed_ = false;
};

}  // namespace examples
