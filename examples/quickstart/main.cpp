// SPDX-License-Identifier: MIT
#include <cstdio>
#include <magr/magr.hpp>
#include <random>

int main() {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    magr::matrix<float> W(256, 512), X(2048, 512);  // your layer, out x in, and its inputs, tokens x in: random numbers here
    for (float& w : std::span(W.data(), 256 * 512)) w = 0.02f * normal(random) * (random() % 100 == 0 ? 6.0f : 1.0f);
    for (int i = 0; i < 2048 * 512; ++i) X.data()[i] = normal(random) * 8.0f / static_cast<float>(1 + i % 512) + 0.1f * normal(random);

    magr::gram_accumulator<float> calibration(512);
    calibration.add(X);  // once per batch
    const auto& H = calibration.gram();

    magr::matrix<float> M = W;
    const auto report = magr::preprocess(M, H, {.alpha = 1e-3});  // MagR, in place
    std::printf("MagR %s: max |w| per channel %.4f -> %.4f\n", to_string(report.stopped), report.mean_linf_before, report.mean_linf_after);
    const auto plain = magr::quantize_optq(W, H, {.bits = 2});
    const auto better = magr::quantize_optq(M, H, {.bits = 2});
    std::printf("relative output error at 2 bits: OPTQ %.4f, MagR+OPTQ %.4f\n", magr::output_error(W, plain.quantized.dequantize(), H),
                magr::output_error(W, better.quantized.dequantize(), H));
}
