// SPDX-License-Identifier: MIT
// One decoder block of LLaMA-2-7B, actually quantized: MagR and then 4-bit OPTQ on its seven layers, with synthetic weights and inputs,
// compared with the predictions of the cost model in README.md. Prints one line per layer, then the block and 32 of them.
//   wall, cpu   seconds on the clock, and of processor time over all workers: on a busy machine their ratio shows how busy
//   model       flops of the stage / (share of peak in README.md * measured peak of one core * workers)
// Layers with the same inputs share a hessian, so that the first of them pays for what is made of H.
// The Gram matrices of 128 x 2048 tokens are another stage: some tokens are accumulated, and their time is scaled to all.
//
//   block_bench [workers] [divisor] [layer]    by default 1 worker; the divisor divides all sides, for a quick look; layer selects one
#include <Eigen/Core>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <magr/calibration/gram.hpp>
#include <magr/calibration/hessian.hpp>
#include <magr/parallel/thread_pool.hpp>
#include <magr/preprocess.hpp>
#include <magr/quantize.hpp>
#include <optional>
#include <random>
#include <string_view>
#include <vector>

#include "peak.hpp"
#include "timing.hpp"

namespace {

using magr::index_t;
using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// The cost of a stage, measured and predicted by the model.
struct cost {
    double wall = 0, cpu = 0, model = 0;

    cost& operator+=(const cost& other) {
        wall += other.wall;
        cpu += other.cpu;
        model += other.model;
        return *this;
    }
};

void print(const cost& c) { std::printf("  %8.2f %8.2f %8.2f", c.wall, c.cpu, c.model); }

template <class Function>
cost measure(double model, Function&& function) {
    const std::clock_t start = std::clock();
    const double wall = seconds(function);
    return {wall, static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC, model};
}

/// The share of the peak of all workers that each stage reaches at these sizes, as in README.md.
struct shares_of_peak {
    double gram = 0.80, inverse = 0.73, iteration = 0.80, factor = 0.60, feedback = 0.74;
};

/// Seconds for a number of flops.
struct cost_model {
    double peak;  // of all workers, in float
    shares_of_peak share;

    explicit cost_model(double workers) : peak(workers * benchmarks::fma_peak<float>()) {}
    [[nodiscard]] double gram(double n, double tokens) const { return tokens * n * n / (share.gram * peak); }
    [[nodiscard]] double preprocess(double m, double n, double products, bool is_first) const {
        return (is_first ? n * n * n / (share.inverse * peak) : 0) + products * 2 * m * n * n / (share.iteration * peak);
    }
    [[nodiscard]] double optq(double m, double n, bool is_first) const {
        return (is_first ? n * n * n / 3 / (share.factor * peak) : 0) + m * n * n / (share.feedback * peak);
    }
};

matrix gaussian(index_t rows, index_t cols, float scale, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, scale);
    matrix out(rows, cols);
    for (index_t i = 0; i < out.size(); ++i) out.data()[i] = normal(random);
    return out;
}

/// Inputs somewhat like those of language models: channels of different size, a component that all of them share, and few dominating
/// directions.
matrix make_tokens(index_t count, index_t n, std::vector<float>& scales) {
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    for (index_t j = 0; j < n; ++j) scales.push_back(std::exp(0.6F * normal(random)));
    matrix X = gaussian(count, n, 1, 11);
    for (index_t t = 0; t < count; ++t) {
        const float shared = 0.3F * normal(random), size = 6 * std::pow(static_cast<float>(t + 1), -0.6F);
        for (index_t j = 0; j < n; ++j) X(t, j) = scales[static_cast<std::size_t>(j)] * (size * X(t, j) + shared);
    }
    return X;
}

}  // namespace

int main(int argc, char** argv) {
    const index_t workers = argc > 1 ? std::atoi(argv[1]) : 1, divisor = argc > 2 ? std::atoi(argv[2]) : 1;
    const std::string_view only = argc > 3 ? argv[3] : "";
    if (workers < 1 || divisor < 1) {
        std::fprintf(stderr, "usage: block_bench [workers] [divisor] [layer]\n");
        return 2;
    }
    struct layer {
        const char* name;
        index_t rows;
    };
    struct input {
        index_t size;
        std::vector<layer> layers;  // the layers that read it
    };
    const index_t narrow = 4096 / divisor, wide = 11008 / divisor;
    const std::vector<input> block{{narrow, {{"query", narrow}, {"key", narrow}, {"value", narrow}}},
                                   {narrow, {{"output", narrow}}},
                                   {narrow, {{"gate", wide}, {"up", wide}}},
                                   {wide, {{"down", narrow}}}};
    constexpr index_t sample = 4 * 384;  // whole blocks of tokens
    constexpr double tokens = 128 * 2048;

    magr::thread_pool pool(workers);
    const cost_model model(static_cast<double>(workers));
    std::printf("%d workers, peak %.0f Gflop/s in float\n", static_cast<int>(workers), model.peak / 1e9);
    std::printf("%-8s %15s  %26s  %26s  %s\n%-8s %15s", "", "", "MagR: wall      cpu    model", "OPTQ: wall      cpu    model", "products",
                "layer", "rows x inputs");
    std::printf("\n");
    cost gram_total, magr_total, optq_total;
    for (const auto& [n, all_layers] : block) {
        std::vector<layer> layers = all_layers;
        if (!only.empty()) std::erase_if(layers, [&](const layer& l) { return l.name != only; });
        if (layers.empty()) continue;
        std::vector<float> scales;
        const matrix X = make_tokens(sample, n, scales);
        magr::gram_accumulator<float> accumulator(n);
        cost gram = measure(model.gram(static_cast<double>(n), tokens), [&] { accumulator.add(X, pool); });
        gram.wall *= tokens / static_cast<double>(sample);
        gram.cpu *= tokens / static_cast<double>(sample);
        gram_total += gram;
        magr::matrix<float> H = accumulator.gram(pool);
        for (index_t j = 0; j < n; ++j)  // all the other directions
            H(j, j) += 0.03F * static_cast<float>(sample) * scales[static_cast<std::size_t>(j)] * scales[static_cast<std::size_t>(j)];
        std::optional<magr::hessian> shared;
        magr_total += measure(0, [&] { shared.emplace(H, 0, pool); });
        for (const auto& [name, m] : layers) {
            const bool is_first = &name == &layers.front().name;
            matrix W = gaussian(m, n, 0.02F, 13);
            magr::preprocess_result preprocessed;
            cost by_magr = measure(0, [&] { preprocessed = magr::preprocess(W, *shared, {}, magr::ignore_progress{}, pool); });
            by_magr.model = model.preprocess(static_cast<double>(m), static_cast<double>(n), preprocessed.products, is_first);
            std::string_view remark = "  NOT QUANTIZED";
            const cost by_optq = measure(model.optq(static_cast<double>(m), static_cast<double>(n), is_first), [&] {
                const auto result = magr::quantize_optq(W, *shared, {.bits = 4}, {.measure_error = false}, pool);
                if (result) remark = result.precision == magr::factor_precision::float32 ? "" : "  H factored in double";
            });
            std::printf("%-8s %6d x %6d", name, static_cast<int>(m), static_cast<int>(n));
            print(by_magr);
            print(by_optq);
            std::printf("  %.1f%s\n", preprocessed.products, remark.data());
            std::fflush(stdout);
            magr_total += by_magr;
            optq_total += by_optq;
        }
    }
    const auto print_total = [](const char* name, cost c) {
        std::printf("%-34s", name);
        print(c);
        c.wall *= 32 / 60.0;
        c.cpu *= 32 / 60.0;
        c.model *= 32 / 60.0;
        std::printf("   32 blocks, minutes:");
        print(c);
        std::printf("\n");
    };
    std::printf("%-34s  %26s\n", "block", "    wall      cpu    model");
    print_total("MagR", magr_total);
    cost both = magr_total;
    both += optq_total;
    print_total("MagR and OPTQ", both);
    print_total("Gram matrices of 128 x 2048 tokens", gram_total);
    return 0;
}
