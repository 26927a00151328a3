// SPDX-License-Identifier: MIT
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#if !defined(_WIN32)
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>
#endif

#include "common/error.hpp"

/// Checked reading of whole files, and what reading and writing share.
namespace examples {

#if !defined(_WIN32)
/// An open file or folder of the system.
class descriptor {
public:
    descriptor(const std::filesystem::path& path, int flags, mode_t mode = 0) : value_(::open(path.c_str(), flags | O_CLOEXEC, mode)) {}
    descriptor(descriptor&& other) noexcept : value_(std::exchange(other.value_, -1)) {}
    descriptor& operator=(descriptor&&) = delete;
    ~descriptor() {
        if (value_ >= 0) ::close(value_);
    }
    [[nodiscard]] int get() const noexcept { return value_; }
    [[nodiscard]] int release() noexcept { return std::exchange(value_, -1); }

private:
    int value_;
};
#endif

/// Waits until a file's contents or a folder's entries are on the disk, so that they survive a power cut.
inline void wait_for_disk(const std::filesystem::path& path) {
#if defined(_WIN32)
    static_cast<void>(path);
#else
    const descriptor opened(path, O_RDONLY);
    const bool done = opened.get() >= 0 && (::fsync(opened.get()) == 0 || errno == EINVAL);  // which says that there is nothing to wait for
    if (!done) refuse(path.string(), ": cannot be written to the disk");
#endif
}

/// A folder that no other run of these programs uses while this object lives. The system ends the claim of a program that was killed.
class folder_claim {
public:
#if defined(_WIN32)
    explicit folder_claim(const std::filesystem::path&) {}
#else
    explicit folder_claim(const std::filesystem::path& folder) : folder_(folder, O_RDONLY) {
        if (folder_.get() < 0) refuse(folder.string(), ": cannot be opened");
        // Some file systems have no locks; there the claim is left out, as it is for files.
        if (::flock(folder_.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
            refuse(folder.string(), ": another run is using this folder");
    }

private:
    descriptor folder_;
#endif
};

/// A file open for reading at any position, whose size is known.
class input_file {
public:
    explicit input_file(const std::filesystem::path& path) : path_(path) {
        std::error_code error;
        if (!std::filesystem::is_regular_file(path, error))
            refuse(path.string(), std::filesystem::exists(path, error) ? ": is not a plain file" : ": no such file");
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

/// A file whose bytes are read by the system as they are touched. It must not shrink meanwhile.
class mapped_file {
public:
    explicit mapped_file(const std::filesystem::path& path) : path_(path) {
        input_file file(path);
#if defined(_WIN32)
        contents_.resize(static_cast<std::size_t>(file.size()));
        if (!contents_.empty()) file.read(0, contents_.data(), file.size());
        bytes_ = contents_;
#else
        if (file.size() == 0) return;  // which cannot be mapped
        const descriptor opened(path, O_RDONLY);
        const auto size = static_cast<std::size_t>(file.size());
        void* const begin = opened.get() < 0 ? MAP_FAILED : ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, opened.get(), 0);
        if (begin == MAP_FAILED) refuse(path.string(), ": cannot be mapped into memory");
        bytes_ = {static_cast<const std::byte*>(begin), size};
#endif
    }
    mapped_file(const mapped_file&) = delete;
    mapped_file& operator=(const mapped_file&) = delete;
#if !defined(_WIN32)
    ~mapped_file() {
        if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
    }
#endif

    [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return bytes_; }
    [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

    /// Gives back the memory of a part of `bytes()`. It can still be read, from the file again.
    void release(std::span<const std::byte> part) const noexcept {
#if defined(_WIN32)
        static_cast<void>(part);
#else
        const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
        const auto ahead = static_cast<std::size_t>(part.data() - bytes_.data()) % page;  // bytes_ begins with a page
        if (!part.empty()) ::madvise(const_cast<std::byte*>(part.data() - ahead), part.size() + ahead, MADV_DONTNEED);
#endif
    }

private:
    std::filesystem::path path_;
    std::span<const std::byte> bytes_;
#if defined(_WIN32)
    std::vector<std::byte> contents_;
#endif
};

/// The contents of a file of at most `limit` bytes.
[[nodiscard]] inline std::string read_file(const std::filesystem::path& path, std::uint64_t limit) {
    input_file file(path);
    if (file.size() > limit) refuse(path.string(), ": has ", file.size(), " bytes, more than the ", limit, " that are plausible");
    std::string contents(static_cast<std::size_t>(file.size()), '\0');
    if (!contents.empty()) file.read(0, contents.data(), file.size());
    return contents;
}

}  // namespace examples
