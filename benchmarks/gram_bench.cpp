// SPDX-License-Identifier: MIT
// Accumulating a Gram matrix beside a bare Eigen product X^T X of the same size in the type it is summed in. `x_gemm` is the time in
// units of that product, measured in turn with it; a triangle alone would be 0.5.
#include <benchmark/benchmark.h>

#include <Eigen/Core>
#include <magr/calibration/gram.hpp>
#include <random>

#include "timing.hpp"

namespace {

constexpr magr::index_t tokens = 2048;

template <class Sum, class Input>
void gram_accumulator(benchmark::State& state) {
    const magr::index_t n = state.range(0);
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    Eigen::Matrix<Input, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> X(tokens, n);
    for (magr::index_t t = 0; t < tokens; ++t)
        for (magr::index_t j = 0; j < n; ++j) X(t, j) = static_cast<Input>(normal(random));
    const Eigen::Matrix<Sum, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> same = X.template cast<Sum>();
    Eigen::Matrix<Sum, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> product(n, n);
    double gemm = 0, own = 0;
    magr::gram_accumulator<Sum> accumulator(n);
    for (auto _ : state) {
        gemm += seconds([&] {
            product.noalias() = same.transpose() * same;
            benchmark::DoNotOptimize(product.data());
        });
        const double time = seconds([&] { accumulator.add(X); });
        own += time;
        state.SetIterationTime(time);
    }
    state.counters["x_gemm"] = own / gemm;
    state.SetItemsProcessed(state.iterations() * tokens);
}

void widths(benchmark::internal::Benchmark* benchmark) {
    benchmark->ArgName("n")->Arg(512)->Arg(1024)->Arg(2048)->UseManualTime()->Unit(benchmark::kMillisecond);
}

BENCHMARK_TEMPLATE(gram_accumulator, float, float)->Apply(widths);
BENCHMARK_TEMPLATE(gram_accumulator, double, float)->Apply(widths);
BENCHMARK_TEMPLATE(gram_accumulator, double, Eigen::bfloat16)->Apply(widths);

}  // namespace
