// SPDX-License-Identifier: MIT
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstddef>
#include <magr/simd/pack.hpp>
#include <vector>

#include "timing.hpp"

/// The measured peak of one core of this machine: the unit of `share_of_peak`, which is flops / time / fma_peak<T>(). It is the peak of the
/// instruction set for which the benchmark was compiled.
namespace benchmarks {

/// Runs multiply-adds in independent chains: enough chains to make each operation ready when its turn comes, and few enough to stay in 16
/// registers. One step is `fma_chains * lanes` operations of two flops.
inline constexpr int fma_chains = 12;

template <class T>
void run_fma_chains(std::ptrdiff_t steps) {
    using traits = magr::simd::pack_traits<T, magr::simd::default_arch>;
    T factor = T(0.5), summand = T(1);  // every chain converges to 2
    benchmark::DoNotOptimize(factor);   // hides their values from the compiler
    benchmark::DoNotOptimize(summand);
    const auto a = traits::broadcast(factor), b = traits::broadcast(summand);
    typename traits::type chains[fma_chains];
    for (int k = 0; k < fma_chains; ++k) chains[k] = traits::broadcast(static_cast<T>(k));
    for (std::ptrdiff_t i = 0; i < steps; ++i)
        for (auto& chain : chains) chain = magr::simd::fma(chain, a, b);
    for (const auto& chain : chains) {
        T sum = magr::simd::reduce_add(chain);
        benchmark::DoNotOptimize(sum);
    }
}

/// Number of flops of `run_fma_chains<T>(1)`.
template <class T>
inline constexpr double fma_flops_per_step = 2.0 * fma_chains * magr::simd::pack_traits<T, magr::simd::default_arch>::lanes;

/// A cache line. A vector of them is aligned, so no load touches two lines.
struct alignas(64) cache_line {
    float values[16] = {};
};

/// Reads every element once and adds them up, in independent sums.
inline float read_all(const std::vector<cache_line>& v) {
    using traits = magr::simd::pack_traits<float, magr::simd::default_arch>;
    constexpr std::size_t sums = 8, lanes = traits::lanes;
    typename traits::type sum[sums];
    for (auto& s : sum) s = traits::broadcast(0);
    const float* data = v.front().values;
    for (std::size_t i = 0; i + sums * lanes <= v.size() * 16; i += sums * lanes)
        for (std::size_t k = 0; k < sums; ++k) sum[k] = sum[k] + traits::load(data + i + k * lanes);
    for (std::size_t k = 1; k < sums; ++k) sum[0] = sum[0] + sum[k];
    return magr::simd::reduce_add(sum[0]);
}

/// The shortest time of one call, among at least three calls in 50 ms.
template <class Function>
[[nodiscard]] double shortest_seconds(Function&& function) {
    double shortest = seconds(function), total = shortest;
    for (int calls = 1; calls < 3 || total < 0.05; ++calls) {
        const double time = seconds(function);
        shortest = std::min(shortest, time);
        total += time;
    }
    return shortest;
}

/// Multiply-adds of one core, in flop/s: two flops for each element. Measured once per process, in 50 ms. It is the best of runs of less
/// than a millisecond, which interruptions seldom hit.
template <class T>
[[nodiscard]] double fma_peak() {
    static const double peak = [] {
        constexpr std::ptrdiff_t steps = 1 << 15;
        return static_cast<double>(steps) * fma_flops_per_step<T> / shortest_seconds([] { run_fma_chains<T>(steps); });
    }();
    return peak;
}

/// The bandwidth, in bytes per second, with which one core repeatedly reads a vector of this many bytes (at least 4096): that of the cache
/// it fits into, or of memory.
[[nodiscard]] inline double read_bandwidth(std::size_t bytes) {
    const std::vector<cache_line> v(std::max<std::size_t>(bytes, 4096) / sizeof(cache_line));
    const std::size_t read = v.size() * sizeof(cache_line), passes = std::max<std::size_t>(1, (std::size_t{1} << 22) / read);
    const double time = shortest_seconds([&] {
        for (std::size_t i = 0; i < passes; ++i) {
            float sum = read_all(v);
            benchmark::DoNotOptimize(sum);
        }
    });
    return static_cast<double>(passes * read) / time;
}

}  // namespace benchmarks
