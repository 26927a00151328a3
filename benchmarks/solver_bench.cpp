// SPDX-License-Identifier: MIT
// The MagR solver beside the authors' proximal gradient iteration, to the objective that the latter ends at after 200 iterations, and to
// a certified gap of 1e-3. Each measures its yardstick in the same run:
//   speedup   time of the 200 iterations / own time, at an objective that is at most theirs
//   x_gemm    own time in units of one bare Eigen product W H
#include <benchmark/benchmark.h>

#include <Eigen/Core>
#include <cmath>
#include <magr/preprocess.hpp>
#include <random>

#include "timing.hpp"

namespace {

using magr::index_t;
using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Gaussian weights and inputs whose variances fall off as in language models: a few channels with huge ones.
struct layer {
    matrix W, H;

    explicit layer(index_t n) : W(n, n) {
        std::mt19937 random(29);
        std::normal_distribution<float> normal;
        for (index_t i = 0; i < W.size(); ++i) W.data()[i] = 0.02F * normal(random);
        matrix X(2 * n, n);
        for (index_t j = 0; j < n; ++j) {
            const float scale = std::exp(1.2F * normal(random));
            for (index_t t = 0; t < X.rows(); ++t) X(t, j) = scale * normal(random);
        }
        for (index_t t = 0; t < X.rows(); ++t) X.row(t).array() += normal(random);
        H.noalias() = X.transpose() * X;
    }
};

[[nodiscard]] magr::preprocess_result run(const layer& data, const magr::preprocess_options& options) {
    matrix W = data.W;
    return magr::preprocess(W, data.H, options);
}

/// The authors' iteration: no damping, 200 iterations.
const magr::preprocess_options authors{.solver = magr::solver::proximal_gradient};

/// Times a run and a bare product W H in turn.
magr::preprocess_result measure(benchmark::State& state, const magr::preprocess_options& options) {
    const layer data(state.range(0));
    matrix product(data.W.rows(), data.W.cols());
    double gemm = 0, own = 0;
    magr::preprocess_result result;
    for (auto _ : state) {
        gemm += seconds([&] {
            product.noalias() = data.W * data.H;
            benchmark::DoNotOptimize(product.data());
        });
        const double time = seconds([&] { result = run(data, options); });
        own += time;
        state.SetIterationTime(time);
    }
    state.counters["x_gemm"] = own / gemm;
    state.counters["iterations"] = static_cast<double>(result.iterations);
    state.counters["objective"] = result.objective;
    return result;
}

void proximal_gradient(benchmark::State& state) { static_cast<void>(measure(state, authors)); }

void admm_to_certified_gap(benchmark::State& state) { state.counters["gap"] = measure(state, {}).gap; }

void admm_to_equal_objective(benchmark::State& state) {
    const layer data(state.range(0));
    magr::preprocess_options options{.damping = 0.0, .max_iterations = 1, .tolerance = 0.0};
    const double target = run(data, authors).objective;
    while (run(data, options).objective > target) options.max_iterations = *options.max_iterations + 1;
    double reference = 0, own = 0;
    magr::preprocess_result result;
    for (auto _ : state) {
        reference += seconds([&] { benchmark::DoNotOptimize(run(data, authors)); });
        const double time = seconds([&] { result = run(data, options); });
        own += time;
        state.SetIterationTime(time);
    }
    state.counters["speedup"] = reference / own;
    state.counters["iterations"] = static_cast<double>(result.iterations);
    state.counters["objective"] = result.objective;
}

void sizes(benchmark::internal::Benchmark* benchmark) {
    benchmark->ArgName("n")->Arg(512)->Arg(1024)->UseManualTime()->Iterations(3)->Unit(benchmark::kMillisecond);
}

BENCHMARK(proximal_gradient)->Apply(sizes);
BENCHMARK(admm_to_equal_objective)->Apply(sizes);
BENCHMARK(admm_to_certified_gap)->Apply(sizes);

}  // namespace
