// SPDX-License-Identifier: MIT
// Products from register tiles compared with a bare Eigen product of the same size, measured in turn with it. Square matrices, one core.
//   share_of_peak   flops / time / measured peak of multiply-adds
//   x_eigen         own time in units of Eigen's product
// `multiply_packed` is the product of the MagR solver: the right operand is packed once, before the clock starts, and rows pass by in tiles
// of 96. `multiply_add` packs both operands each time.
#include <benchmark/benchmark.h>

#include <Eigen/Core>
#include <magr/kernels/multiply_add.hpp>
#include <magr/solver/row_tile.hpp>
#include <vector>

#include "peak.hpp"
#include "timing.hpp"

namespace {

using magr::index_t;
using magr::matrix_view;
template <class T>
using matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Times `own` and Eigen's product of n x n matrices in turn.
template <class T, class Function>
void measure(benchmark::State& state, Function&& own) {
    const index_t n = state.range(0);
    const matrix<T> A = matrix<T>::Random(n, n), B = matrix<T>::Random(n, n);
    matrix<T> C(n, n);
    std::vector<double> own_times, eigen_times;
    for (auto _ : state) {
        own_times.push_back(seconds(own));
        eigen_times.push_back(seconds([&] {
            C.noalias() = A * B;
            benchmark::DoNotOptimize(C.data());
        }));
        state.SetIterationTime(own_times.back());
    }
    const double time = median(own_times);
    const auto flops = 2 * static_cast<double>(n) * static_cast<double>(n) * static_cast<double>(n);
    state.counters["share_of_peak"] = flops / time / benchmarks::fma_peak<T>();
    state.counters["x_eigen"] = time / median(eigen_times);
}

template <class T>
void multiply_add(benchmark::State& state) {
    const index_t n = state.range(0);
    const matrix<T> A = matrix<T>::Random(n, n), B = matrix<T>::Random(n, n);
    matrix<T> C = matrix<T>::Zero(n, n);
    std::vector<T> scratch(magr::kernels::product_blocks<T, magr::simd::default_arch>::scratch);
    measure<T>(state, [&] {
        magr::kernels::multiply_add(matrix_view<T>(C.data(), n, n), 1.0, matrix_view<const T>(A.data(), n, n),
                                    matrix_view<const T>(B.data(), n, n), scratch.data());
        benchmark::DoNotOptimize(C.data());
    });
}

template <class T>
void multiply_packed(benchmark::State& state) {
    using packed = magr::detail::packed_matrix<T>;
    using tile = magr::detail::row_tile<T>;
    const index_t n = state.range(0), stride = packed::stride_for(n);
    magr::detail::aligned_buffer<T> values(n * stride);
    for (index_t i = 0; i < n * stride; ++i) values.data()[i] = T(1) / static_cast<T>(1 + i % 17);
    const packed right(std::move(values), n);
    const tile rows(n, 1);
    for (index_t r = 0; r < tile::capacity; ++r) Eigen::Map<Eigen::VectorX<T>>(rows.product(r), n).setRandom();
    rows.multiply(right, tile::capacity);  // packs the left operand
    measure<T>(state, [&] {
        for (index_t i = 0; i < n; i += tile::capacity) {
            const index_t count = magr::kernels::round_up(std::min(tile::capacity, n - i), packed::tile::rows);
            right.multiply(count, rows.left(), rows.product(0), rows.product(1) - rows.product(0));
            benchmark::DoNotOptimize(rows.product(0));
        }
    });
}

void sizes(benchmark::internal::Benchmark* benchmark) {
    benchmark->ArgName("n")->Arg(512)->Arg(1024)->Arg(2048)->Arg(4096)->UseManualTime()->Unit(benchmark::kMillisecond);
}

BENCHMARK_TEMPLATE(multiply_packed, float)->Apply(sizes);
BENCHMARK_TEMPLATE(multiply_packed, double)->Apply(sizes);
BENCHMARK_TEMPLATE(multiply_add, float)->Apply(sizes);
BENCHMARK_TEMPLATE(multiply_add, double)->Apply(sizes);

}  // namespace
