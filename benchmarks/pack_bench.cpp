// SPDX-License-Identifier: MIT
// Packing codes into bits, compared with memcpy of the bytes read and written, measured in turn with it: `x_memcpy` is the time in units of
// copying the codes (one byte each) and the packed bytes. Codes take 16 MB, more than the caches hold. Also whole layers compared with
// memcpy of their codes, and the fit of a k-quant compared with rounding onto its grids.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstring>
#include <magr/pack.hpp>
#include <magr/quantize.hpp>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "timing.hpp"

namespace {

constexpr std::size_t count = std::size_t{1} << 24;

enum class direction { pack, unpack };

template <direction Direction>
void bits(benchmark::State& state) {
    const int width = static_cast<int>(state.range(0));
    std::mt19937 random(4);
    std::vector<std::uint8_t> codes(count);
    for (auto& code : codes) code = static_cast<std::uint8_t>(random() & ((1U << width) - 1));
    std::vector<std::uint8_t> packed(static_cast<std::size_t>(magr::packed_bytes(count, width)));
    std::vector<std::uint8_t> other_codes(count), other_packed(packed.size());
    magr::pack_bits(codes, width, packed);
    double copy = 0, own = 0;
    for (auto _ : state) {
        copy += seconds([&] {
                    std::memcpy(other_codes.data(), codes.data(), codes.size());
                    std::memcpy(other_packed.data(), packed.data(), packed.size());
                    benchmark::ClobberMemory();
                }) /
                2;  // memcpy reads and writes each of them, while packing reads one and writes the other
        const double time = seconds([&] {
            if (Direction == direction::pack)
                magr::pack_bits(codes, width, packed);
            else
                magr::unpack_bits(packed, width, codes);
            benchmark::ClobberMemory();
        });
        own += time;
        state.SetIterationTime(time);
    }
    state.counters["x_memcpy"] = own / copy;
    state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(count));
}

void widths(benchmark::internal::Benchmark* benchmark) {
    benchmark->ArgName("bits")->DenseRange(2, 8)->UseManualTime()->Unit(benchmark::kMillisecond);
}

BENCHMARK_TEMPLATE(bits, direction::pack)->Apply(widths);
BENCHMARK_TEMPLATE(bits, direction::unpack)->Apply(widths);

/// A quantized layer of 2048 x 2048 weights.
magr::quantized_matrix<float> layer(magr::packed_format format) {
    std::mt19937 random(5);
    std::normal_distribution<float> normal;
    magr::matrix<float> W(2048, 2048);
    for (float& w : std::span(W.data(), 2048 * 2048)) w = normal(random);
    if (format == magr::packed_format::gguf_q4_k) return magr::quantize_rtn(W, magr::fit_k_quant_grids(W, magr::ggml_type::q4_k));
    return magr::quantize_rtn(W, magr::grid_options_for(format));
}

template <class Pack>
void layers(benchmark::State& state, magr::packed_format format, const Pack& pack) {
    const auto q = layer(format);
    std::vector<std::uint8_t> copied(2048 * 2048);
    double copy = 0, own = 0;
    for (auto _ : state) {
        copy += seconds([&] {
            std::memcpy(copied.data(), q.codes.data(), copied.size());
            benchmark::ClobberMemory();
        });
        const double time = seconds([&] { benchmark::DoNotOptimize(pack(q)); });
        own += time;
        state.SetIterationTime(time);
    }
    state.counters["x_memcpy"] = own / copy;
    state.SetItemsProcessed(state.iterations() * 2048 * 2048);
}

template <class Pack>
void add_layers(magr::packed_format format, const Pack& pack) {
    benchmark::RegisterBenchmark((std::string("layer/") + to_string(format)).c_str(),
                                 [format, pack](benchmark::State& state) { layers(state, format, pack); })
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond);
}

const bool added = [] {
    using magr::packed_format;
    add_layers(packed_format::gptq_v2, [](const auto& q) { return magr::pack_gptq(q, magr::gptq_version::v2); });
    add_layers(packed_format::awq, [](const auto& q) { return magr::pack_awq(q); });
    add_layers(packed_format::compressed_tensors, [](const auto& q) { return magr::pack_compressed_tensors(q); });
    add_layers(packed_format::matmul_nbits, [](const auto& q) { return magr::pack_matmul_nbits(q); });
    add_layers(packed_format::mlx, [](const auto& q) { return magr::pack_mlx(q); });
    add_layers(packed_format::gguf_q4_0, [](const auto& q) { return magr::pack_gguf(q, magr::ggml_type::q4_0); });
    add_layers(packed_format::gguf_q4_k, [](const auto& q) { return magr::pack_gguf(q, magr::ggml_type::q4_k); });
    return true;
}();

void fit_k_quant(benchmark::State& state) {
    const auto type = static_cast<magr::ggml_type>(state.range(0));
    std::mt19937 random(6);
    std::normal_distribution<float> normal;
    magr::matrix<float> W(256, 1024);
    for (float& w : std::span(W.data(), 256 * 1024)) w = normal(random);
    const auto grids = magr::fit_k_quant_grids(W, type);
    double rounding = 0, own = 0;
    for (auto _ : state) {
        rounding += seconds([&] { benchmark::DoNotOptimize(magr::quantize_rtn(W, grids)); });
        const double time = seconds([&] { benchmark::DoNotOptimize(magr::fit_k_quant_grids(W, type)); });
        own += time;
        state.SetIterationTime(time);
    }
    state.counters["x_rounding"] = own / rounding;
    state.SetItemsProcessed(state.iterations() * 256 * 1024);
}
BENCHMARK(fit_k_quant)->ArgName("type")->DenseRange(10, 14)->UseManualTime()->Unit(benchmark::kMillisecond);

}  // namespace
