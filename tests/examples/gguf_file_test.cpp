// SPDX-License-Identifier: MIT
#include "quantize_llama/gguf_file.hpp"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include "refusal.hpp"
#include "scratch_folder.hpp"
#include "support/catch.hpp"
#include "tiny_gguf.hpp"

using examples::gguf_entry;
using examples::gguf_file;
using examples::gguf_tensor_info;
using examples::gguf_value;
using tiny::bytes_of;
using tiny::gguf;
using tiny::gguf_entry_bytes;
using tiny::gguf_tensor_bytes;
using tiny::gguf_text;

namespace {

constexpr std::uint32_t type_u8 = 0, type_i8 = 1, type_u32 = 4, type_i32 = 5, type_f32 = 6, type_bool = 7, type_text = 8, type_array = 9;

std::string number(const std::string& key, std::uint32_t value) { return gguf_entry_bytes(key, type_u32, bytes_of(value)); }

/// One of everything.
std::string small_file(std::uint64_t alignment = 32, std::uint32_t version = 3) {
    const float values[] = {1, 2, 3, 4, 5, 6};
    const std::uint16_t halves[] = {0x3C00, 0xC100};
    return gguf(
        {number("general.alignment", static_cast<std::uint32_t>(alignment)), gguf_entry_bytes("name", type_text, gguf_text("a model")),
         gguf_entry_bytes("flag", type_bool, std::string(1, '\1')), gguf_entry_bytes("below", type_i32, bytes_of(std::int32_t{-1})),
         gguf_entry_bytes("words", type_array, bytes_of(type_text) + bytes_of(std::uint64_t{2}) + gguf_text("") + gguf_text("b")),
         gguf_entry_bytes("none", type_array, bytes_of(type_f32) + bytes_of(std::uint64_t{0}))},
        {{"f", {3, 2}, 0, tiny::floats(values, 6)},
         {"h", {2}, 1, std::string(reinterpret_cast<const char*>(halves), 4)},
         {"q", {32, 1}, 2, std::string(18, 'x')}},
        alignment, version);
}

/// The message with which a file is refused; it names the file, in one line.
std::string gguf_refusal(const scratch_folder& folder, const std::string& contents) {
    const auto path = folder.write("bad.gguf", contents);
    const std::string message = refusal([&] { return gguf_file(path).tensors().size(); });
    if (!message.empty()) {
        CHECK(message.starts_with(path.string()));
        CHECK(message.find('\n') == std::string::npos);
    }
    return message;
}

std::string with_entry(const std::string& entry) { return gguf({entry}, {}); }
std::string with_tensor(const gguf_tensor_bytes& tensor) { return gguf({}, {tensor}); }

/// A place in a file at which some bytes are others.
std::string with_bytes(std::string file, std::size_t at, const std::string& bytes) { return file.replace(at, bytes.size(), bytes); }

}  // namespace

TEST_CASE("GGUF: metadata and tensors of both versions are read", "[examples][gguf]") {
    const scratch_folder folder;
    for (const std::uint32_t version : {2U, 3U})
        for (const std::uint64_t alignment : {1U, 8U, 64U}) {
            const gguf_file file(folder.write("a.gguf", small_file(alignment, version)));
            CHECK(file.metadata().size() == 6);
            CHECK(file.text("name") == "a model");
            CHECK(file.number("general.alignment") == alignment);
            CHECK_FALSE(file.number("other"));
            std::vector<float> values(6), halves(2);
            file.read("f", values);
            file.read("h", halves);
            CHECK(values == std::vector<float>{1, 2, 3, 4, 5, 6});
            CHECK(halves == std::vector<float>{1, -2.5f});
            CHECK(file.tensor("f").sizes == std::vector<std::uint64_t>{3, 2});
            CHECK(file.bytes("q").size() == 18);
            CHECK_THAT(refusal([&] { return file.number("name"); }), mentions("name is not a whole number"));
            CHECK_THAT(refusal([&] { return file.number("below"); }), mentions("below is negative"));
            CHECK_THAT(refusal([&] { return file.text("flag"); }), mentions("flag is not a text"));
            CHECK_THAT(refusal([&] { file.read("q", values); }), mentions("tensor q: the type must be F32, F16 or BF16, it is Q4_0"));
            CHECK_THAT(refusal([&] { return file.tensor("z"); }), mentions("tensor z is missing"));
            CHECK_THAT(refusal([&] { file.read("h", values); }), mentions("tensor h: has 2 elements, there must be 6"));
        }
}

TEST_CASE("GGUF: a file that ends anywhere before its end is refused", "[examples][gguf]") {
    const scratch_folder folder;
    const std::string whole = small_file();
    const std::size_t padding = 32 - 18;  // behind the last tensor, which not all programs write
    for (std::size_t length = 0; length < whole.size() - padding; ++length)
        CHECK_FALSE(gguf_refusal(folder, whole.substr(0, length)).empty());
    CHECK(gguf_refusal(folder, whole.substr(0, whole.size() - padding)).empty());
    CHECK_THAT(gguf_refusal(folder, whole + "x"), mentions("the tensors end at"));
}

TEST_CASE("GGUF: a file with any bit flipped is read or refused", "[examples][gguf]") {
    const scratch_folder folder;
    const std::string whole = small_file();
    int refusals = 0;
    for (std::size_t bit = 0; bit < 8 * whole.size(); bit += 1 + bit % 3) {
        std::string damaged = whole;
        damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ 1 << bit % 8);
        const auto path = folder.write("bad.gguf", damaged);
        refusals += refusal([&] {
                        const gguf_file file(path);
                        std::vector<float> values(6);
                        file.read("f", values);
                    }).empty()
                        ? 0
                        : 1;
    }
    CHECK(refusals > 500);
}

TEST_CASE("GGUF: what is wrong with a header is said", "[examples][gguf]") {
    const scratch_folder folder;
    const std::string whole = small_file();
    CHECK_THAT(gguf_refusal(folder, "hello"), mentions("is no GGUF file"));
    CHECK_THAT(gguf_refusal(folder, "version https://git-lfs.github.com/spec/v1"), mentions("a pointer of Git LFS"));
    CHECK_THAT(gguf_refusal(folder, small_file(32, 1)), mentions("has version 1"));
    CHECK_THAT(gguf_refusal(folder, small_file(32, 4)), mentions("has version 4"));
    CHECK_THAT(gguf_refusal(folder, with_bytes(whole, 4, std::string("\0\0\0\3", 4))), mentions("big-endian"));
    CHECK_THAT(gguf_refusal(folder, with_bytes(whole, 8, bytes_of(~std::uint64_t{0}))), mentions("tensors do not fit"));
    CHECK_THAT(gguf_refusal(folder, with_bytes(whole, 16, bytes_of(~std::uint64_t{0}))), mentions("entries of metadata do not fit"));
}

TEST_CASE("GGUF: what is wrong with metadata is said", "[examples][gguf]") {
    const scratch_folder folder;
    CHECK(gguf_refusal(folder, with_entry(number("k", 1))).empty());
    CHECK_THAT(gguf_refusal(folder, with_entry(number("", 1))), mentions("a key is empty"));
    CHECK_THAT(gguf_refusal(folder, with_entry(number("a\nb", 1))), mentions("has a control character"));
    CHECK_THAT(gguf_refusal(folder, with_entry(gguf_entry_bytes("k", 13, "x"))), mentions("k has the unknown type 13"));
    CHECK_THAT(gguf_refusal(folder, with_entry(gguf_entry_bytes("k", type_bool, "\2"))),
               mentions("k is a boolean that is neither 0 nor 1"));
    CHECK_THAT(
        gguf_refusal(folder, with_entry(gguf_entry_bytes("k", type_array, bytes_of(type_bool) + bytes_of(std::uint64_t{2}) + "\1\2"))),
        mentions("k is a boolean that is neither 0 nor 1"));
    CHECK_THAT(gguf_refusal(folder, with_entry(gguf_entry_bytes("k", type_array, bytes_of(type_array) + bytes_of(std::uint64_t{0})))),
               mentions("k is an array of arrays"));
    CHECK_THAT(gguf_refusal(folder, with_entry(gguf_entry_bytes("k", type_array, bytes_of(type_u8) + bytes_of(~std::uint64_t{0})))),
               mentions("elements of k do not fit"));
    CHECK_THAT(gguf_refusal(folder, with_entry(gguf_entry_bytes("k", type_array, bytes_of(type_text) + bytes_of(std::uint64_t{1} << 61)))),
               mentions("elements of k do not fit"));
    CHECK_THAT(gguf_refusal(folder, with_entry(gguf_entry_bytes("k", type_text, bytes_of(~std::uint64_t{0})))), mentions("k does not fit"));
    CHECK_THAT(gguf_refusal(folder, gguf({number("k", 1), number("k", 2)}, {})), mentions("has the key k twice"));
    for (const std::uint32_t alignment : {0U, 3U, 48U})
        CHECK_THAT(gguf_refusal(folder, with_entry(number("general.alignment", alignment))), mentions("must be a power of 2"));
    CHECK_THAT(gguf_refusal(folder, with_entry(gguf_entry_bytes("general.alignment", type_i8, "\x20"))), mentions("is not of type uint32"));
}

TEST_CASE("GGUF: what is wrong with tensors is said", "[examples][gguf]") {
    const scratch_folder folder;
    const std::string eight(8, 'x');
    CHECK(gguf_refusal(folder, with_tensor({"t", {2}, 0, eight})).empty());
    CHECK_THAT(gguf_refusal(folder, with_tensor({"", {2}, 0, eight})), mentions("the name of a tensor is empty"));
    CHECK(gguf_refusal(folder, with_tensor({std::string(63, 'n'), {2}, 0, eight})).empty());
    CHECK_THAT(gguf_refusal(folder, with_tensor({std::string(64, 'n'), {2}, 0, eight})), mentions("has 64 bytes, more than the 63"));
    CHECK_THAT(gguf_refusal(folder, with_tensor({"t", {}, 0, eight + eight})), mentions("tensor t has 0 dimensions"));
    CHECK_THAT(gguf_refusal(folder, with_tensor({"t", {1, 1, 1, 1, 2}, 0, eight})), mentions("tensor t has 5 dimensions"));
    CHECK_THAT(gguf_refusal(folder, with_tensor({"t", {2, 0}, 0, eight})), mentions("tensor t has a size of 0"));
    CHECK_THAT(gguf_refusal(folder, with_tensor({"t", {std::uint64_t{1} << 32, std::uint64_t{1} << 32}, 0, eight})), mentions("overflows"));
    CHECK_THAT(gguf_refusal(folder, with_tensor({"t", {~std::uint64_t{0}}, 0, eight})), mentions("overflows"));
    CHECK_THAT(gguf_refusal(folder, with_tensor({"t", {2}, 99, eight})), mentions("tensor t has type 99"));
    CHECK_THAT(gguf_refusal(folder, with_tensor({"t", {16}, 2, eight})), mentions("rows of 16 do not fill blocks of 32 of type Q4_0"));
    CHECK_THAT(gguf_refusal(folder, with_tensor({"t", {1 << 20}, 0, eight})), mentions("do not fit into the file"));
    CHECK_THAT(gguf_refusal(folder, gguf({}, {{"t", {2}, 0, eight}, {"t", {2}, 0, eight}})), mentions("has the tensor t twice"));
    // the data of b begins elsewhere than behind a's
    CHECK_THAT(gguf_refusal(folder, gguf({}, {{"a", {2}, 0, eight}, {"b", {2}, 0, eight}}, 1)),
               mentions("begins at offset 8, where 32 was expected"));
    const float infinite[] = {1, INFINITY};
    const gguf_file file(folder.write("a.gguf", with_tensor({"t", {2}, 0, tiny::floats(infinite, 2)})));
    std::vector<float> values(2);
    CHECK_THAT(refusal([&] { file.read("t", values); }), mentions("tensor t: element 1 is not finite"));
}

TEST_CASE("GGUF: what is written is what was read", "[examples][gguf]") {
    for (const std::uint64_t alignment : {32U, 4U}) {
        const scratch_folder folder;
        const std::string whole = small_file(alignment);
        const gguf_file file(folder.write("a.gguf", whole));
        examples::gguf_writer writer(folder.path() / "b.gguf", file.metadata(), file.tensors());
        for (const gguf_tensor_info& tensor : file.tensors()) {
            const auto bytes = file.bytes(tensor.name);
            writer.append(bytes.first(1));
            writer.append(bytes.subspan(1));
        }
        CHECK_FALSE(std::filesystem::exists(folder.path() / "b.gguf"));
        writer.commit();
        CHECK(folder.read("b.gguf") == whole);
    }
}

TEST_CASE("GGUF: an entry is replaced or added", "[examples][gguf]") {
    std::vector<gguf_entry> metadata{{"a", gguf_value::u8, "\1"}, {"b", gguf_value::u8, "\2"}};
    set_entry(metadata, examples::gguf_number("a", 7));
    set_entry(metadata, examples::gguf_number("c", 8));
    CHECK(metadata == std::vector<gguf_entry>{examples::gguf_number("a", 7), {"b", gguf_value::u8, "\2"}, examples::gguf_number("c", 8)});
}

TEST_CASE("GGUF: a writer takes neither more nor less than its tensors", "[examples][gguf]") {
    const scratch_folder folder;
    const std::vector<std::byte> four(4), five(5);
    const std::vector<gguf_tensor_info> tensors{{"t", {1}, 0}};
    {
        examples::gguf_writer writer(folder.path() / "a.gguf", {}, tensors);
        CHECK_THROWS_AS(writer.commit(), std::logic_error);
        CHECK_THROWS_AS(writer.append(five), std::logic_error);
        writer.append(four);
        CHECK_THROWS_AS(writer.append(four), std::logic_error);
    }
    CHECK_FALSE(std::filesystem::exists(folder.path() / "a.gguf"));
}
