// SPDX-License-Identifier: MIT
#include "library.hpp"

namespace record {

void quantize_layer(recorder& out, const std::string& of, const std::string& text) {
    run_with_gram(out, "quantize_layer", of, text, [](settings& s, results& found, const layer& l, auto W, auto H, auto& pool) {
        const magr::layer_options options = layer_options_of(s);
        if (!s.yes("accumulator", false)) return add_layer(found, magr::quantize_layer(W, H, options, pool));
        magr::gram_accumulator<typename decltype(H)::value_type> calibration(l.X.cols);
        calibration.add(stored<float>(l.X, "rows").view());
        add_layer(found, magr::quantize_layer(W, calibration, options, pool));
    });
}

}  // namespace record
