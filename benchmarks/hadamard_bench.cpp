// SPDX-License-Identifier: MIT
// The fast Walsh-Hadamard transform of the rows of a matrix, in turn with two yardsticks on the same rows. Each row is transformed in
// place; there are as many rows as fit into 256 KB, so that they stay in the second-level cache, or into 64 MB.
//   x_copy             own time in units of a pass that reads and writes every number once
//   speedup_vs_loop    time of the textbook's three loops / own time
// `rotate_rows` is a whole rotation of the rows of a float matrix, computed in double; kind 0 is orthogonal, 1 hadamard. Its yardstick is
// one pass that copies the matrix to double and back.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstddef>
#include <random>
#include <vector>

#include <magr/kernels/hadamard.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/transform/rotation_transform.hpp>

#include "timing.hpp"

namespace {

using magr::index_t;

template <class T>
std::vector<T> random_numbers(index_t count) {
    std::mt19937 random(1);
    std::uniform_real_distribution<T> uniform(T(-1), T(1));
    std::vector<T> x(static_cast<std::size_t>(count));
    for (T& value : x) value = uniform(random);
    return x;
}

/// x <- x, read and written; the factor is known only at run time.
template <class T>
void copy(T* x, index_t size, T one) {
    for (index_t i = 0; i < size; ++i) x[i] *= one;
}

template <class T>
void textbook(T* x, index_t size) {
    for (index_t stride = 1; stride < size; stride *= 2)
        for (index_t first = 0; first < size; first += 2 * stride)
            for (index_t i = first; i < first + stride; ++i) {
                const T a = x[i], b = x[i + stride];
                x[i] = a + b;
                x[i + stride] = a - b;
            }
}

template <class T>
void hadamard(benchmark::State& state) {
    const index_t size = state.range(0), bytes = state.range(1);
    const index_t rows = std::max(index_t{1}, bytes / (size * static_cast<index_t>(sizeof(T))));
    const std::vector<T> start = random_numbers<T>(rows * size);
    std::vector<T> x;
    std::vector<double> own, copies, loops;
    T one = 1;
    benchmark::DoNotOptimize(one);
    const auto time = [&](std::vector<double>& times, const auto& on_row) {
        x = start;  // repeated transforms would overflow
        times.push_back(seconds([&] {
            for (index_t r = 0; r < rows; ++r) on_row(x.data() + r * size);
            benchmark::DoNotOptimize(x.data());
            benchmark::ClobberMemory();
        }));
    };
    for (auto _ : state) {
        time(copies, [&](T* row) { copy(row, size, one); });
        time(loops, [&](T* row) { textbook(row, size); });
        time(own, [&](T* row) { magr::kernels::hadamard(row, size, 1); });
        state.SetIterationTime(own.back());
    }
    state.counters["x_copy"] = median(own) / median(copies);
    state.counters["speedup_vs_loop"] = median(loops) / median(own);
}

void rotate_rows(benchmark::State& state) {
    const auto kind = static_cast<magr::rotation_kind>(state.range(1));
    const index_t cols = state.range(0), rows = 512;
    const auto rotation = magr::detail::make_rotation("rotate_rows", "cols", kind, cols, 1, 1, {});
    std::vector<float> x = random_numbers<float>(rows * cols);
    std::vector<double> wide(x.size()), own, copies;
    for (auto _ : state) {
        copies.push_back(seconds([&] {
            std::copy(x.begin(), x.end(), wide.begin());
            benchmark::ClobberMemory();
            std::transform(wide.begin(), wide.end(), x.begin(), [](double value) { return static_cast<float>(value); });
            benchmark::ClobberMemory();
        }));
        own.push_back(seconds([&] { magr::detail::rotate_rows(*rotation, magr::matrix_view<float>(x.data(), rows, cols), false, {}); }));
        state.SetIterationTime(own.back());
    }
    state.counters["x_copy"] = median(own) / median(copies);
    state.counters["ns_per_number"] = 1e9 * median(own) / static_cast<double>(rows * cols);
}

void sizes(benchmark::internal::Benchmark* benchmark) {
    benchmark->ArgNames({"n", "bytes"})->UseManualTime()->Unit(benchmark::kMicrosecond);
    for (const index_t n : {64, 256, 1024, 4096, 8192})
        for (const index_t bytes : {1 << 18, 1 << 26}) benchmark->Args({n, bytes});
}

BENCHMARK_TEMPLATE(hadamard, float)->Apply(sizes);
BENCHMARK_TEMPLATE(hadamard, double)->Apply(sizes);
BENCHMARK(rotate_rows)
    ->ArgNames({"n", "kind"})
    ->Args({4096, 0})
    ->Args({4096, 1})
    ->Args({5120, 1})
    ->Args({11008, 0})
    ->Args({11008, 1})
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
