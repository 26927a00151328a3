// SPDX-License-Identifier: MIT
// The peak of one core of this machine, as peak.hpp measures it for the other benchmarks:
//   fma_peak         independent multiply-adds, in flop/s; lanes: elements of one register
//   read_bandwidth   a vector that is read and added up repeatedly, in bytes/s; the sizes are those of the caches and far beyond them
// `best` is the unit of the other benchmarks. The rate next to it is an average, which other load on the machine lowers.
#include "peak.hpp"

namespace {

template <class T>
void fma_peak(benchmark::State& state) {
    constexpr std::ptrdiff_t steps = 1 << 15;
    for (auto _ : state) benchmarks::run_fma_chains<T>(steps);
    const double flops = static_cast<double>(steps) * benchmarks::fma_flops_per_step<T>;
    state.counters["flops"] = benchmark::Counter(flops, benchmark::Counter::kIsIterationInvariantRate);
    state.counters["best"] = benchmarks::fma_peak<T>();
    state.counters["lanes"] = static_cast<double>(magr::simd::pack_traits<T, magr::simd::default_arch>::lanes);
}

void read_bandwidth(benchmark::State& state) {
    const auto bytes = static_cast<std::size_t>(state.range(0));
    const std::vector<benchmarks::cache_line> v(bytes / sizeof(benchmarks::cache_line));
    for (auto _ : state) {
        float sum = benchmarks::read_all(v);
        benchmark::DoNotOptimize(sum);
    }
    state.SetBytesProcessed(state.iterations() * state.range(0));
    state.counters["best"] = benchmarks::read_bandwidth(bytes);
}

BENCHMARK_TEMPLATE(fma_peak, float);
BENCHMARK_TEMPLATE(fma_peak, double);
BENCHMARK(read_bandwidth)->ArgName("bytes")->Arg(16 << 10)->Arg(512 << 10)->Arg(256 << 20);

}  // namespace
