// SPDX-License-Identifier: MIT
#include "library.hpp"

namespace record {

void quantize_automatic(recorder& out, const std::string& of, const std::string& text) {
    run_with_gram(out, "quantize_automatic", of, text, [](settings& s, results& found, const layer& l, auto W, auto H, auto& pool) {
        using gram_type = typename decltype(H)::value_type;
        const magr::automatic_options options = automatic_options_of(s);
        if (!s.yes("accumulator", false)) {
            stored<gram_type> V(l.validation, "rows");
            return add_automatic(found, magr::quantize_automatic(W, H, V.view(), options, pool));
        }
        magr::gram_accumulator<gram_type> fitting(l.X.cols), validation(l.X.cols);
        fitting.add(stored<float>(l.X, "rows").view());
        validation.add(stored<float>(l.drifted, "rows").view());
        add_automatic(found, magr::quantize_automatic(W, fitting, validation, options, pool));
    });
}

}  // namespace record
