// SPDX-License-Identifier: MIT
#include "library.hpp"

namespace record {

void fit_grids(recorder& out, const std::string& of, const std::string& text) {
    run_with_gram(out, "fit_grids", of, text, [](settings& s, results& found, const layer&, auto W, auto H, auto& pool) {
        const magr::grid_options options = grid_options_of(s);
        const auto grids = s.yes("gram", true) ? magr::fit_grids(W, H, options, pool) : magr::fit_grids(W, options);
        add_grids(found, grids);
        add_limits(found, magr::count_storage_limits(grids));
    });
}

void fit_k_quant_grids(recorder& out, const std::string& of, const std::string& text) {
    run_with_gram(out, "fit_k_quant_grids", of, text, [](settings& s, results& found, const layer&, auto W, auto H, auto&) {
        using magr::ggml_type;
        ggml_type type = ggml_type::q4_k;
        s.word<ggml_type>("type",
                          {{"q2_k", ggml_type::q2_k},
                           {"q3_k", ggml_type::q3_k},
                           {"q4_k", ggml_type::q4_k},
                           {"q5_k", ggml_type::q5_k},
                           {"q6_k", ggml_type::q6_k}},
                          type);
        double dead_threshold = 0;
        s.number("dead_threshold", dead_threshold);
        const auto grids = s.yes("gram", true) ? magr::fit_k_quant_grids(W, H, type, dead_threshold) : magr::fit_k_quant_grids(W, type);
        add_grids(found, grids);
        add_limits(found, magr::count_storage_limits(grids));
        const auto q = magr::quantize_rtn(W, grids);
        found.add("codes", q.codes);
        found.add("weights", q.dequantize());
        found.add("packed", magr::pack_gguf(q, type).data);
    });
}

void fit_row(recorder& out, const std::string& of, const std::string& text) {
    run_case(out, "fit_row", of, text, [](settings& s, results& found, const layer& l) {
        const magr::grid_options options = grid_options_of(s);
        with_compute_type(s.find("W").value_or("f32"), [&](auto type) {
            using scalar = decltype(type);
            stored<scalar> W(l.W, "rows");
            std::vector<double> importance;
            if (s.yes("gram", false))
                for (index_t j = 0; j < l.W.cols; ++j) importance.push_back(l.H(j, j));
            const auto grid = magr::fit_grid<scalar>({W.view().data(), static_cast<std::size_t>(l.W.cols)}, options, importance);
            found.add("scale", static_cast<double>(grid.scale));
            found.add("zero", static_cast<double>(grid.zero));
        });
    });
}

void quantize_rtn(recorder& out, const std::string& of, const std::string& text) {
    run_with_gram(out, "quantize_rtn", of, text, [](settings& s, results& found, const layer&, auto W, auto H, auto&) {
        const magr::grid_options options = grid_options_of(s);
        magr::stochastic_rounding random;
        s.number("seed", random.seed);
        const bool stochastic = s.find("rounding").value_or("nearest") == "stochastic", given = s.yes("given", false);
        if (s.yes("gram", false)) return add_quantized(found, magr::quantize_rtn(W, H, options));
        if (given) {
            const auto grids = magr::fit_grids(W, options);
            return add_quantized(found, stochastic ? magr::quantize_rtn(W, grids, random) : magr::quantize_rtn(W, grids));
        }
        add_quantized(found, stochastic ? magr::quantize_rtn(W, options, random) : magr::quantize_rtn(W, options));
    });
}

}  // namespace record
