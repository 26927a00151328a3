// SPDX-License-Identifier: MIT
// Gives the library an engine's own weights: a struct that it has never heard of, whose rows are padded.
#include <cstddef>
#include <cstdio>
#include <magr/magr.hpp>
#include <vector>

/// What an engine might have. `pitch` is how many numbers the start of a row lies behind that of the one before.
struct tensor {
    int outputs, inputs, pitch;
    std::vector<float> numbers;
};

// This is all that it takes: from here on a tensor is a matrix, and a const tensor one that cannot be written to.
template <>
struct magr::matrix_traits<tensor> {
    static magr::matrix_view<float> view(tensor& t) { return {t.numbers.data(), t.outputs, t.inputs, t.pitch}; }
    static magr::matrix_view<const float> view(const tensor& t) { return {t.numbers.data(), t.outputs, t.inputs, t.pitch}; }
};

int main() {
    constexpr int outputs = 64, inputs = 128, tokens = 256, pitch = 144;
    tensor W{outputs, inputs, pitch, std::vector<float>(static_cast<std::size_t>(outputs) * pitch)};
    tensor X{tokens, inputs, pitch, std::vector<float>(static_cast<std::size_t>(tokens) * pitch)};
    for (std::size_t k = 0; k < W.numbers.size(); ++k) W.numbers[k] = static_cast<float>(k * 37 % 101) / 50 - 1;
    for (std::size_t k = 0; k < X.numbers.size(); ++k) X.numbers[k] = static_cast<float>(k * 61 % 89) / 44 - 1;

    magr::gram_accumulator<float> calibration(inputs);
    calibration.add(X);
    const auto report = magr::preprocess(W, calibration.gram());  // writes to W.numbers, and leaves the padding alone
    const auto optq = magr::quantize_optq(W, calibration.gram(), {.bits = 4});
    std::printf("max |w| per channel %.4f -> %.4f\n", report.mean_linf_before, report.mean_linf_after);
    std::printf("relative output error at 4 bits: %.4f\n", optq.output_error.value());
}
