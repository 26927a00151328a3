// SPDX-License-Identifier: MIT
// What an executor costs: a parallel loop of tasks that do nothing, beside a bare loop that calls the same function, measured in turn
// with it. `ns_per_loop` is the time of one loop, `x_bare` the same in units of the bare one. A task should take much longer than that.
#include <benchmark/benchmark.h>

#include <magr/parallel/executor.hpp>
#include <magr/parallel/thread_pool.hpp>

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

BENCHMARK(serial_executor)->ArgName("tasks")->Arg(1)->Arg(16)->Arg(1024)->UseManualTime();
BENCHMARK(thread_pool)->ArgNames({"tasks", "workers"})->ArgsProduct({{1, 16, 1024}, {1, 2}})->UseManualTime();

}  // namespace
