// SPDX-License-Identifier: MIT
#include "quantize_llama/safetensors.hpp"

#include <filesystem>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "refusal.hpp"
#include "scratch_folder.hpp"
#include "support/catch.hpp"
#include "tiny_llama.hpp"

using examples::model_tensors;
using examples::safetensors_file;
using tiny::bytes_of;
using tiny::safetensors;
using tiny::stored_tensor;

namespace {

std::string halves(const std::vector<std::uint16_t>& bits) {
    std::string bytes;
    for (const std::uint16_t value : bits) bytes += bytes_of(value);
    return bytes;
}

/// The message with which a file with this header and data is refused.
std::string safetensors_refusal(const scratch_folder& folder, const std::string& contents) {
    const auto path = folder.write("bad.safetensors", contents);
    const std::string message = refusal([&] { return safetensors_file(path); });
    if (!message.empty()) {
        CHECK(message.starts_with(path.string()));
        CHECK(message.find('\n') == std::string::npos);
    }
    return message;
}

std::string tensor(const std::string& name, const std::string& dtype, const std::string& shape, const std::string& offsets) {
    return "\"" + name + R"(":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

}  // namespace

TEST_CASE("safetensors: values of all three types are read exactly", "[examples][safetensors]") {
    const scratch_folder folder;
    const std::vector<float> floats{1.0f, -2.5f, 1e-40f, 3.4028235e38f};
    safetensors_file file(folder.write("a.safetensors", safetensors({tiny::float_tensor("f", {2, 2}, floats.data()),
                                                                     {"h", "F16", {5}, halves({0x3C00, 0xC100, 0x0001, 0x7BFF, 0x8000})},
                                                                     {"b", "BF16", {3}, halves({0x3F80, 0xC020, 0x0001})}})));
    CHECK(file.read("f") == floats);
    CHECK(file.read("h") == std::vector<float>{1.0f, -2.5f, 0x1p-24f, 65504.0f, -0.0f});
    CHECK(file.read("b") == std::vector<float>{1.0f, -2.5f, 0x1p-133f});
    CHECK(file.tensors().at("f").shape == std::vector<std::uint64_t>{2, 2});
}

TEST_CASE("safetensors: values beyond the part that is read at once are in place", "[examples][safetensors]") {
    const scratch_folder folder;
    std::vector<float> values(1'100'003);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
    {
        const safetensors_file file(folder.write("a.safetensors", safetensors({tiny::float_tensor("f", {1'100'003}, values.data())})));
        CHECK(file.read("f") == values);
        CHECK(file.read("f") == values);  // again, after the file's memory was released
    }
    values[1'100'001] = std::numeric_limits<float>::infinity();
    const safetensors_file file(folder.write("b.safetensors", safetensors({tiny::float_tensor("f", {1'100'003}, values.data())})));
    CHECK_THAT(refusal([&] { return file.read("f"); }), mentions("element 1100001 of shape [1100003] is not finite"));
}

TEST_CASE("safetensors: scalars, empty tensors, metadata, padding and an empty file are valid", "[examples][safetensors]") {
    const scratch_folder folder;
    safetensors_file file(folder.write(
        "a.safetensors", safetensors(R"({"__metadata__":{"format":"pt"},)" + tensor("s", "F32", "[]", "[0,4]") + "," +
                                         tensor("e", "F32", "[3,0]", "[4,4]") + "," + tensor("six", "F6_E2M3", "[4]", "[4,7]") + "}   ",
                                     bytes_of(1.5f) + "abc")));
    CHECK(file.read("s") == std::vector<float>{1.5f});
    CHECK(file.read("e").empty());
    CHECK(safetensors_file(folder.write("b.safetensors", safetensors("{}", ""))).tensors().empty());
}

TEST_CASE("safetensors: each rule of the format refuses what breaks it", "[examples][safetensors]") {
    const scratch_folder folder;
    const std::string four(4, '\0'), eight(8, '\0');
    const auto with = [](const std::string& entries, const std::string& data) { return safetensors("{" + entries + "}", data); };
    const std::string good = tensor("a", "F32", "[1]", "[0,4]");
    REQUIRE(safetensors_refusal(folder, with(good, four)).empty());

    CHECK_THAT(safetensors_refusal(folder, ""), mentions("too short"));
    CHECK_THAT(safetensors_refusal(folder, "1234567"), mentions("too short"));
    CHECK_THAT(safetensors_refusal(folder, bytes_of(std::uint64_t{100'000'001}) + "{}"), mentions("longer than the 100000000"));
    CHECK_THAT(safetensors_refusal(folder, bytes_of(~std::uint64_t{0}) + "{}"), mentions("longer than"));
    CHECK_THAT(safetensors_refusal(folder, bytes_of(std::uint64_t{3}) + "{}"), mentions("does not fit into the file's 10"));
    CHECK_THAT(safetensors_refusal(folder, safetensors("", "")), mentions("does not begin with '{'"));
    CHECK_THAT(safetensors_refusal(folder, safetensors(" {}", "")), mentions("does not begin with '{'"));
    CHECK_THAT(safetensors_refusal(folder, safetensors("[]", "")), mentions("does not begin with '{'"));
    CHECK_THAT(safetensors_refusal(folder, safetensors("{} x", "")), mentions("not valid JSON"));
    CHECK_THAT(safetensors_refusal(folder, safetensors("{\"\xff\":1}", "")), mentions("not valid JSON"));
    CHECK_THAT(safetensors_refusal(folder, safetensors("{" + std::string(100, '['), "")), mentions("not valid JSON"));
    CHECK_THAT(safetensors_refusal(folder, safetensors("{\"a\":" + std::string(100, '[') + std::string(100, ']') + "}", "")),
               mentions("nested deeper"));
    CHECK_THAT(safetensors_refusal(folder, with(good + "," + good, four)), mentions("\"a\" appears twice"));
    CHECK_THAT(safetensors_refusal(folder, with(R"("a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]})", four)),
               mentions("\"dtype\" appears twice"));
    CHECK_THAT(safetensors_refusal(folder, with(R"("__metadata__":3)", "")), mentions("__metadata__"));
    CHECK_THAT(safetensors_refusal(folder, with(R"("__metadata__":{"x":1})", "")), mentions("not a string"));

    CHECK_THAT(safetensors_refusal(folder, with(R"("a\n\u001b[1m":[])", "")), mentions("tensor a??[1m: not an object"));
    CHECK_THAT(safetensors_refusal(folder, with(R"("a":[])", "")), mentions("not an object"));
    CHECK_THAT(safetensors_refusal(folder, with(R"("a":{"shape":[1],"data_offsets":[0,4]})", four)), mentions("dtype is missing"));
    CHECK_THAT(safetensors_refusal(folder, with(R"("a":{"dtype":"F32","data_offsets":[0,4]})", four)), mentions("shape is missing"));
    CHECK_THAT(safetensors_refusal(folder, with(R"("a":{"dtype":"F32","shape":[1]})", four)), mentions("data_offsets is missing"));
    CHECK_THAT(safetensors_refusal(folder, with(R"("a":{"dtype":7,"shape":[1],"data_offsets":[0,4]})", four)),
               mentions("dtype is not a string"));
    CHECK_THAT(safetensors_refusal(folder, with(tensor("a", "F33", "[1]", "[0,4]"), four)), mentions("unknown dtype \"F33\""));
    CHECK_THAT(safetensors_refusal(folder, with(tensor("a", "F32", "1", "[0,4]"), four)), mentions("shape is not an array"));
    CHECK_THAT(safetensors_refusal(folder, with(tensor("a", "F32", "[-1]", "[0,4]"), four)), mentions("non-negative integer"));
    CHECK_THAT(safetensors_refusal(folder, with(tensor("a", "F32", "[1.0]", "[0,4]"), four)), mentions("non-negative integer"));
    CHECK_THAT(safetensors_refusal(folder, with(tensor("a", "F32", "[\"1\"]", "[0,4]"), four)), mentions("non-negative integer"));
    CHECK_THAT(safetensors_refusal(folder, with(tensor("a", "F32", "[4294967296,4294967296]", "[0,4]"), four)), mentions("overflows"));
    CHECK_THAT(safetensors_refusal(folder, with(tensor("a", "F32", "[576460752303423489]", "[0,4]"), four)), mentions("overflows"));
    CHECK_THAT(safetensors_refusal(folder, with(tensor("a", "F4", "[3]", "[0,1]"), "x")), mentions("whole bytes"));
    CHECK_THAT(safetensors_refusal(folder, with(tensor("a", "F32", "[1]", "[0]"), four)), mentions("two integers"));
    CHECK_THAT(safetensors_refusal(folder, with(tensor("a", "F32", "[1]", "[0,4,8]"), four)), mentions("two integers"));
    CHECK_THAT(safetensors_refusal(folder, with(tensor("a", "F32", "[1]", "[0,-4]"), four)), mentions("non-negative integer"));
    CHECK_THAT(safetensors_refusal(folder, with(tensor("a", "F32", "[1]", "[4,0]"), four)), mentions("end before they begin"));
    CHECK_THAT(safetensors_refusal(folder, with(tensor("a", "F32", "[1]", "[18446744073709551608,18446744073709551612]"), four)),
               mentions("overflow"));
    CHECK_THAT(safetensors_refusal(folder, with(tensor("a", "F32", "[2]", "[0,4]"), four)),
               mentions("span 4 bytes, shape [2] of F32 needs 8"));

    CHECK_THAT(safetensors_refusal(folder, with(tensor("a", "F32", "[1]", "[4,8]"), eight)), mentions("a hole"));
    CHECK_THAT(safetensors_refusal(folder, with(good + "," + tensor("b", "F32", "[1]", "[5,9]"), eight + "x")),
               mentions("tensor b: begins at offset 5, where 4"));
    CHECK_THAT(safetensors_refusal(folder, with(good + "," + tensor("b", "F32", "[1]", "[2,6]"), eight)), mentions("an overlap"));
    CHECK_THAT(safetensors_refusal(folder, with(good, eight)), mentions("the tensors end at"));
    CHECK_THAT(safetensors_refusal(folder, with(good, "xyz")), mentions("the tensors end at"));
}

TEST_CASE("safetensors: what cannot be a weight is refused when it is read", "[examples][safetensors]") {
    const scratch_folder folder;
    const float values[] = {1.0f, std::numeric_limits<float>::quiet_NaN()};
    const auto path = folder.write("a.safetensors", safetensors({tiny::float_tensor("nan", {1, 2}, values),
                                                                 {"i", "I32", {1}, std::string(4, '\0')},
                                                                 {"h", "F16", {1}, halves({0x7C00})}}));
    safetensors_file file(path);
    CHECK(refusal([&] { return file.read("nan"); }) == path.string() + ": tensor nan: element 1 of shape [1, 2] is not finite");
    CHECK_THAT(refusal([&] { return file.read("h"); }), mentions("not finite"));
    CHECK_THAT(refusal([&] { return file.read("i"); }), mentions("must be F32, F16 or BF16"));
    CHECK_THAT(refusal([&] { return file.read("none"); }), mentions("missing"));
}

TEST_CASE("safetensors: a damaged file is read or refused, nothing else", "[examples][safetensors][adversarial]") {
    const scratch_folder folder;
    const std::vector<float> values(6, 1.0f);
    const std::string valid = safetensors({tiny::float_tensor("a", {2, 2}, values.data()), tiny::float_tensor("b", {2}, values.data())});
    std::mt19937 random(11);
    int accepted = 0, rejected = 0;
    for (std::size_t at = 0; at < valid.size(); ++at)
        for (int change = 0; change < 8; ++change) {
            std::string damaged = valid;
            damaged[at] = static_cast<char>(random());
            const auto path = folder.write("d.safetensors", damaged);
            const std::string message = refusal([&] {
                safetensors_file file(path);
                for (const auto& entry : file.tensors()) static_cast<void>(file.read(entry.first));
                return 0;
            });
            ++(message.empty() ? accepted : rejected);
        }
    CHECK(accepted > 0);  // mutations of values are accepted
    CHECK(rejected > accepted);
}

TEST_CASE("safetensors: the files of a sharded model are found by the index", "[examples][safetensors]") {
    const scratch_folder folder;
    const std::vector<float> a{1.0f, 2.0f}, b{3.0f};
    folder.write("one.safetensors", safetensors({tiny::float_tensor("a", {2}, a.data())}));
    folder.write("two.safetensors", safetensors({tiny::float_tensor("b", {1}, b.data())}));
    const auto index = [&](const std::string& map) {
        folder.write("model.safetensors.index.json", R"({"metadata":{"total_size":12},"weight_map":)" + map + "}");
        return refusal([&] { return model_tensors(folder.path()); });
    };
    REQUIRE(index(R"({"a":"one.safetensors","b":"two.safetensors"})").empty());
    model_tensors tensors(folder.path());
    CHECK(tensors.names() == std::vector<std::string>{"a", "b"});
    const auto read = [&](const std::string& name, const std::vector<std::uint64_t>& shape) {
        std::vector<float> values(shape.front());
        tensors.read(name, shape, values);
        return values;
    };
    CHECK(read("a", {2}) == a);
    CHECK(read("b", {1}) == b);
    CHECK_THAT(refusal([&] { return read("b", {1, 1}); }), mentions("tensor b has shape [1], config.json asks for [1, 1]"));
    CHECK_THAT(refusal([&] { return read("c", {1}); }), mentions("tensor c is missing"));
    CHECK(tensors.file_of("b").path() == folder.path() / "two.safetensors");
    CHECK(model_tensors::of_file(folder.path() / "one.safetensors").names() == std::vector<std::string>{"a"});

    CHECK_THAT(index(R"({"a":"one.safetensors"})").append(index(R"({"a":"one.safetensors","b":"one.safetensors"})")),
               mentions("tensor b of the index is missing"));
    CHECK_THAT(index(R"({"a":"one.safetensors","b":"three.safetensors"})"), mentions("three.safetensors: no such file"));
    CHECK_THAT(index(R"({"a":"../one.safetensors"})"), mentions("not the name of a file in the same folder"));
    CHECK_THAT(index(R"({"a":"/one.safetensors"})"), mentions("not the name of a file in the same folder"));
    CHECK_THAT(index(R"({"a":".."})"), mentions("not the name of a file in the same folder"));
    CHECK_THAT(index(R"({"a":7})"), mentions("not a string"));
    CHECK_THAT(index("[]"), mentions("weight_map is not an object"));
    folder.write("two.safetensors", safetensors({tiny::float_tensor("a", {2}, a.data()), tiny::float_tensor("b", {1}, b.data())}));
    CHECK_THAT(index(R"({"a":"one.safetensors","b":"two.safetensors"})"),
               mentions("two.safetensors: tensor a is not assigned to this file"));
}

TEST_CASE("safetensors: a folder without weights is refused", "[examples][safetensors]") {
    const scratch_folder folder;
    CHECK_THAT(refusal([&] { return model_tensors(folder.path()); }), mentions("has neither model.safetensors nor"));
}

TEST_CASE("write_safetensors: what was written is read again, wide types first and aligned", "[examples][safetensors]") {
    const scratch_folder folder;
    const std::vector<float> floats{1.0f, -2.5f, 3.0f};
    const std::vector<std::uint8_t> codes{1, 2, 3};
    const std::string half = halves({0x3C00});
    examples::write_safetensors(folder.path() / "a.safetensors",
                                {{"codes", "U8", {3}, std::as_bytes(std::span(codes))},
                                 {"half", "F16", {1, 1}, std::as_bytes(std::span(half))},
                                 {"z", "F32", {3}, std::as_bytes(std::span(floats))},
                                 {"a", "F32", {1, 2}, std::as_bytes(std::span(floats).first(2))}},
                                {{"bits", "2"}});
    const safetensors_file file(folder.path() / "a.safetensors");
    CHECK(file.read("z") == floats);
    CHECK(file.read("a") == std::vector<float>{1.0f, -2.5f});
    CHECK(file.read("half") == std::vector<float>{1.0f});
    CHECK(static_cast<int>(file.bytes("codes")[2]) == 3);
    CHECK(file.tensors().at("a").shape == std::vector<std::uint64_t>{1, 2});
    CHECK(file.tensors().at("a").begin % 8 == 0);
    CHECK(file.tensors().at("a").begin < file.tensors().at("z").begin);
    CHECK(file.tensors().at("z").begin < file.tensors().at("half").begin);
    CHECK(file.tensors().at("half").begin < file.tensors().at("codes").begin);
    CHECK_THAT(folder.read("a.safetensors"), mentions(R"("__metadata__":{"bits":"2","format":"pt"})"));
    CHECK_FALSE(std::filesystem::exists(folder.path() / "a.safetensors.part"));
}
