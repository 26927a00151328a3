// SPDX-License-Identifier: MIT
// Writes random layers for onnxruntime_test.py into a folder: NAME.onnx, NAME.inputs.npy, and NAME.outputs.npy, which are inputs times Q^T
// plus the bias, summed in double from the dequantized weights.
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "common/npy.hpp"
#include "common/output_file.hpp"
#include "pack/samples.hpp"
#include "quantize_llama/onnx_model.hpp"

namespace {

void write_npy(const std::filesystem::path& path, const magr::matrix<float>& m) {
    examples::npy_matrix file;
    file.type = examples::npy_type::float32;
    file.rows = m.rows();
    file.cols = m.cols();
    file.elements.resize(static_cast<std::size_t>(m.rows() * m.cols()) * sizeof(float));
    std::memcpy(file.elements.data(), m.data(), file.elements.size());
    examples::output_file(path).commit(examples::to_npy(file));
}

void write_layer(const std::filesystem::path& folder, const std::string& name, magr::index_t rows, magr::index_t cols,
                 const magr::grid_options& options, bool has_bias, std::mt19937& random) {
    constexpr magr::index_t tokens = 5;
    std::normal_distribution<float> normal;
    const auto q = samples::quantized(rows, cols, options, random);
    std::vector<float> bias(has_bias ? static_cast<std::size_t>(rows) : 0);
    for (float& b : bias) b = normal(random);
    magr::matrix<float> inputs(tokens, cols), outputs(tokens, rows);
    for (float& x : std::span(inputs.data(), static_cast<std::size_t>(tokens * cols))) x = normal(random);

    const auto weights = q.dequantize();
    for (magr::index_t t = 0; t < tokens; ++t)
        for (magr::index_t i = 0; i < rows; ++i) {
            double sum = has_bias ? static_cast<double>(bias[static_cast<std::size_t>(i)]) : 0;
            for (magr::index_t j = 0; j < cols; ++j) sum += static_cast<double>(inputs(t, j)) * static_cast<double>(weights(i, j));
            outputs(t, i) = static_cast<float>(sum);
        }
    examples::write_onnx_layer(folder / (name + ".onnx"), q, bias);
    write_npy(folder / (name + ".inputs.npy"), inputs);
    write_npy(folder / (name + ".outputs.npy"), outputs);
}

void write_layers(const std::filesystem::path& folder) {
    std::mt19937 random(1);
    int count = 0;
    for (const int bits : {2, 4, 8})
        for (const auto zero : {magr::zero_point::none, magr::zero_point::integer, magr::zero_point::real}) {
            if (bits == 8 && zero == magr::zero_point::real) continue;  // which the writer refuses
            for (const magr::index_t group : {16, 32, 64, 128})
                for (const magr::index_t cols : {256, 300, 100, 7})
                    for (const auto storage : {magr::storage_type::f32, magr::storage_type::f16})
                        for (const bool has_bias : {false, true}) {
                            const std::string name = std::to_string(bits) + "_bits-zero_point_" + to_string(zero) + "-groups_of_" +
                                                     std::to_string(group) + "-" + std::to_string(cols) + "_inputs-" + to_string(storage) +
                                                     (has_bias ? "-bias" : "");
                            write_layer(folder, name, 24, cols, {.bits = bits, .zero_point = zero, .group_size = group, .storage = storage},
                                        has_bias, random);
                            ++count;
                        }
        }
    std::printf("%d layers\n", count);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        std::fputs("usage: write_onnx_layers FOLDER\n", stderr);
        return 2;
    }
    try {
        write_layers(argv[1]);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
