// SPDX-License-Identifier: MIT
// Cholesky factorization and inverse of a positive definite matrix, in turn with Eigen's: `x_eigen` is the time in units of Eigen's.
// `share_of_peak` is relative to the peak of one core, for n^3 / 6 multiply-adds for the factor and n^3 / 2 for the inverse.
#include <benchmark/benchmark.h>
#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <magr/linalg/cholesky.hpp>
#include <magr/linalg/spd_inverse.hpp>

#include "layer.hpp"
#include "peak.hpp"
#include "timing.hpp"

namespace {

using magr::index_t;

template <class T>
using dense = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

template <class T>
dense<T> damped_gram(index_t n) {
    dense<T> H = benchmarks::layer(n).H.template cast<T>();
    H.diagonal().array() += T(0.01) * H.diagonal().mean();
    return H;
}

/// Times `own`, on a copy of the matrix that it changes, and `eigen` in turn; multiply_adds is in units of n^3. Shares use the best times.
template <class T, class Own, class Theirs>
void measure(benchmark::State& state, double multiply_adds, Own&& own, Theirs&& eigen) {
    const index_t n = state.range(0);
    const dense<T> H = damped_gram<T>(n);
    dense<T> A;
    double total = 0, theirs = 0, best = 1e300;
    for (auto _ : state) {
        theirs += seconds([&] { eigen(H); });
        A = H;
        bool good = false;
        const double time = seconds([&] { good = own(magr::matrix_view<T>(A.data(), n, n)); });
        if (!good) state.SkipWithError("not positive definite");
        total += time;
        best = std::min(best, time);
        state.SetIterationTime(time);
    }
    state.counters["x_eigen"] = total / theirs;
    state.counters["share_of_peak"] = 2 * multiply_adds * std::pow(static_cast<double>(n), 3) / best / benchmarks::fma_peak<T>();
}

template <class T>
void cholesky(benchmark::State& state) {
    measure<T>(
        state, 1.0 / 6, [](magr::matrix_view<T> A) { return magr::linalg::cholesky(A); },
        [](const dense<T>& H) { benchmark::DoNotOptimize(H.llt().info()); });
}

template <class T>
void spd_inverse(benchmark::State& state) {
    dense<T> inverse;
    measure<T>(
        state, 1.0 / 2, [](magr::matrix_view<T> A) { return magr::linalg::spd_inverse(A); },
        [&](const dense<T>& H) {
            inverse = H.llt().solve(dense<T>::Identity(H.rows(), H.cols()));
            benchmark::DoNotOptimize(inverse.data());
        });
}

void sizes(benchmark::internal::Benchmark* benchmark) {
    benchmark->ArgName("n")->Arg(128)->Arg(512)->Arg(1024)->Arg(2048)->Arg(4096)->UseManualTime()->Unit(benchmark::kMillisecond);
}

BENCHMARK_TEMPLATE(cholesky, float)->Apply(sizes);
BENCHMARK_TEMPLATE(cholesky, double)->Apply(sizes);
BENCHMARK_TEMPLATE(spd_inverse, float)->Apply(sizes);
BENCHMARK_TEMPLATE(spd_inverse, double)->Apply(sizes);

}  // namespace
