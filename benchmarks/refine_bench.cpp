// SPDX-License-Identifier: MIT
// Refinement of a square layer compared with a bare Eigen product of in^2 * out multiply-adds in double, the minimal cost of one pass; and
// grid searches compared with plain rounding onto given grids. `x_baseline` is the time in units of that, measured in turn with it.
#include <benchmark/benchmark.h>
#include <Eigen/Core>
#include <magr/quantize.hpp>
#include <optional>

#include "layer.hpp"
#include "timing.hpp"

namespace {

using benchmarks::layer;
using magr::index_t;

/// Times `function` and `baseline` in turn.
template <class Baseline, class Function>
void measure(benchmark::State& state, index_t weights, Baseline&& baseline, Function&& function) {
    double yardstick = 0;
    double own = 0;
    for (auto _ : state) {
        yardstick += seconds(baseline);
        const double time = seconds(function);
        own += time;
        state.SetIterationTime(time);
    }
    state.counters["x_baseline"] = own / yardstick;
    state.counters["baseline_ms"] = benchmark::Counter(1e3 * yardstick / static_cast<double>(state.iterations()));
    state.SetItemsProcessed(state.iterations() * weights);
}

/// Refines codes that OPTQ has chosen, or the nearest ones.
template <class Refine>
void refine(benchmark::State& state, bool optq, Refine&& refine) {
    const layer data(state.range(0));
    const Eigen::MatrixXd left = data.W.cast<double>();
    const Eigen::MatrixXd right = data.H.cast<double>();
    Eigen::MatrixXd product;
    const magr::grid_options grid{.bits = 3, .group_size = 128};
    const auto start = optq ? magr::quantize_optq(data.W, data.H, grid).quantized : magr::quantize_rtn(data.W, grid);
    const auto bare_product = [&] {
        product.noalias() = left * right;
        benchmark::DoNotOptimize(product.data());
    };
    index_t passes = 0;
    measure(state, data.W.size(), bare_product, [&] {
        auto q = start;
        passes = refine(q, data).passes;
        benchmark::DoNotOptimize(q.codes.data());
    });
    state.counters["passes"] = static_cast<double>(passes);
}

void refine_codes(benchmark::State& state, index_t passes) {
    refine(state, true, [&](auto& q, const layer& data) { return magr::refine_codes(q, data.W, data.H, {.max_passes = passes}); });
}
/// Many codes change, and H is packed only once.
void refine_nearest(benchmark::State& state) {
    std::optional<magr::hessian> H;
    refine(state, false, [&](auto& q, const layer& data) {
        if (!H) H.emplace(data.H);
        return magr::refine_codes(q, data.W, *H);
    });
}
void refine_scales(benchmark::State& state) {
    refine(state, true, [](auto& q, const layer& data) { return magr::refine_scales(q, data.W, data.H); });
}

void fit_grids(benchmark::State& state, magr::range_search range, magr::range_candidates candidates) {
    const layer data(state.range(0));
    const magr::grid_options options{.bits = 3, .group_size = 128, .range = range, .candidates = candidates};
    const auto given = magr::fit_grids(data.W, {.bits = 3, .group_size = 128});
    measure(
        state, data.W.size(), [&] { benchmark::DoNotOptimize(magr::quantize_rtn(data.W, given)); },
        [&] { benchmark::DoNotOptimize(magr::fit_grids(data.W, data.H, options)); });
}

void layer_sizes(benchmark::internal::Benchmark* benchmark) {
    benchmark->ArgName("n")->Arg(512)->Arg(1024)->Arg(2048)->UseManualTime()->Unit(benchmark::kMillisecond);
}
void small_layer(benchmark::internal::Benchmark* benchmark) {
    benchmark->ArgName("n")->Arg(512)->UseManualTime()->Unit(benchmark::kMillisecond);
}

BENCHMARK_CAPTURE(refine_codes, one_pass, 1)->Apply(layer_sizes);
BENCHMARK_CAPTURE(refine_codes, five_passes, 5)->Apply(layer_sizes);
BENCHMARK(refine_nearest)->Apply(layer_sizes);
BENCHMARK(refine_scales)->Apply(layer_sizes);
BENCHMARK_CAPTURE(fit_grids, min_max, magr::range_search::min_max, magr::range_candidates::shrink)->Apply(small_layer);
BENCHMARK_CAPTURE(fit_grids, mse_shrink, magr::range_search::mse, magr::range_candidates::shrink)->Apply(small_layer);
BENCHMARK_CAPTURE(fit_grids, mse_joint, magr::range_search::mse, magr::range_candidates::joint)->Apply(small_layer);
BENCHMARK_CAPTURE(fit_grids, output_error_joint, magr::range_search::output_error, magr::range_candidates::joint)->Apply(small_layer);
BENCHMARK_CAPTURE(fit_grids, row_output_error_joint, magr::range_search::row_output_error, magr::range_candidates::joint)
    ->Apply(small_layer);

}  // namespace
