// SPDX-License-Identifier: MIT
// The cost of an executor: a parallel loop of tasks that do nothing, compared with a bare loop that calls the same function, measured in
// turn with it. `ns_per_loop` is the time of one loop, `x_bare` the same in units of the bare one. A task should take much longer than
// that.
//
// The gain from an executor: each stage of a square layer with a pool of `workers`, in turn with the same on serial_executor. `speedup` is
// the ratio of their medians. `bare_chains` is the limit of the machine: multiply-adds that need neither memory nor each other.
#include <benchmark/benchmark.h>

#include <magr/calibration/gram.hpp>
#include <magr/parallel/executor.hpp>
#include <magr/parallel/thread_pool.hpp>
#include <magr/preprocess.hpp>
#include <magr/quantize.hpp>
#include <vector>

#include "layer.hpp"
#include "peak.hpp"
#include "timing.hpp"

namespace {

using magr::index_t;

[[gnu::noinline]] void nothing(index_t task, index_t worker) {
    benchmark::DoNotOptimize(task);
    benchmark::DoNotOptimize(worker);
}

void measure(benchmark::State& state, magr::executor auto&& exec) {
    constexpr int loops = 100;
    const index_t count = state.range(0);
    double own = 0, bare = 0;
    for (auto _ : state) {
        bare += seconds([&] {
            for (int i = 0; i < loops; ++i)
                for (index_t task = 0; task < count; ++task) nothing(task, 0);
        });
        const double time = seconds([&] {
            for (int i = 0; i < loops; ++i) exec.parallel_for(count, nothing);
        });
        own += time;
        state.SetIterationTime(time);
    }
    state.counters["ns_per_loop"] = 1e9 * own / (static_cast<double>(state.iterations()) * loops);
    state.counters["x_bare"] = own / bare;
}

void serial_executor(benchmark::State& state) { measure(state, magr::serial_executor{}); }
void thread_pool(benchmark::State& state) { measure(state, magr::thread_pool(state.range(1))); }

/// Calls stage(layer, executor), which returns nothing.
template <class Stage>
void speedup(benchmark::State& state, const Stage& stage) {
    const benchmarks::layer data(state.range(0));
    magr::thread_pool pool(state.range(1));
    std::vector<double> one, several;
    for (auto _ : state) {
        one.push_back(seconds([&] { stage(data, magr::serial_executor{}); }));
        several.push_back(seconds([&] { stage(data, pool); }));
        state.SetIterationTime(several.back());
    }
    state.counters["speedup"] = median(one) / median(several);
}

void bare_chains(benchmark::State& state) {
    speedup(state, [](const benchmarks::layer&, auto&& exec) {
        exec.parallel_for(64, [](index_t, index_t) { benchmarks::run_fma_chains<float>(1 << 20); });
    });
}

void preprocess(benchmark::State& state) {
    speedup(state, [](const benchmarks::layer& data, auto&& exec) {
        benchmarks::layer::matrix W = data.W;
        benchmark::DoNotOptimize(magr::preprocess(W, data.H, {}, magr::ignore_progress{}, exec));
    });
}

void gram_accumulator(benchmark::State& state) {
    speedup(state, [](const benchmarks::layer& data, auto&& exec) {
        magr::gram_accumulator<float> gram(data.W.cols());
        gram.add(data.W, exec);  // any tokens
        benchmark::DoNotOptimize(gram.gram(exec).data());
    });
}

void quantize_optq(benchmark::State& state) {
    speedup(state, [](const benchmarks::layer& data, auto&& exec) {
        benchmark::DoNotOptimize(magr::quantize_optq(data.W, data.H, {.bits = 4}, {.measure_error = false}, exec));
    });
}

void layers(benchmark::internal::Benchmark* benchmark) {
    benchmark->ArgNames({"n", "workers"})->Args({2048, 2})->Args({4096, 2})->UseManualTime()->Unit(benchmark::kMillisecond);
}

BENCHMARK(bare_chains)->ArgNames({"n", "workers"})->Args({64, 2})->Iterations(9)->UseManualTime()->Unit(benchmark::kMillisecond);
BENCHMARK(preprocess)->Apply(layers)->Iterations(5);
BENCHMARK(gram_accumulator)->Apply(layers)->Iterations(15);
BENCHMARK(quantize_optq)->Apply(layers)->Iterations(9);
BENCHMARK(serial_executor)->ArgName("tasks")->Arg(1)->Arg(16)->Arg(1024)->UseManualTime();
BENCHMARK(thread_pool)->ArgNames({"tasks", "workers"})->ArgsProduct({{1, 16, 1024}, {1, 2}})->UseManualTime();

}  // namespace
