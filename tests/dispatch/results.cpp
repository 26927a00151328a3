// SPDX-License-Identifier: MIT
// Prints, bit by bit, what functions of every part of the core compute. One such program links magr::dispatch; one for each instruction set
// is compiled for that set throughout, so that nothing is chosen when it runs. They must print the same.
#include <Eigen/Core>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <random>
#include <vector>

#include <magr/magr.hpp>
#include <magr/parallel/thread_pool.hpp>

namespace {

/// Numbers of which the host computes each by one division, which every instruction set rounds in the same way.
Eigen::MatrixXf numbers(Eigen::Index rows, Eigen::Index cols, unsigned seed) {
    std::mt19937 random(seed);
    return Eigen::MatrixXf::NullaryExpr(rows, cols, [&] { return (static_cast<float>(random() % 2001) - 1000) / 337; });
}

std::uint64_t mix(std::uint64_t hash, std::uint64_t bits) { return (hash ^ bits) * 0x100000001b3; }

template <class T>
void print(const char* name, const T* data, std::size_t count) {
    std::uint64_t hash = 0xcbf29ce484222325;
    for (std::size_t i = 0; i < count; ++i) {
        std::uint64_t bits = 0;
        std::memcpy(&bits, &data[i], sizeof(T));
        hash = mix(hash, bits);
    }
    std::printf("%s: %016llx\n", name, static_cast<unsigned long long>(hash));
}

void print(const char* name, double number) { print(name, &number, 1); }

template <class Matrix>
void print(const char* name, const Matrix& M) {
    std::vector<double> all;
    for (magr::index_t i = 0; i < M.rows(); ++i) {
        for (magr::index_t j = 0; j < M.cols(); ++j) all.push_back(static_cast<double>(M(i, j)));
    }
    print(name, all.data(), all.size());
}

void print_all() {
    constexpr int outputs = 37, inputs = 128;
    const Eigen::MatrixXf W = numbers(outputs, inputs, 1), X = numbers(3 * inputs, inputs, 2);
    magr::thread_pool pool(2);

    magr::gram_accumulator<double> calibration(inputs);
    calibration.add(X, pool);
    const auto gram = calibration.gram(pool);
    print("gram", gram);
    const magr::hessian H(gram);

    Eigen::MatrixXf M = W;
    print("preprocess", magr::preprocess(M, H, {}, {}, pool).objective);
    print("preprocessed", M);
    M = W;
    print("proximal gradient", magr::preprocess(M, H, {.solver = magr::preprocess_solver::proximal_gradient}, {}, pool).objective);

    print("rtn", magr::quantize_rtn(W, H, {.bits = 3, .range = magr::range_search::row_output_error}, {}, pool).dequantize());
    const auto optq = magr::quantize_optq(W, H, {.bits = 3, .group_size = 32}, {.order = magr::column_order::act_order}, pool);
    print("optq", optq.quantized.dequantize());
    print("optq: error", optq.output_error.value_or(-1));
    const auto in_double = magr::quantize_optq(Eigen::MatrixXd(W.cast<double>()), gram, {.bits = 2});
    print("optq in double", in_double.quantized.dequantize());
    print("owq", magr::quantize_owq(W, H, {.weak_columns = 2}, pool).quantized.dequantize());
    print("quip", magr::quantize_quip(W, H, {.bits = 4, .greedy_passes = 1}, pool).output_error.value_or(-1));
    const auto layer = magr::quantize_layer(W, H, {.grid = {.bits = 2}, .preprocess = magr::preprocess_options{}}, pool);
    print("layer", layer.output_error.value_or(-1));
    const auto H_row = magr::row_hessian_from_keys(magr::as_const_view(X).block(0, 0, X.rows(), outputs));
    print("boa", magr::quantize_boa(W, gram, H_row, {.bits = 3}).loss);
    M = W;
    const Eigen::MatrixXf D = numbers(inputs, inputs, 3);
    static_cast<void>(magr::compensate_drift(M, H, D, {}, pool));
    print("compensated", M);

    const auto packed =
        magr::pack_gguf(magr::quantize_rtn(W, magr::grid_options_for(magr::packed_format::gguf_q4_0)), magr::ggml_type::q4_0);
    print("gguf", packed.data.data(), packed.data.size());
    print("output error", magr::output_error(W, M, H));
}

}  // namespace

int main() {
    try {
        print_all();
    } catch (const std::exception& failure) {
        std::printf("failed: %s\n", failure.what());
        return 1;
    }
}
