// SPDX-License-Identifier: MIT
// The methods of other papers.
#include <magr/drift/gpfq_drift.hpp>
#include <magr/drift/gptaq.hpp>
#include <magr/drift/qronos.hpp>
#include <magr/drift/round_onto_drift.hpp>
#include <magr/fit/dint.hpp>
#include <magr/quantize/round_onto.hpp>

#include "library.hpp"

namespace record {

void round_onto_drift(recorder& out, const std::string& of, const std::string& text) {
    run_with_gram(out, "round_onto_drift", of, text, [](settings& s, results& found, const layer& l, auto W, auto H, auto& pool) {
        magr::drift_accumulator<double> drift(l.X.cols);
        drift.add(stored<double>(l.drifted, "rows").view(), stored<double>(l.X, "rows").view());
        magr::round_options options;
        column_order_of(s, "order", options.order);
        const auto grids = magr::fit_grids(W, H, grid_options_of(s));
        const auto add = [&](const auto& q) {
            if (q)
                add_quantized(found, *q);
            else
                found.add("codes", "none");
        };
        const std::string method = s.find("method").value_or("qronos");
        if (method == "gpfq") return add(magr::round_onto_drift(grids, W, H, drift, magr::gpfq_drift{}, {}, options, pool));
        if (method == "gptaq") return add(magr::round_onto_drift(grids, W, H, drift, magr::gptaq{}, {}, options, pool));
        add(magr::round_onto_drift(grids, W, H, drift, magr::qronos{}, {}, options, pool));
    });
}

void quantize_quip(recorder& out, const std::string& of, const std::string& text) {
    run_with_gram(out, "quantize_quip", of, text, [](settings& s, results& found, const layer&, auto W, auto H, auto& pool) {
        magr::quip_options options;
        s.number("bits", options.bits);
        options.incoherence.rescale = s.yes("rescale", true);
        s.number("greedy_passes", options.greedy_passes);
        options.optq = optq_options_of(s);
        const auto r = magr::quantize_quip(W, H, options, pool);
        add_optq(found, r);
        add_quantized(found, r.quantized.quantized);
        found.add("restored", r.weights);
    });
}

void quantize_boa(recorder& out, const std::string& of, const std::string& text) {
    run_with_gram(out, "quantize_boa", of, text, [](settings& s, results& found, const layer&, auto W, auto H, auto& pool) {
        magr::boa_options options;
        s.number("rows_per_step", options.rows_per_step);
        s.number("scale_passes", options.scale_passes);
        column_order_of(s, "order", options.order);
        column_order_of(s, "row_order", options.row_order);
        const index_t head = s.yes("two_heads", false) ? W.rows() / 2 : W.rows();
        magr::matrix<double> H_row(head, head);
        for (index_t i = 0; i < head; ++i)
            for (index_t k = 0; k < head; ++k) H_row(i, k) = (i == k ? 2.0 : 1.0) / static_cast<double>(1 + (i > k ? i - k : k - i));

        const auto r = magr::quantize_boa(W, H, H_row, grid_options_of(s), options, pool);
        found.add("status", to_string(r.status));
        found.add("loss", r.loss);
        add_quantized(found, r.quantized);
    });
}

void quantize_owq(recorder& out, const std::string& of, const std::string& text) {
    run_with_gram(out, "quantize_owq", of, text, [](settings& s, results& found, const layer&, auto W, auto H, auto& pool) {
        magr::owq_options options;
        options.grid = grid_options_of(s);
        options.optq = optq_options_of(s);
        s.number("weak_columns", options.weak_columns);
        const auto r = magr::quantize_owq(W, H, options, pool);
        add_optq(found, r);
        add_quantized(found, r.quantized.codes);
        if (r) found.add("weights", r.quantized.dequantize());
    });
}

void quantize_dint(recorder& out, const std::string& of, const std::string& text) {
    run_with_gram(out, "quantize_dint", of, text, [](settings& s, results& found, const layer&, auto W, auto H, auto& pool) {
        magr::dint_options options;
        s.number("bits", options.bits);
        s.number("group_size", options.group_size);
        const auto grids = magr::fit_dint_grids(W, H, options, pool);
        found.add("scales", grids.scales);
        const auto q = magr::round_onto(grids, W, H, magr::ldl_feedback{}, {}, {}, pool);
        if (q) found.add("weights", q->dequantize());
    });
}

void quantize_coupled_rows(recorder& out, const std::string& of, const std::string& text) {
    run_with_gram(out, "quantize_coupled_rows", of, text, [](settings& s, results& found, const layer&, auto W, auto H, auto& pool) {
        magr::coupled_options options;
        options.layer = layer_options_of(s);
        s.number("passes", options.passes);
        s.number("rows_per_step", options.rows_per_step);
        s.number("refined_candidates", options.refined_candidates);
        s.numbers("range_factors", options.range_factors);
        options.from_scratch = s.yes("from_scratch", options.from_scratch);
        magr::matrix<double> A(W.rows(), W.rows());
        for (index_t i = 0; i < A.rows(); ++i)
            for (index_t k = 0; k < A.cols(); ++k) A(i, k) = (i == k ? 2.0 : 1.0) / static_cast<double>(1 + (i > k ? i - k : k - i));
        const auto r = magr::quantize_coupled_rows(W, H, A, options, pool);
        found.add("status", to_string(r.status));
        found.add("losses", r.losses);
        found.add("output_error", r.output_error);
        add_quantized(found, r.quantized);
    });
}

void bound_errors(recorder& out, const std::string& of, const std::string& text) {
    run_with_gram(out, "bound_errors", of, text, [](settings& s, results& found, const layer& l, auto W, auto H, auto& pool) {
        magr::bound_options options;
        options.optq = optq_options_of(s);
        const auto done = magr::quantize_optq(W, H, grid_options_of(s), options.optq, pool);
        if (!done) return found.add("codes", "none");
        const auto r = magr::bound_errors(W, done.quantized, H, stored<double>(l.X, "rows").view(), options, pool);
        found.add("status", to_string(r.status));
        found.add("outside", r.outside);
        found.add("clipped", r.clipped);
        found.add("unexplained", r.unexplained);
        found.add("loss", r.loss);
        found.add("loss_bound", r.loss_bound);
        found.add("largest_output_error", r.largest_output_error.value_or(0));
        found.add("output_error_bound", r.output_error_bound.value_or(0));
    });
}

}  // namespace record
