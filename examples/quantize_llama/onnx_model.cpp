// SPDX-License-Identifier: MIT
#include "quantize_llama/onnx_model.hpp"

#include <exception>
#include <magr/pack/format.hpp>
#include <magr/pack/matmul_nbits.hpp>
#include <magr/pack/named_tensors.hpp>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "common/error.hpp"
#include "common/output_file.hpp"
#include "common/protobuf.hpp"

namespace examples {
namespace {

// Numbers of onnx.proto, and versions that ONNX Runtime reads since 1.12.
constexpr int ir_version = 8;
constexpr int opset_version = 17;
constexpr int element_float = 1;
constexpr int element_uint8 = 2;
constexpr int attribute_int = 2;

/// The layer in the operator's layout, with numbers in the type of its input A, which holds those of all others.
/// @throws input_error
magr::matmul_nbits_tensors packed_layer(magr::quantized_matrix<float> q, const std::string& name) {
    q.storage = magr::storage_type::f32;
    if (q.zero_point == magr::zero_point::real && q.bits == 8)
        refuse(name, ": ONNX Runtime has no kernel for real zero points with 8 bits");
    try {
        return magr::pack_matmul_nbits(q);
    } catch (const std::exception& error) {
        refuse(name, ": ", error.what());
    }
}

protobuf_message attribute(std::string_view name, std::int64_t value) {
    protobuf_message message;
    message.add(1, name);
    message.add(3, value);
    message.add(20, attribute_int);
    return message;
}

protobuf_message initializer(const magr::named_tensor& tensor) {
    protobuf_message message;
    for (const magr::index_t size : tensor.shape) message.add(1, size);
    message.add(2, tensor.type == "U8" ? element_uint8 : element_float);
    message.add(8, tensor.name);
    message.add(9, tensor.bytes);
    return message;
}

/// A float32 matrix with any number of rows.
protobuf_message matrix_of_tokens(std::string_view name, magr::index_t cols) {
    protobuf_message rows, columns, shape, tensor, type, message;
    rows.add(2, std::string_view("tokens"));
    columns.add(1, cols);
    shape.add(1, rows);
    shape.add(1, columns);
    tensor.add(1, element_float);
    tensor.add(2, shape);
    type.add(1, tensor);
    message.add(1, name);
    message.add(2, type);
    return message;
}

protobuf_message operator_set(std::string_view domain, std::int64_t version) {
    protobuf_message message;
    message.add(1, domain);
    message.add(2, version);
    return message;
}

void write_layer(const std::filesystem::path& file, const magr::matmul_nbits_tensors& packed, std::span<const float> bias) {
    std::vector<magr::named_tensor> tensors = magr::named_tensors(packed);
    const bool has_zero_points = tensors.size() == 3;
    if (!bias.empty()) tensors.push_back({"bias", "F32", {packed.N}, std::as_bytes(bias)});

    protobuf_message node;
    std::vector<std::string_view> inputs = {"A", "B", "scales"};
    if (has_zero_points) inputs.push_back("zero_points");
    if (!bias.empty()) {
        inputs.resize(5);  // an input without a name is absent; the fifth is g_idx
        inputs.push_back("bias");
    }
    for (const std::string_view input : inputs) node.add(1, input);
    node.add(2, std::string_view("Y"));
    node.add(4, std::string_view("MatMulNBits"));
    node.add(5, attribute("K", packed.K));
    node.add(5, attribute("N", packed.N));
    node.add(5, attribute("bits", packed.bits));
    node.add(5, attribute("block_size", packed.block_size));
    node.add(7, std::string_view("com.microsoft"));

    protobuf_message graph;
    graph.add(1, std::move(node));
    graph.add(2, std::string_view("layer"));
    for (const magr::named_tensor& tensor : tensors) graph.add(5, initializer(tensor));
    graph.add(11, matrix_of_tokens("A", packed.K));
    graph.add(12, matrix_of_tokens("Y", packed.N));

    protobuf_message model;
    model.add(1, ir_version);
    model.add(2, std::string_view("magr"));
    model.add(7, std::move(graph));
    model.add(8, operator_set("", opset_version));
    model.add(8, operator_set("com.microsoft", 1));

    output_file output(file);
    model.write([&](std::span<const std::byte> bytes) { output.append(bytes); });
    output.commit();
}

}  // namespace

void write_onnx_layer(const std::filesystem::path& file, const magr::quantized_matrix<float>& q, std::span<const float> bias) {
    if (!bias.empty() && static_cast<magr::index_t>(bias.size()) != q.rows())
        refuse(file.string(), ": the bias must have ", q.rows(), " numbers, it has ", bias.size());
    write_layer(file, packed_layer(q, file.string()), bias);
}

void write_onnx_model(const finished_model& model, const std::filesystem::path& folder) {
    const std::int64_t blocks = model.original.config().num_hidden_layers;
    for (std::int64_t b = 0; b < blocks; ++b)
        for (const linear kind : all_linears) static_cast<void>(packed_layer(model.layer(b, kind), layer_name(b, kind)));

    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) refuse(folder.string(), ": cannot be made: ", error.message());
    for (std::int64_t b = 0; b < blocks; ++b) {
        const llama_block block = model.block(b);
        for (const linear kind : all_linears) {
            const std::string name = layer_name(b, kind);
            const row_f& bias = block.bias(kind);
            write_layer(folder / ("model." + name + ".onnx"), packed_layer(model.layer(b, kind), name),
                        {bias.data(), static_cast<std::size_t>(bias.size())});
        }
    }
}

}  // namespace examples
