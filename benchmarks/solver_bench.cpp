// SPDX-License-Identifier: MIT
// The MagR solver compared with the authors' proximal gradient iteration, to the objective that the latter reaches after 200 iterations,
// and to a certified gap of 1e-3; and the cost of one iteration. Square layers, one core. Each measures its yardsticks in the same run:
//   speedup         time of the 200 iterations / own time, at an objective that is at most theirs
//   x_gemm          own time in units of one bare product W H, the faster of Eigen's and our own
//   products        multiplications with a matrix of H's size, including all measurements of the gap, without the factorization
//   x_product       time of one iteration in units of its product with the packed matrix
//   share_of_peak   flops of that product / time of the whole iteration / measured peak
#include <benchmark/benchmark.h>

#include <Eigen/Core>
#include <cmath>
#include <magr/preprocess.hpp>
#include <magr/solver/proximal_gradient.hpp>
#include <magr/solver/row_tile.hpp>
#include <random>
#include <vector>

#include "bare_product.hpp"
#include "peak.hpp"
#include "timing.hpp"

namespace {

using magr::index_t;
using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Gaussian weights and inputs whose variances fall off like those of language models: a few channels have huge ones.
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
const magr::preprocess_options authors{.solver = magr::preprocess_solver::proximal_gradient};

/// Times a run and a bare product W H in turn.
magr::preprocess_result measure(benchmark::State& state, const magr::preprocess_options& options) {
    const layer data(state.range(0));
    benchmarks::bare_product<float> product(data.W.rows(), data.W.cols(), data.W.cols());
    std::vector<double> own;
    magr::preprocess_result result;
    for (auto _ : state) {
        product.measure();
        own.push_back(seconds([&] { result = run(data, options); }));
        state.SetIterationTime(own.back());
    }
    state.counters["x_gemm"] = median(own) / product.seconds_per_product();
    state.counters["products"] = result.products;
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

/// One iteration, as the difference of runs of 12 and 2 iterations, compared with its product alone.
void admm_iteration(benchmark::State& state) {
    using packed = magr::detail::packed_matrix<float>;
    using tile = magr::detail::row_tile<float>;
    const layer data(state.range(0));
    const index_t n = data.W.cols();
    const auto problem = magr::detail::make_layer_problem(magr::hessian(data.H), n, 1e-2);
    const magr::detail::proximal_gradient<float> any = magr::detail::make_proximal_gradient<float>(problem);
    const tile rows(n, 1);
    for (index_t r = 0; r < tile::capacity; ++r) std::fill_n(rows.product(r), n, 1e-3F);
    rows.multiply(any.matrix(), tile::capacity);  // packs the left operand
    std::vector<double> own, product;
    for (auto _ : state) {
        const auto run_of = [&](index_t iterations) {
            return seconds([&] { static_cast<void>(run(data, {.max_iterations = iterations, .tolerance = 0.0})); });
        };
        own.push_back((run_of(12) - run_of(2)) / 10);
        product.push_back(seconds([&] {
            for (index_t i = 0; i < data.W.rows(); i += tile::capacity) {
                const index_t count = magr::kernels::round_up(std::min(tile::capacity, data.W.rows() - i), packed::tile::rows);
                any.matrix().multiply(count, rows.left(), rows.product(0), rows.product(1) - rows.product(0));
                benchmark::DoNotOptimize(rows.product(0));
            }
        }));
        state.SetIterationTime(std::max(own.back(), 1e-9));
    }
    state.counters["x_product"] = median(own) / median(product);
    state.counters["share_of_peak"] = 2.0 * static_cast<double>(n * n * n) / median(own) / benchmarks::fma_peak<float>();
}

void sizes(benchmark::internal::Benchmark* benchmark) {
    benchmark->ArgName("n")->Arg(512)->Arg(1024)->UseManualTime()->Iterations(5)->Unit(benchmark::kMillisecond);
}

BENCHMARK(proximal_gradient)->Apply(sizes);
BENCHMARK(admm_to_equal_objective)->Apply(sizes);
BENCHMARK(admm_to_certified_gap)->Apply(sizes)->Arg(2048);
BENCHMARK(admm_iteration)->Apply(sizes)->Arg(2048)->Arg(4096);

}  // namespace
