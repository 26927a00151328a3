// SPDX-License-Identifier: MIT
// Another unit beside the quickstart, which includes the single header, too: the linker must find no definition twice.
#include <magr/magr.hpp>

namespace {

/// Runs before main, so that the functions are in the program.
const bool packed = [] {
    magr::matrix<float> W(32, 32), H(32, 32);
    for (magr::index_t i = 0; i < 32; ++i) W(i, i) = H(i, i) = 1;
    magr::preprocess(W, H);
    const auto grid = magr::grid_options_for(magr::packed_format::gptq_v2);
    return magr::pack_gptq(magr::quantize_optq(W, H, grid).quantized, magr::gptq_version::v2).bits == 4;
}();

}  // namespace

bool second_unit_packed() { return packed; }
