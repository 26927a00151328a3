// SPDX-License-Identifier: MIT
#pragma once

#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <filesystem>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#if defined(_WIN32)
#include <fstream>
#else
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

#include "common/error.hpp"
#include "common/files.hpp"

namespace examples {

/// The temporary files that exist now, for whoever ends the program before their objects do.
struct unfinished_files {
    std::mutex mutex;  // held while one is made, renamed or removed
    std::set<std::filesystem::path> names;
};
[[nodiscard]] inline unfinished_files& all_unfinished_files() {
    static auto* const files = new unfinished_files;  // never destroyed: another thread may need it while the program ends
    return *files;
}

/// N of /dev/fd/N and of its other names: a file that this process has open.
[[nodiscard]] inline std::optional<int> open_file_number(const std::filesystem::path& path) {
    const std::string name = path.lexically_normal().generic_string();
    if (name == "/dev/stdout") return 1;
    if (name == "/dev/stderr") return 2;
    for (const std::string_view folder : {"/dev/fd/", "/proc/self/fd/"}) {
        if (!name.starts_with(folder)) continue;
        int number = -1;
        const char* const end = name.data() + name.size();
        if (const auto parsed = std::from_chars(name.data() + folder.size(), end, number); parsed.ec == std::errc() && parsed.ptr == end)
            return number;
    }
    return {};
}

/// Where writing to a name ends: symbolic links are followed, also one whose target is yet to be made.
[[nodiscard]] inline std::filesystem::path followed(std::filesystem::path path) {
    constexpr int most_links = 40;  // as the system allows
    std::error_code error;
    for (int links = 0; links < most_links && !open_file_number(path) && std::filesystem::is_symlink(path, error); ++links) {
        const std::filesystem::path next = std::filesystem::read_symlink(path, error);
        path = next.is_absolute() ? next : path.parent_path() / next;
    }
    return path;
}

/// Whether two names lead to one file, which need not exist.
[[nodiscard]] inline bool lead_to_one_file(const std::filesystem::path& a, const std::filesystem::path& b) {
    std::error_code error;
    if (std::filesystem::equivalent(a, b, error)) return true;
    return std::filesystem::weakly_canonical(followed(a), error) == std::filesystem::weakly_canonical(followed(b), error);
}

/// Whether an output of this name is written into, as it is no plain file that could be replaced: see `output_file`.
[[nodiscard]] inline bool is_written_into(const std::filesystem::path& path) {
    const std::filesystem::path target = followed(path);
    std::error_code error;
    const std::filesystem::file_type type = std::filesystem::status(target, error).type();
    return open_file_number(target) || (type != std::filesystem::file_type::regular && type != std::filesystem::file_type::not_found);
}

/// A file that appears complete or not at all: written under a temporary name, which is created at once, so that an unwritable place
/// is noticed before hours of work and not after them. A link stays, and its target is what appears.
///
/// What is no plain file is not replaced but written into: a pipe, a character device, /dev/stdout, a file of the shell's at /dev/fd/N.
class output_file {
public:
    /// @throws input_error  naming the file: it cannot be written, it is a folder or a disk, another run or object is writing it, or it
    ///                      is a pipe that nobody reads
    explicit output_file(const std::filesystem::path& path) : path_(path), target_(followed(path)) {
        std::error_code error;
        const std::filesystem::file_type type = std::filesystem::status(target_, error).type();
        if (type == std::filesystem::file_type::directory) refuse(path.string(), ": is a directory");
        if (target_.extension() == ".part") refuse(path.string(), ": names that end in .part are those of unfinished files");
        if (type == std::filesystem::file_type::block) refuse(path.string(), ": is a block device, whose contents would be lost");
#if !defined(_WIN32)
        if (const auto number = open_file_number(target_))
            use_open_file(*number);
        else if (is_written_into(target_))
            open_in_place();
        else
#endif
            create_temporary();
    }
    output_file(const output_file&) = delete;
    output_file& operator=(const output_file&) = delete;
    ~output_file() {
        if (!temporary_.empty()) {
            const std::lock_guard lock(all_unfinished_files().mutex);
            std::error_code ignored;
#if defined(_WIN32)
            stream_.close();  // an open file cannot be removed there
#endif
            std::filesystem::remove(temporary_, ignored);
            all_unfinished_files().names.erase(temporary_);
        }
#if !defined(_WIN32)
        if (descriptor_ >= 0) ::close(descriptor_);
#endif
    }

    void append(std::span<const std::byte> bytes) {
#if defined(_WIN32)
        stream_.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
        if (!stream_) refuse_to_write();
#else
        while (!bytes.empty()) {
            const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
            if (written < 0 && errno == EINTR) continue;
            if (written < 0) refuse_to_write();
            bytes = bytes.subspan(static_cast<std::size_t>(written));
        }
#endif
    }

    /// Gives the file its name when all of it is on the disk, and returns when the name is too.
    void commit() {
#if defined(_WIN32)
        stream_.close();
        if (!stream_) refuse_to_write();
#else
        if (!temporary_.empty() && ::fsync(descriptor_) != 0 && errno != EINVAL) refuse_to_write();
#endif
        if (!temporary_.empty()) {
            const std::lock_guard lock(all_unfinished_files().mutex);
            std::error_code error;
            std::filesystem::rename(temporary_, target_, error);
            if (error) refuse(path_.string(), ": cannot be written: ", error.message());
            all_unfinished_files().names.erase(temporary_);
            temporary_.clear();
            wait_for_disk(target_.has_parent_path() ? target_.parent_path() : ".");
        }
#if !defined(_WIN32)
        if (::close(std::exchange(descriptor_, -1)) != 0) refuse_to_write();
#endif
    }

    /// Writes all of the contents.
    void commit(std::string_view contents) {
        append(std::as_bytes(std::span(contents)));
        commit();
    }

private:
    [[noreturn]] void refuse_to_write() const {
        refuse(path_.string(), ": cannot be written: ", std::error_code(errno, std::generic_category()).message());
    }

#if defined(_WIN32)
    void create_temporary() {
        const std::lock_guard lock(all_unfinished_files().mutex);
        std::filesystem::path temporary = target_;
        temporary += ".part";
        stream_.open(temporary, std::ios::binary | std::ios::trunc);
        if (!stream_) refuse(path_.string(), ": cannot be written (", temporary.string(), " cannot be created)");
        temporary_ = *all_unfinished_files().names.insert(temporary).first;
    }

    std::ofstream stream_;
#else
    /// Shares the position of the file with whoever has opened it, so that neither overwrites the other.
    void use_open_file(int number) {
        const int flags = ::fcntl(number, F_GETFL);
        if (flags >= 0 && (flags & O_ACCMODE) != O_RDONLY) descriptor_ = ::fcntl(number, F_DUPFD_CLOEXEC, 0);
        if (descriptor_ < 0) refuse(path_.string(), ": is not open for writing");
    }

    void open_in_place() {
        // Opening a pipe would wait for a reader, for ever if there is none. One that is being started gets a moment.
        constexpr int attempts = 50;
        constexpr std::chrono::milliseconds pause(100);
        for (int attempt = 1; descriptor_ < 0; ++attempt) {
            descriptor_ = ::open(target_.c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
            if (descriptor_ >= 0) break;
            if (errno != ENXIO || !std::filesystem::is_fifo(target_)) refuse_to_write();
            if (attempt == attempts) refuse(path_.string(), ": is a pipe that nobody reads");
            std::this_thread::sleep_for(pause);
        }
        const int flags = ::fcntl(descriptor_, F_GETFL);
        if (flags < 0 || ::fcntl(descriptor_, F_SETFL, flags & ~O_NONBLOCK) < 0) {
            ::close(std::exchange(descriptor_, -1));
            refuse_to_write();
        }
    }

    void create_temporary() {
        const std::lock_guard lock(all_unfinished_files().mutex);
        std::filesystem::path temporary = target_;
        temporary += ".part";
        descriptor opened(temporary, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0666);
        struct stat made {
        }, named{};
        if (opened.get() < 0 || ::fstat(opened.get(), &made) != 0 || !S_ISREG(made.st_mode))
            refuse(path_.string(), ": cannot be written (", temporary.string(), " cannot be created)");
        // A name left behind by a run that was killed is taken over; one whose file is locked, or was renamed meanwhile, is in use.
        const bool locked = ::flock(opened.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
        const bool in_use = locked || ::lstat(temporary.c_str(), &named) != 0 || named.st_dev != made.st_dev || named.st_ino != made.st_ino;
        if (in_use) refuse(path_.string(), ": another run, or another output of this one, is writing this file");
        if (::ftruncate(opened.get(), 0) != 0) refuse_to_write();
        temporary_ = *all_unfinished_files().names.insert(temporary).first;
        descriptor_ = opened.release();
    }

    int descriptor_ = -1;
#endif

    std::filesystem::path path_;       ///< as the user wrote it
    std::filesystem::path target_;     ///< without links
    std::filesystem::path temporary_;  ///< empty before it is made, when it has its name, and for what is written into
};

}  // namespace examples
