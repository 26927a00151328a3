// SPDX-License-Identifier: MIT
// An engine quantizes the tensors of a small model on its own threads and within a budget of memory, and cancels one of them.
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include "engine.h"
#include "quantize.h"

namespace {

std::uint16_t bf16_bits(float value) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// of a value below 65504; those below 2^-14 become 0
std::uint16_t f16_bits(float value) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    const std::uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude < 0x38800000) return static_cast<std::uint16_t>(sign);
    return static_cast<std::uint16_t>(sign | ((magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13));
}

using tensor_memory = std::vector<std::uint16_t>;

engine_tensor make_tensor(const char* name, engine_type type, std::size_t rows, std::size_t cols, tensor_memory& memory) {
    memory.resize(rows * cols);
    return {name, type, rows, cols, memory.data()};
}

void set(engine_tensor& t, std::size_t i, float value) {
    static_cast<std::uint16_t*>(t.data)[i] = t.type == ENGINE_F16 ? f16_bits(value) : bf16_bits(value);
}

// What the engine knows of a call in progress. Another thread may set the flag.
struct watcher {
    std::atomic<bool> stop{false};
    double stops_at = 2;  // sets the flag itself
    double fraction = 0;
    std::thread::id thread = std::this_thread::get_id();
    bool good = true;  // told by this thread alone, never less than before, and nothing after the flag was seen
    bool seen = false;
};

bool watch(void* user, double fraction) {
    watcher& w = *static_cast<watcher*>(user);
    w.good = w.good && !w.seen && fraction >= w.fraction && fraction < 1 + 1e-9 && w.thread == std::this_thread::get_id();
    w.fraction = fraction;
    if (fraction >= w.stops_at) w.stop = true;
    w.seen = w.stop;
    return !w.seen;
}

#if defined(__linux__)
// A line of /proc/self/status in bytes; Linux forgets the peak, VmHWM, if 5 is written to clear_refs.
std::size_t status_bytes(const char* name) {
    char line[128];
    std::size_t kilobytes = 0;
    std::FILE* const file = std::fopen("/proc/self/status", "r");
    while (file != nullptr && std::fgets(line, sizeof line, file) != nullptr)
        if (std::strncmp(line, name, std::strlen(name)) == 0) kilobytes = std::strtoull(line + std::strlen(name), nullptr, 10);
    if (file != nullptr) std::fclose(file);
    return kilobytes * 1024;
}
std::size_t memory_now() {
    if (std::FILE* const file = std::fopen("/proc/self/clear_refs", "w")) {
        std::fputs("5", file);
        std::fclose(file);
    }
    return status_bytes("VmRSS:");
}
std::size_t memory_peak() { return status_bytes("VmHWM:"); }
#else
std::size_t memory_now() { return 0; }
std::size_t memory_peak() { return 0; }
#endif

double megabytes(std::size_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

int failures = 0;
void check(bool holds, const char* what) {
    if (holds) return;
    std::printf("NOT TRUE: %s\n", what);
    ++failures;
}

}  // namespace

int main() {
#if defined(__GLIBC__)
    mallopt(M_MMAP_THRESHOLD, 1 << 16);  // freed memory goes back to the system at once, so that peaks are comparable
#endif
    constexpr std::size_t inputs = 768, tokens = 1536;
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    engine_pool* const pool = engine_pool_new(4);
    engine_error error{};

    // calibration: inputs of very different size that depend on each other, in f16
    tensor_memory memory[3];
    engine_tensor X = make_tensor("inputs", ENGINE_F16, tokens, inputs, memory[0]);
    for (std::size_t t = 0; t < tokens; ++t) {
        const float common = normal(random);
        for (std::size_t j = 0; j < inputs; ++j) set(X, t * inputs + j, (normal(random) + common) * 8.0f / static_cast<float>(1 + j % 64));
    }
    engine_calibration* const calibration = engine_calibration_new(inputs);
    check(calibration != nullptr && engine_calibration_add(calibration, &X, pool, &error) == ENGINE_OK &&
              engine_calibration_finish(calibration, &error) == ENGINE_OK,
          error.text);

    engine_tensor tensors[] = {make_tensor("blk.0.attn_q", ENGINE_F16, 768, inputs, memory[1]),
                               make_tensor("blk.0.ffn_up", ENGINE_BF16, 2048, inputs, memory[2])};
    for (engine_tensor& t : tensors)
        for (std::size_t i = 0; i < t.rows * inputs; ++i) set(t, i, 0.02f * normal(random) * (random() % 200 == 0 ? 5.0f : 1.0f));

    // Quantizes a tensor, compares it with plain rounding, and prints a line.
    constexpr std::size_t MiB = 1 << 20;
    const auto quantize = [&](const engine_tensor& tensor, engine_type type, double penalty, std::size_t budget) {
        watcher w;
        const engine_quantize_options options{type, penalty, pool, budget, watch, &w};
        engine_tensor quantized{}, rounded{};
        engine_quantize_report report{}, ignored{};
        const std::size_t before = memory_now();
        const bool done = engine_quantize(&tensor, calibration, &options, &quantized, &report, &error) == ENGINE_OK;
        const std::size_t used = memory_peak() - before;
        double ours = 0, plain = 0;
        const bool measured = done && engine_quantize(&tensor, nullptr, &options, &rounded, &ignored, &error) == ENGINE_OK &&
                              engine_output_error(&tensor, &quantized, calibration, &ours, &error) == ENGINE_OK &&
                              engine_output_error(&tensor, &rounded, calibration, &plain, &error) == ENGINE_OK;
        check(measured, error.text);
        check(w.good && w.fraction > 1 - 1e-9, "progress goes from 0 to 1, on the caller's thread");
        check(ours < 0.5 * plain, "the error is less than half of that of plain rounding");
        std::printf("%-14s  %s  %7zu  %7.1f  %5.1f  %12.5f  %13.5f\n", tensor.name, type == ENGINE_Q4_0 ? "Q4_0" : "GPTQ", report.threads,
                    megabytes(report.planned), megabytes(used), plain, ours);
        std::free(rounded.data);
        return quantized;
    };
    std::printf("tensor          to    threads  planned   used  error of RTN  of MagR+OPTQ\n");  // MiB
    engine_tensor results[] = {quantize(tensors[0], ENGINE_Q4_0, 1e-6, 64 * MiB), quantize(tensors[1], ENGINE_GPTQ, 1e-5, 64 * MiB),
                               quantize(tensors[1], ENGINE_GPTQ, 1e-5, 30 * MiB)};
    check(results[1].data != nullptr && results[2].data != nullptr &&
              std::memcmp(results[1].data, results[2].data, engine_tensor_bytes(&results[1])) == 0,
          "a smaller budget costs time, but changes no bit");
    for (const engine_tensor& result : results) std::free(result.data);

    // What is refused: a code and a sentence, and neither the tensor nor the result changes.
    const tensor_memory original = memory[2];  // of tensors[1]
    engine_tensor untouched{"untouched", ENGINE_F16, 1, 2, nullptr};
    engine_quantize_report report{};
    const auto refused = [&](engine_status expected, const engine_tensor& tensor, const engine_quantize_options& options) {
        const engine_status status = engine_quantize(&tensor, calibration, &options, &untouched, &report, &error);
        std::printf("%d: %s\n", status, error.text);
        check(status == expected, "the expected code");
        check(untouched.rows == 1 && untouched.data == nullptr && memory[2] == original, "nothing was changed");
    };
    refused(ENGINE_OVER_BUDGET, tensors[1], {ENGINE_GPTQ, 1e-5, pool, 8 * MiB, nullptr, nullptr});
    engine_tensor odd = tensors[1];
    odd.cols = 700;
    refused(ENGINE_BAD_ARGUMENT, odd, {ENGINE_GPTQ, 1e-5, pool, 64 * MiB, nullptr, nullptr});
    memory[1][1234] = 0x7e00;  // NaN
    refused(ENGINE_BAD_VALUE, tensors[0], {ENGINE_Q4_0, 1e-5, pool, 64 * MiB, nullptr, nullptr});

    // The flag is set in the middle of the work, here by the callback itself: nothing begins after it was seen.
    watcher w;
    w.stops_at = 0.2;
    refused(ENGINE_CANCELLED, tensors[1], {ENGINE_GPTQ, 1e-5, pool, 64 * MiB, watch, &w});
    check(w.good && w.fraction < 0.6, "it stops within one step");
    std::printf("cancelled when %.0f%% of %s were done\n", 100 * w.fraction, tensors[1].name);

    engine_calibration_free(calibration);
    engine_pool_free(pool);
    return failures == 0 ? 0 : 1;
}
