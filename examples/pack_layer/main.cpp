// SPDX-License-Identifier: MIT
// From the weights of a layer to the bytes that two engines read: check the format, quantize onto grids that it can hold, pack. With the
// name of a file as argument, it writes the GPTQ layer there as safetensors.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <magr/magr.hpp>
#include <random>
#include <span>
#include <sstream>
#include <string>

namespace {

/// A safetensors file: the length of a header in 8 bytes, the header, which says where the bytes of each tensor begin and end, the bytes.
std::string safetensors(const std::string& layer, std::span<const magr::named_tensor> tensors) {
    std::ostringstream header;
    std::string bytes;
    for (const auto& [name, type, shape, data] : tensors) {
        header << (bytes.empty() ? '{' : ',') << '"' << layer << '.' << name << R"(":{"dtype":")" << type << R"(","shape":[)";
        for (std::size_t d = 0; d < shape.size(); ++d) header << (d > 0 ? "," : "") << shape[d];
        header << R"(],"data_offsets":[)" << bytes.size() << ',' << bytes.size() + data.size() << "]}";
        bytes.append(reinterpret_cast<const char*>(data.data()), data.size());
    }
    header << '}';
    const std::uint64_t length = header.str().size();
    return std::string(reinterpret_cast<const char*>(&length), sizeof length) + header.str() + bytes;
}

}  // namespace

int main(int argc, char** argv) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    magr::matrix<float> W(256, 512), X(2048, 512);  // your layer: out x in, and its inputs: tokens x in
    for (float& w : std::span(W.data(), 256 * 512)) w = 0.02f * normal(random);
    for (float& x : std::span(X.data(), 2048 * 512)) x = normal(random);
    magr::gram_accumulator<float> calibration(512);
    calibration.add(X);
    const auto& H = calibration.gram();

    // GPTQ, for vLLM and others: options that fit the format, the reasons why it would be refused, the tensors of the layer
    const auto format = magr::packed_format::gptq_v1;
    const magr::grid_options options = magr::grid_options_for(format, 128);
    for (const auto& problem : magr::problems({W.rows(), W.cols()}, options, format)) std::puts(problem.c_str());
    const auto gptq = magr::quantize_optq(W, H, options).quantized;
    const magr::gptq_tensors tensors = magr::pack_gptq(gptq, magr::gptq_version::v1);
    std::printf("GPTQ, 4 bits: qweight %td x %td, output error %.4f\n", tensors.qweight.rows(), tensors.qweight.cols(),
                magr::output_error(W, gptq.dequantize(), H));
    if (argc > 1) {
        const std::string contents = safetensors("model.layers.0.mlp.up_proj", magr::named_tensors(tensors));
        std::ofstream(argv[1], std::ios::binary) << contents;
        std::ifstream file(argv[1], std::ios::binary);
        const bool written = std::string(std::istreambuf_iterator<char>(file), {}) == contents;
        std::printf("%s: %s\n", argv[1], written ? "written" : "cannot be written");
        if (!written) return 1;
    }

    // a k-quant, for llama.cpp: its grids come first, then OPTQ chooses the codes
    const auto grids = magr::fit_k_quant_grids(W, H, magr::ggml_type::q4_k);
    const auto q4_k = magr::quantize_optq(W, H, grids).quantized;
    const magr::gguf_tensor tensor = magr::pack_gguf(q4_k, magr::ggml_type::q4_k);
    std::printf("Q4_K: %zu bytes, output error %.4f\n", tensor.data.size(), magr::output_error(W, q4_k.dequantize(), H));

    const bool exact = magr::unpack_gguf(tensor).dequantize() == q4_k.dequantize();
    std::printf("unpacked weights are those that were quantized: %s\n", exact ? "yes" : "no");
    return exact ? 0 : 1;
}
