// SPDX-License-Identifier: MIT
// An ADMM iteration for a vector, without its product with the inverse: the fused kernel, and the formulas one after the other as Eigen
// expressions around the prox. Every time is for one vector with the hint of the previous iteration. The yardsticks are measured in the
// same run on the same vectors, which stay in the second-level cache:
//   x_bare_pass   own time in units of one pass that reads the same 5 arrays and writes the same 3
//   x_sequence    own time in units of the formulas one after the other
#include <benchmark/benchmark.h>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <magr/kernels/admm_step.hpp>
#include <magr/kernels/metric.hpp>
#include <magr/kernels/prox.hpp>
#include <magr/kernels/source.hpp>
#include <random>
#include <vector>

#include "timing.hpp"

namespace {

using magr::index_t;
using array = Eigen::ArrayXf;

constexpr float relaxation = 1.6F;
/// Number of vectors, with six arrays each, that fit into half a megabyte.
index_t batch_size(index_t n) { return std::clamp<index_t>((index_t{1} << 19) / (6 * n * static_cast<index_t>(sizeof(float))), 1, 16); }

struct vectors {
    array step, w0, z, u, residual, d;
    float tau = 0;

    vectors(index_t n, std::mt19937& random) : step(n), w0(n), z(n), u(array::Zero(n)), residual(n), d(n) {
        std::normal_distribution<float> normal;
        for (index_t i = 0; i < n; ++i) {
            w0[i] = 0.02F * normal(random);
            step[i] = 0.0002F * normal(random);
            d[i] = std::exp(normal(random));
        }
        z = w0;
    }
};

float fused(vectors& v, double penalty) {
    const magr::kernels::admm_arrays<float> arrays{v.step.data(), v.w0.data(), v.d.data(), v.z.data(), v.u.data(), v.residual.data()};
    return magr::kernels::admm_step(arrays, v.w0.size(), relaxation, penalty, v.tau);
}

float sequence(vectors& v, double penalty) {
    v.u = relaxation * (v.step + v.w0) + (1 - relaxation) * v.z + v.u;
    v.z = v.u;
    const float tau = magr::kernels::prox_linf<float>(magr::kernels::contiguous_source<float>{v.z.data()},
                                                      magr::kernels::diagonal_metric<float>{v.d.data()}, v.w0.size(), penalty, v.tau);
    v.u -= v.z;
    v.residual = (v.z - v.u - v.w0) * v.d;
    return tau;
}

/// Not inlined: inlining would make compilers forget that the arrays do not overlap, and process one element at a time.
[[gnu::noinline]] float read_and_write(index_t n, const float* __restrict step, const float* __restrict w0, const float* __restrict d,
                                       float* __restrict z, float* __restrict u, float* __restrict residual) {
    for (index_t i = 0; i < n; ++i) {
        const float x = step[i] + w0[i];
        z[i] = z[i] + x;
        u[i] = u[i] + x;
        residual[i] = x * d[i];
    }
    return residual[0];
}

float bare_pass(vectors& v) {
    return read_and_write(v.w0.size(), v.step.data(), v.w0.data(), v.d.data(), v.z.data(), v.u.data(), v.residual.data());
}

void admm_step(benchmark::State& state) {
    const index_t n = state.range(0);
    std::mt19937 random(23);
    std::vector<vectors> start;
    for (index_t k = 0; k < batch_size(n); ++k) start.emplace_back(n, random);
    const double penalty = 1e-3 * static_cast<double>((start[0].w0.abs() * start[0].d).sum());
    for (auto& v : start)  // a few iterations, until the hint is as good as in a solver
        for (int i = 0; i < 5; ++i) v.tau = fused(v, penalty);
    auto work = start;
    const auto time = [&](auto&& kernel) {
        for (std::size_t k = 0; k < work.size(); ++k) {
            work[k].z = start[k].z;
            work[k].u = start[k].u;
        }
        return seconds([&] {
                   for (auto& v : work) {
                       float result = kernel(v);
                       benchmark::DoNotOptimize(result);
                   }
               }) /
               static_cast<double>(work.size());
    };
    std::vector<double> own, bare, textbook;
    for ([[maybe_unused]] auto _ : state) {
        own.push_back(time([&](vectors& v) { return fused(v, penalty); }));
        textbook.push_back(time([&](vectors& v) { return sequence(v, penalty); }));
        bare.push_back(time(bare_pass));
        state.SetIterationTime(own.back());
    }
    state.counters["x_bare_pass"] = median(own) / median(bare);
    state.counters["x_sequence"] = median(own) / median(textbook);
    state.SetBytesProcessed(state.iterations() * n * static_cast<index_t>(8 * sizeof(float)));
}

BENCHMARK(admm_step)->ArgName("n")->Arg(128)->Arg(1024)->Arg(4096)->Arg(11008)->UseManualTime()->Unit(benchmark::kMicrosecond);

}  // namespace
