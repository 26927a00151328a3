// SPDX-License-Identifier: MIT
// Accumulating a Gram matrix, 1920 tokens in batches of some size, compared with a bare product X^T X of the same size in the type of the
// sum. `x_gemm` is the time in units of the fastest such product, measured in turn with it, medians: one triangle alone would be 0.5.
// `share_of_peak` is that of the multiply-adds of one triangle on one core, in the best of all times, because the peak itself is a best
// time.
#include <benchmark/benchmark.h>

#include <Eigen/Core>
#include <algorithm>
#include <magr/calibration/gram.hpp>
#include <random>
#include <vector>

#include "bare_product.hpp"
#include "peak.hpp"
#include "timing.hpp"

namespace {

constexpr magr::index_t tokens = 5 * 384;  // whole blocks, so that no work is left for later

template <class Sum, class Input>
void gram_accumulator(benchmark::State& state) {
    const magr::index_t n = state.range(0), batch = state.range(1);
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    Eigen::Matrix<Input, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> X(tokens, n);
    for (magr::index_t t = 0; t < tokens; ++t)
        for (magr::index_t j = 0; j < n; ++j) X(t, j) = static_cast<Input>(normal(random));
    benchmarks::bare_product<Sum> product(n, n, tokens);
    magr::gram_accumulator<Sum> accumulator(n);
    std::vector<double> own;
    for (auto _ : state) {
        product.measure();
        own.push_back(seconds([&] {
            for (magr::index_t t = 0; t < tokens; t += batch) accumulator.add(X.middleRows(t, std::min(batch, tokens - t)));
        }));
        state.SetIterationTime(own.back());
    }
    state.counters["x_gemm"] = median(own) / product.seconds_per_product();
    state.counters["share_of_peak"] =
        static_cast<double>(n * n * tokens) / *std::min_element(own.begin(), own.end()) / benchmarks::fma_peak<Sum>();
    state.SetItemsProcessed(state.iterations() * tokens);
}

void sizes(benchmark::internal::Benchmark* benchmark) {
    benchmark->ArgNames({"n", "batch"})->UseManualTime()->Unit(benchmark::kMillisecond);
    for (const int n : {512, 1024, 2048, 4096}) benchmark->Args({n, tokens});
}

void batches(benchmark::internal::Benchmark* benchmark) {
    sizes(benchmark);
    benchmark->Args({2048, 1})->Args({2048, 64})->Args({2048, 2048});
}

BENCHMARK_TEMPLATE(gram_accumulator, float, float)->Apply(batches);
BENCHMARK_TEMPLATE(gram_accumulator, double, float)->Apply(batches);
BENCHMARK_TEMPLATE(gram_accumulator, float, Eigen::bfloat16)->Apply(sizes);
BENCHMARK_TEMPLATE(gram_accumulator, float, Eigen::half)->Apply(sizes);
BENCHMARK_TEMPLATE(gram_accumulator, double, Eigen::bfloat16)->Apply(sizes);

}  // namespace
