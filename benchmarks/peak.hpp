// SPDX-License-Identifier: MIT
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstddef>
#include <magr/simd/pack.hpp>
#include <vector>

#include "timing.hpp"

/// What one core of this machine can do at most, measured: the unit of `share_of_peak`, which is flops / time / fma_peak<T>(). It is that
/// of the instruction set for which the benchmark that asks was compiled.
namespace benchmarks {

/// Multiplies and adds in independent chains, enough of them that each operation is ready when its turn comes and few enough that they stay
/// in 16 registers. One step is `fma_chains * lanes` operations of two flops.
inline constexpr int fma_chains = 12;

template <class T>
void run_fma_chains(std::ptrdiff_t steps) {
    using traits = magr::simd::pack_traits<T, magr::simd::default_arch>;
    T factor = T(0.5), summand = T(1);  // every chain tends to 2
    benchmark::DoNotOptimize(factor);   // the compiler no longer knows them
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

/// Flops of `run_fma_chains<T>(1)`.
template <class T>
inline constexpr double fma_flops_per_step = 2.0 * fma_chains * magr::simd::pack_traits<T, magr::simd::default_arch>::lanes;

/// A line of the cache: a vector of them is aligned, so that no load touches two.
struct alignas(64) cache_line {
    float values[16] = {};
};

/// Reads every element once and adds it up, in independent sums.
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

/// The shortest time of one call among as many calls as fit into 50 ms, at least three.
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

/// Multiply-adds of one core, in flop/s: two for each element. Measured once per process, in 50 ms; the best of runs of less than a
/// millisecond, which interruptions leave alone.
template <class T>
[[nodiscard]] double fma_peak() {
    static const double peak = [] {
        constexpr std::ptrdiff_t steps = 1 << 15;
        return static_cast<double>(steps) * fma_flops_per_step<T> / shortest_seconds([] { run_fma_chains<T>(steps); });
    }();
    return peak;
}

/// Bytes per second at which one core reads a vector of that many bytes (at least 4096) again and again: that of the cache it fits into, or
/// of memory.
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
