// SPDX-License-Identifier: MIT
#include "library.hpp"

namespace record {

void preprocess(recorder& out, const std::string& of, const std::string& text) {
    run_with_gram(out, "preprocess", of, text, [](settings& s, results& found, const layer&, auto W, auto H, auto& pool) {
        const magr::preprocess_options options = preprocess_options_of(s);
        index_t stop_after = 0;
        s.number("stop_after", stop_after);
        magr::preprocess_result r;
        if (stop_after == 0)
            r = magr::preprocess(W, H, options, magr::ignore_progress{}, pool);
        else if constexpr (std::is_same_v<typename decltype(W)::value_type, float> &&
                           std::is_same_v<typename decltype(H)::value_type, double>)
            r = magr::preprocess(
                W, H, options,
                [&](const magr::preprocess_progress& at) {
                    return at.rows_done >= stop_after ? magr::observer_flow::stop : magr::observer_flow::proceed;
                },
                pool);
        found.add("W", W);
        add_preprocess(found, r);
    });
}

void compensate_drift(recorder& out, const std::string& of, const std::string& text) {
    run_with_gram(out, "compensate_drift", of, text, [](settings& s, results& found, const layer& l, auto W, auto H, auto& pool) {
        using gram_type = typename decltype(H)::value_type;
        magr::drift_options options;
        s.number("strength", options.fraction);
        s.number("damping", options.damping);
        s.number("dead_threshold", options.dead_threshold);
        magr::drift_accumulator<gram_type> drift(l.W.cols);
        drift.add(stored<float>(l.X, "rows").view(), stored<float>(l.drifted, "rows").view());
        const magr::drift_result r = magr::compensate_drift(W, H, drift.drift(), options, pool);
        found.add("W", W);
        found.add("compensated", r.compensated);
        found.add("change", r.change);
    });
}

}  // namespace record
