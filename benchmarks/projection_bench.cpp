// SPDX-License-Identifier: MIT
// The projection onto the l1 ball and the prox of the l_inf norm, compared with the textbook version by sorting and one plain pass over the
// vector. Every time is for one vector. Kernels work in place, so a batch of vectors is restored before the clock starts; it stays in the
// second-level cache. `find_threshold_l1` and `find_threshold_linf` are their searches alone, compared with sorting alone; the kernels add
// one pass that reads and writes. A warm search starts at the threshold of the same vector with 1% of noise. For the largest element of
// `one_huge` and for the equal ones, that threshold may lie above all elements. Each measures its yardsticks in the same run on the same
// vectors:
//   x_raw_loop        own time in units of one pass that adds up the magnitudes
//   speedup_vs_sort   time of the textbook version / own time
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include <magr/kernels/metric.hpp>
#include <magr/kernels/prox.hpp>
#include <magr/kernels/source.hpp>
#include <magr/kernels/threshold.hpp>
#include <magr/prox.hpp>

#include "timing.hpp"

namespace {

using magr::index_t;

constexpr const char* instruction_set = magr::instruction_set();

constexpr std::size_t batch_size = 16;

struct distribution {
    const char* name;
    float (*draw)(std::mt19937& generator, std::size_t i, std::size_t n);
};

float gaussian(std::mt19937& generator) { return std::normal_distribution<float>()(generator); }

const distribution distributions[] = {
    {"gaussian", [](std::mt19937& g, std::size_t, std::size_t) { return gaussian(g); }},
    {"heavy_tailed", [](std::mt19937& g, std::size_t, std::size_t) { return gaussian(g) / (0.01F + std::abs(gaussian(g))); }},
    {"all_equal", [](std::mt19937&, std::size_t, std::size_t) { return 0.1F; }},
    {"one_huge", [](std::mt19937& g, std::size_t i, std::size_t n) { return i == n / 2 ? 1e6F : gaussian(g); }},
};

/// Sum of the magnitudes: the minimal cost of any algorithm that reads every element.
float raw_loop(std::span<const float> v) {
    constexpr std::size_t lanes = 64;  // independent sums, which the compiler may put into vector registers
    float sums[lanes] = {};
    std::size_t i = 0;
    for (; i + lanes <= v.size(); i += lanes)
        for (std::size_t k = 0; k < lanes; ++k) sums[k] += std::abs(v[i + k]);
    float total = 0;
    for (; i < v.size(); ++i) total += std::abs(v[i]);
    for (const float sum : sums) total += sum;
    return total;
}

/// The threshold by sorting: J. Duchi et al., Efficient projections onto the l1-ball, ICML 2008, figure 1.
float sorted_threshold(std::span<const float> v, double total, std::vector<float>& magnitudes) {
    magnitudes.resize(v.size());
    std::transform(v.begin(), v.end(), magnitudes.begin(), [](float value) { return std::abs(value); });
    std::sort(magnitudes.begin(), magnitudes.end(), std::greater<>());
    double sum = 0, tau = 0;
    for (std::size_t i = 0; i < magnitudes.size(); ++i) {
        sum += magnitudes[i];
        const double candidate = (sum - total) / static_cast<double>(i + 1);
        if (magnitudes[i] <= candidate) break;
        tau = candidate;
    }
    return static_cast<float>(std::max(tau, 0.0));
}

/// Vectors to work on, the same before every measurement.
class batch {
public:
    batch(const distribution& from, std::size_t n) : original_(batch_size, std::vector<float>(n)), hint_(batch_size) {
        std::mt19937 generator(static_cast<unsigned>(n));
        for (auto& v : original_)
            for (std::size_t i = 0; i < n; ++i) v[i] = from.draw(generator, i, n);
        l1_ = 0;
        for (const float value : original_.front()) l1_ += std::abs(static_cast<double>(value));
        work_ = original_;
    }

    /// Average number of seconds that `kernel(v, k)` takes for one vector v, the k-th of the batch, over `count` of them.
    template <class Kernel>
    double time(Kernel&& kernel, std::size_t first = 0, std::size_t count = batch_size) {
        for (std::size_t k = first; k < first + count; ++k) std::copy(original_[k].begin(), original_[k].end(), work_[k].begin());
        return seconds([&] {
                   for (std::size_t k = first; k < first + count; ++k) {
                       float result = kernel(std::span(work_[k]), k);
                       benchmark::DoNotOptimize(result);
                   }
               }) /
               static_cast<double>(count);
    }

    /// The threshold of a similar problem, the same vector with 1% of noise: the start of a solver's search.
    void find_hints(double total) {
        std::mt19937 generator(1);
        std::vector<float> nearby;
        for (std::size_t k = 0; k < batch_size; ++k) {
            nearby = original_[k];
            for (float& value : nearby) value *= 1 + 0.01F * gaussian(generator);
            hint_[k] = magr::prox_linf(std::span(nearby), total);
        }
    }

    [[nodiscard]] float hint(std::size_t k) const { return hint_[k]; }
    [[nodiscard]] double l1_norm() const { return l1_; }

    [[nodiscard]] double share_above(float tau) const {
        const auto above = std::count_if(original_[0].begin(), original_[0].end(), [&](float value) { return std::abs(value) > tau; });
        return static_cast<double>(above) / static_cast<double>(original_[0].size());
    }

private:
    std::vector<std::vector<float>> original_, work_;
    std::vector<float> hint_;
    double l1_ = 0;
};

/// A measured operation: a kernel of magr, and its effect on a vector whose threshold is known.
struct projection {
    static constexpr double share = 0.1;  // radius / ||v||_1
    static float run(std::span<float> v, double radius, float hint) {
        return magr::kernels::project_l1_ball<float>(magr::kernels::contiguous_source<float>{v.data()}, magr::kernels::unit_metric{},
                                                     static_cast<index_t>(v.size()), radius, hint);
    }
    static void apply(std::span<float> v, float tau) {
        for (float& value : v) value = std::copysign(std::max(std::abs(value) - tau, 0.0F), value);
    }
};

struct prox {
    static constexpr double share = 0.001;  // t / ||v||_1
    static float run(std::span<float> v, double t, float hint) {
        return magr::kernels::prox_linf<float>(magr::kernels::contiguous_source<float>{v.data()}, magr::kernels::unit_metric{},
                                               static_cast<index_t>(v.size()), t, hint);
    }
    static void apply(std::span<float> v, float tau) {
        for (float& value : v) value = std::clamp(value, -tau, tau);
    }
};

/// The search for the threshold that `Kernel` applies, alone.
template <class Kernel>
struct search {
    static constexpr double share = Kernel::share;
    static float run(std::span<float> v, double total, float hint) {
        return magr::kernels::find_threshold(magr::kernels::contiguous_source<const float>{v.data()}, magr::kernels::unit_metric{},
                                             static_cast<index_t>(v.size()), total, hint, magr::simd::default_arch{});
    }
    static void apply(std::span<float>, float) {}
};

enum class algorithm { cold, warm, sort_reference, raw_loop };

template <class Kernel>
void measure(benchmark::State& state, algorithm which, const distribution& from) {
    const auto n = static_cast<std::size_t>(state.range(0));
    batch vectors(from, n);
    const double total = Kernel::share * vectors.l1_norm();
    vectors.find_hints(total);
    std::vector<float> magnitudes;
    const auto raw = [](std::span<float> v, std::size_t) { return raw_loop(v); };
    const auto sort = [&](std::span<float> v, std::size_t) {
        const float tau = sorted_threshold(v, total, magnitudes);
        Kernel::apply(v, tau);
        return tau;
    };
    const auto cold = [&](std::span<float> v, std::size_t) { return Kernel::run(v, total, 0); };
    const auto warm = [&](std::span<float> v, std::size_t k) { return Kernel::run(v, total, vectors.hint(k)); };

    std::vector<double> own_times, raw_times, sort_times;
    const auto repeat = [&](const auto& kernel) {
        for ([[maybe_unused]] auto _ : state) {
            own_times.push_back(vectors.time(kernel));
            raw_times.push_back(vectors.time(raw));
            state.SetIterationTime(own_times.back());
            if (sort_times.size() <
                4 * batch_size)  // a hundred times slower; one vector after another, so that the processor learns no order
                sort_times.push_back(vectors.time(sort, sort_times.size() % batch_size, 1));
        }
    };
    switch (which) {
        case algorithm::cold: repeat(cold); break;
        case algorithm::warm: repeat(warm); break;
        case algorithm::sort_reference: repeat(sort); break;
        case algorithm::raw_loop: repeat(raw); break;
    }
    state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(n * sizeof(float)));
    state.counters["x_raw_loop"] = median(own_times) / median(raw_times);
    state.counters["speedup_vs_sort"] = median(sort_times) / median(own_times);
    state.counters["active"] = vectors.share_above(vectors.hint(0));
    state.SetLabel(instruction_set);
}

template <class Kernel>
void add(const std::string& kernel) {
    const std::pair<algorithm, const char*> algorithms[] = {{algorithm::cold, "cold"},
                                                            {algorithm::warm, "warm"},
                                                            {algorithm::sort_reference, "sort_reference"},
                                                            {algorithm::raw_loop, "raw_loop"}};
    for (const auto& from : distributions)
        for (const auto& [which, name] : algorithms)
            benchmark::RegisterBenchmark((kernel + "/" + name + "/f32/" + from.name).c_str(),
                                         [which = which, &from](benchmark::State& state) { measure<Kernel>(state, which, from); })
                ->ArgName("n")
                ->Arg(1024)
                ->Arg(4096)
                ->Arg(11008)
                ->UseManualTime()
                ->Unit(benchmark::kMicrosecond);
}

const bool added = [] {
    add<projection>("project_l1_ball");
    add<prox>("prox_linf");
    add<search<projection>>("find_threshold_l1");
    add<search<prox>>("find_threshold_linf");
    return true;
}();

}  // namespace
