// SPDX-License-Identifier: MIT
// Code that a user of the installed library might write.
#include <Eigen/Core>

#include <magr/magr.hpp>

static_assert(MAGR_VERSION_GE(0, 1, 0));

int main() {
    Eigen::MatrixXf W(2, 4);
    W << 1, 2, 3, 9, -1, 4, -8, 2;
    magr::gram_accumulator<double> calibration(4);
    calibration.add(Eigen::MatrixXf(Eigen::MatrixXf::Identity(4, 4)));
    const auto quantized = magr::quantize_rtn(W, {.bits = 4});
    return magr::output_error(W, quantized.dequantize(), calibration.gram()) < 0.01 ? 0 : 1;
}
