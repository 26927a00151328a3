// SPDX-License-Identifier: MIT
#include "library.hpp"

namespace record {
namespace {

/// Codes that can be improved: rounded to nearest. With `k_quant yes` on grids of two levels.
template <class Weights>
auto start_of(settings& s, Weights W) {
    const magr::grid_options grid = grid_options_of(s);
    return s.yes("k_quant", false) ? magr::quantize_rtn(W, magr::fit_k_quant_grids(W, magr::ggml_type::q4_k)) : magr::quantize_rtn(W, grid);
}

}  // namespace

void refine_codes(recorder& out, const std::string& of, const std::string& text) {
    run_with_gram(out, "refine_codes", of, text, [](settings& s, results& found, const layer&, auto W, auto H, auto& pool) {
        auto q = start_of(s, W);
        add_refinement(found, magr::refine_codes(q, W, H, code_refinement_of(s), pool));
        add_quantized(found, q);
    });
}

void refine_scales(recorder& out, const std::string& of, const std::string& text) {
    run_with_gram(out, "refine_scales", of, text, [](settings& s, results& found, const layer&, auto W, auto H, auto& pool) {
        auto q = start_of(s, W);
        add_refinement(found, magr::refine_scales(q, W, H, scale_refinement_of(s), pool));
        add_quantized(found, q);
    });
}

void output_error(recorder& out, const std::string& of, const std::string& text) {
    run_with_gram(out, "output_error", of, text, [](settings& s, results& found, const layer&, auto W, auto H, auto& pool) {
        const auto q = start_of(s, W);
        found.add("output_error", magr::output_error(W, q.dequantize(), H, pool));
    });
}

}  // namespace record
