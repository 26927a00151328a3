// SPDX-License-Identifier: MIT
// A program without exceptions: it defines its own handler of the library's errors before the first include.
#include <cmath>
#include <cstdlib>
#include <cstring>

[[noreturn]] void on_failure(const char* message);
#define MAGR_FAILURE_HANDLER on_failure

#include <Eigen/Core>

#include <magr/magr.hpp>

namespace {
bool mistake_made = false;
}

void on_failure(const char* message) {
    const bool expected = std::strcmp(message, "quantize_rtn: W must be finite, entry (row 1, column 2) is nan") == 0;
    std::_Exit(mistake_made && expected ? 0 : 2);
}

int main() {
    constexpr int outputs = 3, inputs = 8;
    Eigen::MatrixXf W(outputs, inputs), X(2 * inputs, inputs);
    for (int i = 0; i < W.size(); ++i) W.data()[i] = static_cast<float>((7 * i) % 11 - 5);
    for (int i = 0; i < X.size(); ++i) X.data()[i] = static_cast<float>((5 * i) % 13 - 6);
    magr::gram_accumulator<double> calibration(inputs);
    calibration.add(X);
    const auto& H = calibration.gram();

    const auto report = magr::preprocess(W, H);
    const auto nearest = magr::quantize_rtn(W, {.bits = 3});
    const auto optq = magr::quantize_optq(W, H, {.bits = 3});
    const bool works = report.stopped == magr::stop_reason::converged && optq.status == magr::quantization_status::as_requested &&
                       magr::output_error(W, nearest.dequantize(), H) < 1 && optq.output_error.value_or(1) < 1;
    if (!works) return 1;

    mistake_made = true;
    W(1, 2) = NAN;
    static_cast<void>(magr::quantize_rtn(W));
    return 3;  // the handler should have ended the program
}
