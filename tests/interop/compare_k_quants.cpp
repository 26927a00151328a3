// SPDX-License-Identifier: MIT
// What ggml's own quantizers of k-quants and `quantize_llama --methods optq+refine` make of one linear layer: the errors of its outputs on
// tokens that neither has seen. Weights and tokens are raw float32, row by row.
//
//   compare_k_quants WEIGHTS.f32 CALIBRATION.f32 OTHER.f32 INPUTS [ROWS]
#include <ggml.h>

#include <Eigen/Core>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iterator>
#include <magr/calibration/output_error.hpp>
#include <magr/gguf/gguf_block.hpp>
#include <magr/parallel/thread_pool.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "quantize_llama/calibration_gram.hpp"
#include "quantize_llama/k_quant_method.hpp"

namespace {

using examples::matrix_f;

struct k_quant_type {
    const char* name;
    ggml_type theirs;
    magr::ggml_type ours;
};
constexpr k_quant_type types[] = {{"Q2_K", GGML_TYPE_Q2_K, magr::ggml_type::q2_k},
                                  {"Q3_K", GGML_TYPE_Q3_K, magr::ggml_type::q3_k},
                                  {"Q4_K", GGML_TYPE_Q4_K, magr::ggml_type::q4_k},
                                  {"Q5_K", GGML_TYPE_Q5_K, magr::ggml_type::q5_k},
                                  {"Q6_K", GGML_TYPE_Q6_K, magr::ggml_type::q6_k}};

matrix_f read(const std::string& name, Eigen::Index cols) {
    std::ifstream file(name, std::ios::binary);
    if (!file) throw std::runtime_error(name + " cannot be opened");
    const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
    const auto count = static_cast<Eigen::Index>(bytes.size() / sizeof(float));
    if (cols < 1 || count == 0 || count % cols != 0) throw std::runtime_error(name + " does not have rows of " + std::to_string(cols));
    matrix_f m(count / cols, cols);
    std::copy_n(bytes.data(), static_cast<std::size_t>(count) * sizeof(float), reinterpret_cast<char*>(m.data()));
    return m;
}

/// @param importance  of each input, or null
matrix_f by_ggml(const matrix_f& W, ggml_type type, const float* importance) {
    std::vector<char> blocks(ggml_row_size(type, W.cols()) * static_cast<std::size_t>(W.rows()));
    ggml_quantize_chunk(type, W.data(), blocks.data(), 0, W.rows(), W.cols(), importance);
    matrix_f values(W.rows(), W.cols());
    ggml_get_type_traits(type)->to_float(blocks.data(), values.data(), values.size());
    return values;
}

/// The Gram matrix and the damping, as the program finds them in a text with chunks of 256 tokens.
examples::layer_calibration calibrate(const matrix_f& X, const examples::quantization& how, magr::thread_pool& pool) {
    constexpr Eigen::Index chunk = 256;
    const Eigen::Index chunks = (X.rows() + chunk - 1) / chunk;
    examples::calibration_gram gram(X.cols(), examples::chooses_damping(how));
    for (Eigen::Index c = 0; c < chunks; ++c)
        gram.add(static_cast<std::size_t>(c), static_cast<std::size_t>(chunks),
                 X.middleRows(c * chunk, std::min(chunk, X.rows() - c * chunk)), pool);
    examples::layer_calibration found;
    gram.finish(found, pool);
    return found;
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc < 5) throw std::runtime_error("give files of weights, of calibration and of other tokens, and the number of inputs");
    const Eigen::Index inputs = std::stol(argv[4]);
    matrix_f W = read(argv[1], inputs);
    if (argc > 5) W = matrix_f(W.topRows(std::min<Eigen::Index>(std::stol(argv[5]), W.rows())));
    const matrix_f X = read(argv[2], inputs), other = read(argv[3], inputs);
    magr::thread_pool pool(1);
    magr::gram_accumulator<double> on_other(inputs);
    on_other.add(other, pool);
    const magr::matrix<double> other_gram = on_other.gram(pool);
    const auto error = [&](const matrix_f& Q) { return magr::output_error(W, Q, other_gram, pool); };

    examples::quantization how;
    how.method = examples::method::optq_refine;
    how.ggml = magr::ggml_type::q4_k;  // any k-quant: the damping does not depend on it
    const examples::layer_calibration calibration = calibrate(X, how, pool);
    std::vector<float> importance;
    for (Eigen::Index j = 0; j < inputs; ++j)
        importance.push_back(static_cast<float>(calibration.gram(j, j) / static_cast<double>(X.rows())));

    std::printf("%td x %td weights, damping %g\n| type | plain | importance | ours, ratio |\n|---|---|---|---|\n", W.rows(), W.cols(),
                calibration.damping.value_or(0.01));
    for (const k_quant_type& type : types) {
        how.ggml = type.ours;
        const double plain = error(by_ggml(W, type.theirs, nullptr)), weighed = error(by_ggml(W, type.theirs, importance.data()));
        const double ours = error(examples::on_k_quant_grids("layer", W, calibration, how, pool).values);
        std::printf("| %s | %.2e | %.2e | %.2f |\n", type.name, plain, weighed, ours / std::min(plain, weighed));
        std::fflush(stdout);
    }
    ggml_quantize_free();
} catch (const std::exception& e) {
    std::fprintf(stderr, "compare_k_quants: %s\n", e.what());
    return 1;
}
