// SPDX-License-Identifier: MIT
// What takes more than one OPTQ pass over a layer: BoA, bounds of errors, rows that make up for each other. `x_optq` is the time in units
// of OPTQ of the same layer onto the same grids, codes alone, measured in turn with it. Medians.
#include <benchmark/benchmark.h>
#include <Eigen/Core>
#include <magr/attention/boa.hpp>
#include <magr/bounds/error_bounds.hpp>
#include <magr/layer/coupled_rows.hpp>
#include <magr/quantize.hpp>
#include <vector>

#include "layer.hpp"
#include "timing.hpp"

namespace {

using benchmarks::layer;
using magr::index_t;

/// Times OPTQ and `subject` in turn.
template <class Subject>
void measure(benchmark::State& state, const layer& data, const Subject& subject) {
    const auto grids = magr::fit_grids(data.W, data.H, {.bits = 4});
    std::vector<double> own, optq;
    for (auto _ : state) {
        optq.push_back(
            seconds([&] { benchmark::DoNotOptimize(magr::quantize_optq(data.W, data.H, grids, {.measure_error = false}).quantized); }));
        own.push_back(seconds([&] { subject(grids); }));
        state.SetIterationTime(own.back());
    }
    state.counters["x_optq"] = median(own) / median(optq);
}

/// Heads of 64 rows, each with its own row Hessian, that of keys like the inputs of the benchmark's layer.
void quantize_boa(benchmark::State& state, index_t rows_per_step, index_t scale_passes) {
    constexpr index_t head_size = 64;
    const layer data(state.range(0));
    const std::vector<layer::matrix> heads(static_cast<std::size_t>(data.W.rows() / head_size), layer(head_size).H);
    measure(state, data, [&](const magr::weight_grids<float>& grids) {
        benchmark::DoNotOptimize(
            magr::quantize_boa(data.W, data.H, heads, grids, {.rows_per_step = rows_per_step, .scale_passes = scale_passes}).quantized);
    });
}

void bound_errors(benchmark::State& state) {
    const layer data(state.range(0));
    const auto done = magr::quantize_optq(data.W, data.H, {.bits = 4}, {});
    measure(state, data, [&](const magr::weight_grids<float>&) {
        benchmark::DoNotOptimize(magr::bound_errors(data.W, done.quantized, data.H).loss_bound);
    });
}

/// The metric of the outputs is a Gram matrix like that of the inputs.
void quantize_coupled_rows(benchmark::State& state, index_t passes) {
    const layer data(state.range(0));
    magr::coupled_options options;
    options.layer.grid.bits = 4;
    options.passes = passes;
    measure(state, data, [&](const magr::weight_grids<float>&) {
        benchmark::DoNotOptimize(magr::quantize_coupled_rows(data.W, data.H, data.H, options).losses);
    });
}

void layer_sizes(benchmark::internal::Benchmark* benchmark) {
    benchmark->ArgName("n")->Arg(512)->Arg(1024)->Arg(2048)->UseManualTime()->Unit(benchmark::kMillisecond);
}

BENCHMARK_CAPTURE(quantize_boa, one_row, 1, 0)->Apply(layer_sizes);
BENCHMARK_CAPTURE(quantize_boa, sixteen_rows, 16, 0)->Apply(layer_sizes);
BENCHMARK_CAPTURE(quantize_boa, sixteen_rows_and_scales, 16, 1)->Apply(layer_sizes);
BENCHMARK(bound_errors)->Apply(layer_sizes);
BENCHMARK_CAPTURE(quantize_coupled_rows, one_pass, 0)->ArgName("n")->Arg(256)->Arg(512)->UseManualTime()->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(quantize_coupled_rows, as_usual, 3)->ArgName("n")->Arg(256)->Arg(512)->UseManualTime()->Unit(benchmark::kMillisecond);

}  // namespace
