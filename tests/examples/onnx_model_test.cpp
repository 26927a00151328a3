// SPDX-License-Identifier: MIT
#include "quantize_llama/onnx_model.hpp"

#include <cstdint>
#include <cstring>
#include <magr/pack/matmul_nbits.hpp>
#include <map>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/protobuf.hpp"
#include "pack/samples.hpp"
#include "refusal.hpp"
#include "scratch_folder.hpp"
#include "support/catch.hpp"
#include "tiny_llama.hpp"

namespace {

using magr::index_t;
using magr::zero_point;

/// A message of Protocol Buffers, read by the definition of the wire format: varints and contents of each field, in their order.
struct message {
    std::map<int, std::vector<std::int64_t>> numbers;
    std::map<int, std::vector<std::string>> texts;

    explicit message(std::string_view bytes) {
        const auto varint = [&bytes] {
            std::uint64_t value = 0;
            for (int shift = 0;; shift += 7) {
                const auto byte = static_cast<unsigned char>(bytes.at(0));
                bytes.remove_prefix(1);
                value |= std::uint64_t{byte & 127U} << shift;
                if (byte < 128) return value;
            }
        };
        while (!bytes.empty()) {
            const std::uint64_t key = varint(), value = varint();
            const int field = static_cast<int>(key / 8);
            if (key % 8 == 0) {
                numbers[field].push_back(static_cast<std::int64_t>(value));
            } else {
                REQUIRE(key % 8 == 2);
                REQUIRE(value <= bytes.size());
                texts[field].emplace_back(bytes.substr(0, static_cast<std::size_t>(value)));
                bytes.remove_prefix(static_cast<std::size_t>(value));
            }
        }
    }

    [[nodiscard]] std::string text(int field) const { return texts.at(field).at(0); }
    [[nodiscard]] std::int64_t number(int field) const { return numbers.at(field).at(0); }
    [[nodiscard]] message inner(int field) const { return message(text(field)); }
};

struct tensor {
    std::vector<std::int64_t> shape;
    std::int64_t type;  // 1 is float, 2 is uint8
    std::string bytes;

    bool operator==(const tensor&) const = default;
};

struct read_layer {
    std::vector<std::string> inputs;
    std::map<std::string, std::int64_t> attributes;
    std::map<std::string, tensor> tensors;
};

/// Reads a model of one node. Field numbers are those of onnx.proto.
read_layer parse(const std::string& file) {
    const message model(file);
    CHECK(model.number(1) == 8);
    CHECK(model.texts.at(8).size() == 2);
    CHECK(message(model.texts.at(8)[1]).text(1) == "com.microsoft");
    const message graph = model.inner(7);
    CHECK(graph.texts.at(11).size() == 1);
    CHECK(graph.inner(11).text(1) == "A");
    CHECK(graph.inner(12).text(1) == "Y");
    REQUIRE(graph.texts.at(1).size() == 1);
    const message node = graph.inner(1);
    CHECK(node.text(2) == "Y");
    CHECK(node.text(4) == "MatMulNBits");
    CHECK(node.text(7) == "com.microsoft");
    read_layer layer{node.texts.at(1), {}, {}};
    for (const std::string& text : node.texts.at(5)) {
        const message attribute(text);
        CHECK(attribute.number(20) == 2);  // an integer
        layer.attributes[attribute.text(1)] = attribute.number(3);
    }
    for (const std::string& text : graph.texts.at(5)) {
        const message t(text);
        layer.tensors[t.text(8)] = {t.numbers.at(1), t.number(2), t.text(9)};
    }
    // columns of input and output: type, tensor_type, shape, second dimension, dim_value
    const auto columns_of = [](const message& value) { return message(value.inner(2).inner(1).inner(2).texts.at(1).at(1)).number(1); };
    CHECK(columns_of(graph.inner(11)) == layer.attributes.at("K"));
    CHECK(columns_of(graph.inner(12)) == layer.attributes.at("N"));
    return layer;
}

std::string as_text(const void* data, std::size_t size) { return {static_cast<const char*>(data), size}; }
std::string as_text(const magr::matrix<std::uint8_t>& m) { return as_text(m.data(), static_cast<std::size_t>(m.rows() * m.cols())); }
std::string as_text(const magr::stored_matrix& m) { return as_text(m.bytes.data(), m.bytes.size()); }

magr::quantized_matrix<float> sample(index_t rows, index_t cols, const magr::grid_options& options, std::uint32_t seed = 1) {
    std::mt19937 random(seed);
    return samples::quantized(rows, cols, options, random);
}

}  // namespace

TEST_CASE("protobuf_message: numbers, texts, contents and messages by hand", "[examples][onnx][oracle]") {
    using namespace std::string_literals;
    const std::string contents(200, 'x');
    examples::protobuf_message inner, outer;
    inner.add(1, 150);
    inner.add(2, std::string_view("testing"));
    outer.add(3, inner);
    outer.add(16, std::as_bytes(std::span(contents)));
    outer.add(1, -1);
    outer.add(2, std::string_view());
    std::string written;
    outer.write([&](std::span<const std::byte> bytes) { written += as_text(bytes.data(), bytes.size()); });
    // 150 is 96 01; field 16 takes a key of two bytes; 200 is C8 01; -1 is ten bytes, as a number of 64 bits
    CHECK(written ==
          "\x1a\x0c\x08\x96\x01\x12\x07testing\x82\x01\xc8\x01"s + contents + "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x12\x00"s);
}

TEST_CASE("write_onnx_layer: the operator's inputs and attributes are those of the packer", "[examples][onnx]") {
    const scratch_folder folder;
    const std::vector<float> bias = {1, -2, 0.5f};
    for (const int bits : {2, 4, 8})
        for (const auto zero : {zero_point::none, zero_point::integer, zero_point::real})
            for (const bool has_bias : {false, true}) {
                if (bits == 8 && zero == zero_point::real) continue;
                CAPTURE(bits, static_cast<int>(zero), has_bias);
                auto q = sample(3, 50, {.bits = bits, .zero_point = zero, .group_size = 16, .storage = magr::storage_type::f32});
                const auto expected = magr::pack_matmul_nbits(q);
                examples::write_onnx_layer(folder.path() / "layer.onnx", q, has_bias ? bias : std::vector<float>());
                const read_layer layer = parse(folder.read("layer.onnx"));

                CHECK(layer.attributes == std::map<std::string, std::int64_t>{{"K", 50}, {"N", 3}, {"bits", bits}, {"block_size", 16}});
                std::vector<std::string> inputs = {"A", "B", "scales"};
                std::map<std::string, tensor> tensors = {{"B", {{3, 4, 2 * bits}, 2, as_text(expected.B)}},
                                                         {"scales", {{3, 4}, 1, as_text(expected.scales)}}};
                if (zero == zero_point::integer) tensors["zero_points"] = {{3, (4 * bits + 7) / 8}, 2, as_text(expected.zero_points)};
                if (zero == zero_point::real) tensors["zero_points"] = {{3, 4}, 1, as_text(expected.real_zero_points)};
                if (zero != zero_point::none) inputs.push_back("zero_points");
                if (has_bias) {
                    inputs.resize(5);
                    inputs.push_back("bias");
                    tensors["bias"] = {{3}, 1, as_text(bias.data(), 12)};
                }
                CHECK(layer.inputs == inputs);
                CHECK(layer.tensors == tensors);
            }
}

TEST_CASE("write_onnx_layer: scales of 16 bits become float32 without a change", "[examples][onnx]") {
    const scratch_folder folder;
    for (const auto storage : {magr::storage_type::f16, magr::storage_type::bf16}) {
        auto q = sample(3, 32, {.bits = 4, .zero_point = zero_point::real, .group_size = 16, .storage = storage});
        examples::write_onnx_layer(folder.path() / "layer.onnx", q, {});
        const read_layer layer = parse(folder.read("layer.onnx"));
        CHECK(layer.tensors.at("scales").bytes == as_text(q.scales.data(), 24));
        CHECK(layer.tensors.at("zero_points").bytes == as_text(q.zeros.data(), 24));
    }
}

TEST_CASE("write_onnx_layer: refuses what the operator cannot hold, and writes nothing", "[examples][onnx][edge]") {
    const scratch_folder folder;
    const auto message = [&](const magr::quantized_matrix<float>& q, std::span<const float> bias = {}) {
        const std::string text = refusal([&] {
            examples::write_onnx_layer(folder.path() / "layer.onnx", q, bias);
            return 0;
        });
        CHECK(std::filesystem::is_empty(folder.path()));
        return text;
    };
    CHECK_THAT(message(sample(3, 32, {.bits = 3, .group_size = 16})), mentions("bits must be 2, 4 or 8"));
    CHECK_THAT(message(sample(3, 96, {.bits = 4, .group_size = 48})), mentions("group_size"));
    CHECK_THAT(message(sample(3, 32, {.bits = 4, .group_size = 8})), mentions("group_size"));
    CHECK_THAT(message(sample(3, 512, {.bits = 4, .group_size = 512})), mentions("group_size"));
    CHECK_THAT(message(sample(3, 32, {.bits = 8, .zero_point = zero_point::real})), mentions("real zero points with 8 bits"));
    CHECK_THAT(message(sample(3, 32, {.bits = 4, .zero_point = zero_point::offset})), mentions("zero_point"));
    auto q = sample(3, 32, {.bits = 4, .group_size = 16});
    std::swap(q.group_of_column[0], q.group_of_column[31]);
    CHECK_THAT(message(q), mentions("group_of_column"));
    const std::vector<float> two(2);
    CHECK_THAT(message(sample(3, 32, {.bits = 4, .group_size = 16}), two), mentions("the bias must have 3 numbers, it has 2"));
}

TEST_CASE("write_onnx_model: a file for each linear layer, named after it", "[examples][onnx]") {
    auto config = tiny::config();
    config.qkv_bias = true;
    const auto m = tiny::model(config);
    const tiny::model_in_folder original(m);
    int bits_of_last = 4;
    const auto layer = [&](std::int64_t block, examples::linear kind) {
        const auto& w = m.blocks[static_cast<std::size_t>(block)][kind];
        const bool is_last = block == config.num_hidden_layers - 1 && kind == examples::linear::down_proj;
        return sample(w.rows(), w.cols(), {.bits = is_last ? bits_of_last : 4, .group_size = 16, .storage = magr::storage_type::f16},
                      static_cast<std::uint32_t>(block * 10 + static_cast<int>(kind)));
    };
    const examples::finished_model model{original.get(), [&](std::int64_t b) { return m.blocks[static_cast<std::size_t>(b)]; }, layer};
    const scratch_folder folder;
    const auto target = folder.path() / "new" / "onnx";

    bits_of_last = 3;
    CHECK_THAT(refusal([&] {
                   examples::write_onnx_model(model, target);
                   return 0;
               }),
               mentions("layers.1.mlp.down_proj: pack_matmul_nbits: bits must be 2, 4 or 8"));
    CHECK(std::filesystem::is_empty(folder.path()));  // not one of the layers before it

    bits_of_last = 4;
    examples::write_onnx_model(model, target);
    std::size_t files = 0;
    for (std::int64_t b = 0; b < config.num_hidden_layers; ++b)
        for (const examples::linear kind : examples::all_linears) {
            const std::string name = "model.layers." + std::to_string(b) + "." + examples::name_of(kind) + ".onnx";
            CAPTURE(name);
            const read_layer written = parse(folder.read("new/onnx/" + name));
            auto q = layer(b, kind);
            CHECK(written.tensors.at("B").bytes == as_text(magr::pack_matmul_nbits(q).B));
            const auto& bias = m.blocks[static_cast<std::size_t>(b)].bias(kind);
            CHECK(written.tensors.contains("bias") == (bias.size() != 0));
            if (bias.size() != 0)
                CHECK(written.tensors.at("bias").bytes == as_text(bias.data(), static_cast<std::size_t>(bias.size()) * sizeof(float)));
            ++files;
        }
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(target)) --files;
    CHECK(files == 0);  // and nothing else
}
