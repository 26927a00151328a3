// SPDX-License-Identifier: MIT
#include "common/file_kind.hpp"

#include <string>
#include <string_view>

#include "common/json.hpp"
#include "common/npy.hpp"
#include "quantize_llama/safetensors.hpp"
#include "quantize_llama/tokens.hpp"
#include "refusal.hpp"
#include "scratch_folder.hpp"
#include "support/catch.hpp"
#include "tiny_llama.hpp"

using namespace examples;

namespace {

const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + std::string(64, '0') + "\nsize 12345\n";

}  // namespace

TEST_CASE("mistaken_kind: names the usual accidents, and nothing else", "[examples][file_kind]") {
    const auto is = [](std::string_view contents, std::string_view kind) {
        return mistaken_kind(contents).find(kind) != std::string_view::npos;
    };
    CHECK(is(pointer, "Git LFS"));
    CHECK(is("\n <!DOCTYPE HTML><title>429", "page of HTML"));
    CHECK(is("<html>", "page of HTML"));
    CHECK(is("<?xml version=\"1.0\"?><Error>", "XML"));
    CHECK(is("PK\x03\x04....", "zip archive"));
    CHECK(is("\x1f\x8b\x08", "gzip"));
    CHECK(is("GGUF\x03", "GGUF"));
    for (const char* other : {"", " ", "{\"a\": 1}", "version 1", "htm"}) CHECK(mistaken_kind(other).empty());
}

TEST_CASE("mistaken_kind: every reader says what a file is instead", "[examples][file_kind]") {
    const scratch_folder folder;
    const auto as = [&](const char* name) { return folder.write(name, pointer); };
    CHECK_THAT(refusal([&] { return safetensors_file(as("a.safetensors")).path(); }), mentions("is a pointer of Git LFS"));
    CHECK_THAT(refusal([&] { return read_config(as("config.json")); }), mentions("is a pointer of Git LFS"));
    CHECK_THAT(refusal([&] { return read_npy(as("a.npy")); }), mentions("it is a pointer of Git LFS"));
    CHECK_THAT(refusal([&] { return read_sequences(as("a.u16"), tiny::config(), 9); }), mentions("is a pointer of Git LFS"));
    CHECK_THAT(refusal([&] { return read_sequences(as("a.u32"), tiny::config(), 9); }), mentions("is a pointer of Git LFS"));
    CHECK_THAT(refusal([&] { return safetensors_file(folder.write("b.safetensors", "Entry not found")).path(); }),
               mentions("is no safetensors file but a text: Entry not found"));
}
