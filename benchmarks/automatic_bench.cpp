// SPDX-License-Identifier: MIT
// quantize_automatic compared with one MagR + OPTQ with the same grids and refinement. `x_single` is the time in units of the latter,
// measured in turn with it. A second calibration sample is the validation data.
#include <benchmark/benchmark.h>
#include <Eigen/Core>
#include <magr/quantize_automatic.hpp>
#include <magr/quantize_layer.hpp>
#include <vector>

#include "layer.hpp"
#include "timing.hpp"

namespace {

using benchmarks::layer;

void choose(benchmark::State& state, magr::range_search range, magr::index_t rounds) {
    const layer data(state.range(0));
    const layer::matrix validation = data.H * 0.25F + layer::matrix::Identity(data.H.rows(), data.H.cols()) * data.H(0, 0) * 0.05F;
    const magr::layer_options options{.grid = {.bits = 3, .range = range}, .refinement = {.rounds = rounds}};
    magr::automatic_options automatic;
    automatic.layer = options;
    magr::layer_options single = options;
    single.preprocess = magr::preprocess_options{};
    std::vector<double> own, yardstick;
    for (auto _ : state) {
        yardstick.push_back(seconds([&] { benchmark::DoNotOptimize(magr::quantize_layer(data.W, data.H, single).output_error); }));
        own.push_back(
            seconds([&] { benchmark::DoNotOptimize(magr::quantize_automatic(data.W, data.H, validation, automatic).validation_error); }));
        state.SetIterationTime(own.back());
    }
    state.counters["x_single"] = median(own) / median(yardstick);
}

void layer_sizes(benchmark::internal::Benchmark* benchmark) {
    benchmark->ArgName("n")->Arg(512)->Arg(1024)->Iterations(3)->UseManualTime()->Unit(benchmark::kMillisecond);
}

BENCHMARK_CAPTURE(choose, as_usual, magr::range_search::output_error, 3)->Apply(layer_sizes);
BENCHMARK_CAPTURE(choose, plain, magr::range_search::min_max, 0)->Apply(layer_sizes);

}  // namespace
