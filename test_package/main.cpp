// SPDX-License-Identifier: MIT
#include <cstdio>
#include <magr/magr.hpp>

int main() {
    magr::matrix<float> W(2, 4);
    for (int i = 0; i < 8; ++i) W.data()[i] = static_cast<float>(i * i % 7 - 3);
    const auto quantized = magr::quantize_rtn(W, {.bits = 4});
    std::printf("magr %d.%d.%d: %g is kept as %g\n", MAGR_VERSION_MAJOR, MAGR_VERSION_MINOR, MAGR_VERSION_PATCH, W.data()[7],
                quantized.dequantize().data()[7]);
}
