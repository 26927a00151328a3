// SPDX-License-Identifier: MIT
// Prints the exact results of the quantizers and packers for some layers, number by number; same_numbers.cmake compares targets.
#include <Eigen/Core>
#include <cstdint>
#include <cstdio>
#include <random>
#include <span>

#include <magr/magr.hpp>

namespace {

using magr::index_t;

template <class T>
using matrix_of = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Uses integers alone, because distributions differ between libraries.
template <class T>
matrix_of<T> numbers(index_t rows, index_t cols, unsigned seed) {
    std::mt19937 random(seed);
    matrix_of<T> m(rows, cols);
    for (index_t i = 0; i < m.size(); ++i)
        m.data()[i] = (static_cast<T>(random() % 4096) + static_cast<T>(random() % 4096) - T(4095)) / T(1024);
    return m;
}

template <class T>
void print(const char* name, const magr::matrix<T>& m) {
    std::printf("%s\n", name);
    for (index_t i = 0; i < m.rows(); ++i) {
        for (index_t j = 0; j < m.cols(); ++j) std::printf(" %a", static_cast<double>(m(i, j)));
        std::printf("\n");
    }
}

template <class T>
void print(const char* name, const magr::quantized_matrix<T>& q) {
    std::printf("%s: codes\n", name);
    for (index_t i = 0; i < q.codes.rows(); ++i) {
        for (index_t j = 0; j < q.codes.cols(); ++j) std::printf(" %d", q.codes(i, j));
        std::printf("\n");
    }
    print("scales", q.scales);
    print("zero points", q.zeros);
}

template <class Words>
void print_words(const char* name, const Words& words, index_t count) {
    std::uint64_t hash = 14695981039346656037U;  // FNV-1a
    for (index_t k = 0; k < count; ++k) hash = (hash ^ static_cast<std::uint64_t>(words[k])) * 1099511628211U;
    std::printf("%s: %llx\n", name, static_cast<unsigned long long>(hash));
}

void layer() {
    const auto W = numbers<float>(20, 64, 1);
    const matrix_of<double> X = numbers<double>(150, 64, 2);
    matrix_of<double> H = X.transpose() * X;
    H.row(5).setZero();
    H.col(5).setZero();
    using search = magr::range_search;
    for (const auto zero :
         {magr::zero_point::none, magr::zero_point::middle, magr::zero_point::integer, magr::zero_point::real, magr::zero_point::offset}) {
        std::printf("zero point %d\n", static_cast<int>(zero));
        print("rtn", magr::quantize_rtn(W, {.bits = 3, .zero_point = zero, .group_size = 16}));
        print("rtn, f16",
              magr::quantize_rtn(W, H, {.zero_point = zero, .storage = magr::storage_type::f16, .range = search::output_error}));
        print("optq", magr::quantize_optq(W, H, {.zero_point = zero, .group_size = 32}).quantized);
        print("optq, live", magr::quantize_optq(W, H, {.bits = 2, .zero_point = zero, .group_size = 16, .range = search::row_output_error},
                                                {.order = magr::column_order::act_order, .groups = magr::group_update::live})
                                .quantized);
        print("layer", magr::quantize_layer(W, H, {.grid = {.bits = 3, .zero_point = zero}}).quantized);
    }
    print("optq, double", magr::quantize_optq(X.topRows(10), H, {.bits = 3}).quantized);
    print("layer, preprocessed", magr::quantize_layer(W, H, {.grid = {.bits = 3}, .preprocess = magr::preprocess_options{}}).quantized);
}

void packed() {
    using format = magr::packed_format;
    const auto W = numbers<float>(32, 256, 3);
    const auto quantized = [&](format f) { return magr::quantize_rtn(W, magr::grid_options_for(f)); };
    const auto gptq = magr::pack_gptq(quantized(format::gptq_v2), magr::gptq_version::v2);
    print_words("gptq", gptq.qweight.data(), gptq.qweight.rows() * gptq.qweight.cols());
    const auto awq = magr::pack_awq(quantized(format::awq));
    print_words("awq", awq.qweight.data(), awq.qweight.rows() * awq.qweight.cols());
    const auto mlx = magr::pack_mlx(quantized(format::mlx));
    print_words("mlx", mlx.weight.data(), mlx.weight.rows() * mlx.weight.cols());
    for (const auto type :
         {magr::ggml_type::q2_k, magr::ggml_type::q3_k, magr::ggml_type::q4_k, magr::ggml_type::q5_k, magr::ggml_type::q6_k}) {
        const auto gguf = magr::pack_gguf(magr::quantize_rtn(W, magr::fit_k_quant_grids(W, type)), type);
        print_words("k-quants", gguf.data.data(), static_cast<index_t>(gguf.data.size()));
    }
}

}  // namespace

int main() {
    layer();
    packed();
}
