// SPDX-License-Identifier: MIT
// Packing codes into bits, beside memcpy of the bytes read and written, measured in turn with it: `x_memcpy` is the time in units of
// copying the codes (one byte each) and copying the packed bytes. Codes are 16 MB, more than the caches hold.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstring>
#include <magr/pack/bit_packing.hpp>
#include <random>
#include <span>
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
                2;  // each side is read and written, where packing reads the one and writes the other
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

}  // namespace
