// SPDX-License-Identifier: MIT
#include "common/output_file.hpp"

#include <filesystem>
#include <locale>
#include <optional>
#include <string>

#include "common/text_stream.hpp"
#include "folder_contents.hpp"
#include "refusal.hpp"
#include "scratch_folder.hpp"
#include "support/catch.hpp"

#if !defined(_WIN32)
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

using namespace examples;

TEST_CASE("output_file: appears complete or not at all", "[examples][output_file]") {
    const scratch_folder folder;
    const auto path = folder.write("a.txt", "old");
    {
        output_file file(path);
        file.append(std::as_bytes(std::span(std::string_view("new"))));
        CHECK(folder.read("a.txt") == "old");
        CHECK(folder.read("a.txt.part") == "new");
    }
    CHECK(folder_contents(folder.path()).size() == 1);
    CHECK(folder.read("a.txt") == "old");
    folder.write("a.txt.part", "left behind by a run that was killed");
    output_file(path).commit("new");
    CHECK(folder_contents(folder.path()).size() == 1);
    CHECK(folder.read("a.txt") == "new");
    CHECK(all_unfinished_files().names.empty());
}

TEST_CASE("output_file: a place that cannot be written is refused at once", "[examples][output_file]") {
    const scratch_folder folder;
    const auto refused = [](const std::filesystem::path& path) { return refusal([&] { return output_file(path), 0; }); };
    CHECK_THAT(refused(folder.path()), mentions("is a directory"));
    CHECK_THAT(refused(folder.path() / "none" / "a"), mentions("cannot be written"));
    CHECK_THAT(refused(folder.path() / "a.part"), mentions("names that end in .part"));
}

#if !defined(_WIN32)

namespace {

std::filesystem::file_type type_of(const std::filesystem::path& path) { return std::filesystem::symlink_status(path).type(); }

}  // namespace

TEST_CASE("output_file: a link stays, and its target gets the contents", "[examples][output_file]") {
    const scratch_folder folder;
    std::filesystem::create_directory(folder.path() / "there");
    for (const char* target : {"there/real", "there/not_yet"}) {
        if (std::string(target) == "there/real") folder.write(target, "old");
        const auto link = folder.path() / "link";
        std::filesystem::remove(link);
        std::filesystem::create_symlink(target, link);
        output_file(link).commit("new");
        CHECK(std::filesystem::is_symlink(link));
        CHECK(folder.read(target) == "new");
        CHECK_FALSE(std::filesystem::exists(folder.path() / (std::string(target) + ".part")));
    }
    std::filesystem::create_symlink("loop", folder.path() / "loop");
    CHECK_THAT(refusal([&] { return output_file(folder.path() / "loop"), 0; }), mentions("cannot be written"));
}

TEST_CASE("output_file: a temporary name that leads elsewhere is not followed", "[examples][output_file]") {
    const scratch_folder folder;
    folder.write("precious", "years of work");
    std::filesystem::create_symlink("precious", folder.path() / "a.part");
    CHECK_THAT(refusal([&] { return output_file(folder.path() / "a"), 0; }), mentions("a.part cannot be created"));
    CHECK(folder.read("precious") == "years of work");
}

TEST_CASE("output_file: two that would have one temporary file are refused", "[examples][output_file]") {
    const scratch_folder folder;
    output_file first(folder.path() / "a");
    CHECK_THAT(refusal([&] { return output_file(folder.path() / "." / "a"), 0; }), mentions("is writing this file"));
    first.commit("first");
    CHECK(folder.read("a") == "first");
    CHECK(lead_to_one_file(folder.path() / "none" / ".." / "b", folder.path() / "b"));
    CHECK_FALSE(lead_to_one_file(folder.path() / "a", folder.path() / "b"));
}

TEST_CASE("output_file: a device and a pipe are written into", "[examples][output_file]") {
    const scratch_folder folder;
    const auto pipe = folder.path() / "pipe";
    REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
    const int reader = ::open(pipe.c_str(), O_RDONLY | O_NONBLOCK);
    REQUIRE(reader >= 0);
    output_file(pipe).commit("through the pipe");
    char buffer[64] = {};
    CHECK(::read(reader, buffer, sizeof buffer) == 16);
    CHECK(std::string(buffer) == "through the pipe");
    ::close(reader);
    CHECK(type_of(pipe) == std::filesystem::file_type::fifo);
    CHECK_THAT(refusal([&] { return output_file(pipe), 0; }), mentions("is a pipe that nobody reads"));

    output_file("/dev/null").commit("nothing");
    CHECK(type_of("/dev/null") == std::filesystem::file_type::character);
    CHECK(folder_contents(folder.path()).empty());
}

TEST_CASE("output_file: an error of the device is an error of the write", "[examples][output_file]") {
    if (!std::filesystem::exists("/dev/full")) return;
    CHECK_THAT(refusal([] { return output_file("/dev/full").commit("x"), 0; }), mentions("/dev/full: cannot be written"));
}

TEST_CASE("output_file: an open file of the shell is written where it stands", "[examples][output_file]") {
    const scratch_folder folder;
    const int open = ::open((folder.path() / "a").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    REQUIRE(open >= 0);
    REQUIRE(::write(open, "one ", 4) == 4);
    const std::filesystem::path name = "/dev/fd/" + std::to_string(open);
    std::filesystem::create_symlink(name, folder.path() / "link");
    output_file(name).commit("two ");
    output_file(folder.path() / "link").commit("three ");
    REQUIRE(::write(open, "four", 4) == 4);
    ::close(open);
    CHECK(folder.read("a") == "one two three four");
    CHECK_THAT(refusal([&] { return output_file(name), 0; }), mentions("is not open for writing"));
}

#endif

TEST_CASE("text_stream: the global locale changes no number", "[examples][text_stream]") {
    struct grouped : std::numpunct<char> {
        char do_thousands_sep() const override { return '.'; }
        char do_decimal_point() const override { return ','; }
        std::string do_grouping() const override { return "\3"; }
    };
    const std::locale before = std::locale::global(std::locale(std::locale::classic(), new grouped));
    text_stream text;
    text << 1234567 << ' ' << 0.5;
    const std::string message = refusal([] { return refuse("of ", 1234567, " bytes"), 0; });
    std::locale::global(before);
    CHECK(text.str() == "1234567 0.5");
    CHECK(message == "of 1234567 bytes");
}
