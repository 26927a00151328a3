// SPDX-License-Identifier: MIT
// OPTQ of a square layer compared with its yardsticks in the same run: a bare product with as many multiply-adds (in^2 * out / 2, float),
// the textbook algorithm, and round to nearest. `x_gemm` is the time in units of the fastest such product, measured in turn with it, and
// `share_of_peak` counts only the multiply-adds of that product. Medians.
#include <benchmark/benchmark.h>
#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <magr/quantize.hpp>
#include <magr/sequential/sequential.hpp>
#include <span>
#include <type_traits>
#include <vector>

#include "bare_product.hpp"
#include "layer.hpp"
#include "peak.hpp"
#include "timing.hpp"

namespace {

using benchmarks::layer;
using magr::index_t;
using matrix = benchmarks::layer::matrix;
using columns = Eigen::MatrixXf;

/// Times `function` and the bare product in turn.
template <class Function>
void measure(benchmark::State& state, const layer& data, Function&& function) {
    const index_t n = data.W.cols();
    benchmarks::bare_product<float> product(n, n / 2, n);
    std::vector<double> own;
    for (auto _ : state) {
        product.measure();
        own.push_back(seconds(function));
        state.SetIterationTime(own.back());
    }
    const double time = median(own);
    state.counters["x_gemm"] = time / product.seconds_per_product();
    state.counters["share_of_peak"] = static_cast<double>(n * n * n) / time / benchmarks::fma_peak<float>();
    state.SetItemsProcessed(state.iterations() * n * n);
}

void quantize_optq(benchmark::State& state, magr::optq_options options) {
    const layer data(state.range(0));
    measure(state, data, [&] { benchmark::DoNotOptimize(magr::quantize_optq(data.W, data.H, {.bits = 4}, options)); });
}

/// The part of quantize_optq that depends on rounding: everything except the factorization, whose result is replaced by the identity.
void quantize_sequentially(benchmark::State& state) {
    const layer data(state.range(0));
    const matrix T = matrix::Identity(data.W.cols(), data.W.cols());
    columns residual(data.W.rows(), data.W.cols());
    struct round_to_steps {
        void operator()(index_t, index_t, std::span<const float> weights, std::span<float> rounded) const {
            for (std::size_t i = 0; i < weights.size(); ++i) rounded[i] = 0.01F * std::nearbyint(100 * weights[i]);
        }
    };
    measure(state, data, [&] {
        residual = data.W;
        const auto sums = magr::quantize_sequentially(magr::as_mutable_view(residual), magr::as_const_view(T), 128, round_to_steps{});
        benchmark::DoNotOptimize(sums.data());
    });
}

void quantize_optq_groups(benchmark::State& state, magr::group_update update) {
    const layer data(state.range(0));
    measure(state, data,
            [&] { benchmark::DoNotOptimize(magr::quantize_optq(data.W, data.H, {.bits = 4, .group_size = 128}, {.groups = update})); });
}

/// The part of quantize_optq that does not depend on the number of rows, compared with a bare product with as many multiply-adds, n^3 / 6,
/// in the precision of the factor. `share_of_peak` counts only these, in the best of all times.
template <class Factor>
void factor_feedback(benchmark::State& state) {
    const layer data(state.range(0));
    const auto H = magr::as_view(data.H);
    const index_t n = H.cols();
    const auto order = magr::order_columns(H, magr::column_order::natural, n);
    const auto precision = std::is_same_v<Factor, double> ? magr::factor_precision::float64 : magr::factor_precision::float32;
    using square = Eigen::Matrix<Factor, Eigen::Dynamic, Eigen::Dynamic>;
    const square left = data.H.template cast<Factor>(), right = left.leftCols(n / 6);
    square product(n, n / 6);
    double gemm = 0, own = 0, best = 1e300;
    for (auto _ : state) {
        gemm += seconds([&] {
            product.noalias() = left * right;
            benchmark::DoNotOptimize(product.data());
        });
        const double time =
            seconds([&] { benchmark::DoNotOptimize(magr::factor_feedback<float>(H, order, {.damping = 0.01, .precision = precision})); });
        own += time;
        best = std::min(best, time);
        state.SetIterationTime(time);
    }
    state.counters["x_gemm"] = own / gemm;
    state.counters["share_of_peak"] = std::pow(static_cast<double>(n), 3) / 3 / best / benchmarks::fma_peak<Factor>();
}

/// OPTQ as published: the Cholesky factor of the inverse, and all later weights updated after each block of 128 columns.
columns textbook(const matrix& W, const matrix& H, int bits) {
    const index_t n = W.cols();
    const float largest = static_cast<float>((1 << bits) - 1);
    Eigen::ArrayXf low = W.rowwise().minCoeff().array().min(0.0F);
    Eigen::ArrayXf high = W.rowwise().maxCoeff().array().max(0.0F);
    const Eigen::ArrayXf scale = (high - low) / largest;
    const Eigen::ArrayXf zero = (-low / scale).rint();

    Eigen::MatrixXd damped = H.cast<double>();
    damped.diagonal().array() += 0.01 * damped.diagonal().mean();
    const Eigen::MatrixXd inverse = damped.llt().solve(Eigen::MatrixXd::Identity(n, n));
    const columns U = Eigen::MatrixXd(inverse.llt().matrixU()).cast<float>();

    columns work = W;
    columns Q(W.rows(), n);
    for (index_t begin = 0; begin < n; begin += 128) {
        const index_t width = std::min<index_t>(128, n - begin);
        columns errors(W.rows(), width);
        for (index_t k = begin; k < begin + width; ++k) {
            Q.col(k) = (scale * ((work.col(k).array() / scale).rint() + zero).max(0.0F).min(largest) - scale * zero).matrix();
            errors.col(k - begin) = (work.col(k) - Q.col(k)) / U(k, k);
            work.middleCols(k, begin + width - k).noalias() -= errors.col(k - begin) * U.row(k).segment(k, begin + width - k);
        }
        work.rightCols(n - begin - width).noalias() -= errors * U.block(begin, begin + width, width, n - begin - width);
    }
    return Q;
}

void textbook_optq(benchmark::State& state) {
    const layer data(state.range(0));
    measure(state, data, [&] { benchmark::DoNotOptimize(textbook(data.W, data.H, 4)); });
}

void quantize_rtn(benchmark::State& state) {
    const layer data(state.range(0));
    measure(state, data, [&] { benchmark::DoNotOptimize(magr::quantize_rtn(data.W, {.bits = 4})); });
}

void layer_sizes(benchmark::internal::Benchmark* benchmark) {
    benchmark->ArgName("n")->Arg(512)->Arg(1024)->Arg(2048)->UseManualTime()->Unit(benchmark::kMillisecond);
}

BENCHMARK_CAPTURE(quantize_optq, codes_alone, {.measure_error = false})->Apply(layer_sizes)->Arg(4096);
BENCHMARK_CAPTURE(quantize_optq, codes_alone_double_factor, {.precision = magr::factor_precision::float64, .measure_error = false})
    ->Apply(layer_sizes)
    ->Arg(4096);
BENCHMARK_CAPTURE(quantize_optq, with_error, {})->Apply(layer_sizes)->Arg(4096);
BENCHMARK(quantize_sequentially)->Apply(layer_sizes)->Arg(4096);
BENCHMARK_CAPTURE(quantize_optq_groups, live, magr::group_update::live)->Apply(layer_sizes);
BENCHMARK_TEMPLATE(factor_feedback, double)->Apply(layer_sizes)->Arg(4096);
BENCHMARK_TEMPLATE(factor_feedback, float)->Apply(layer_sizes)->Arg(4096);
BENCHMARK(textbook_optq)->Apply(layer_sizes);
BENCHMARK(quantize_rtn)->Apply(layer_sizes);

}  // namespace
