// SPDX-License-Identifier: MIT
#include <magr/sequential/sequential.hpp>

#include "library.hpp"

namespace record {

void quantize_optq(recorder& out, const std::string& of, const std::string& text) {
    run_with_gram(out, "quantize_optq", of, text, [](settings& s, results& found, const layer&, auto W, auto H, auto& pool) {
        const magr::grid_options grid = grid_options_of(s);
        const magr::optq_options options = optq_options_of(s);
        const auto r = s.yes("given", false) ? magr::quantize_optq(W, H, magr::fit_grids(W, H, grid), options, pool)
                                             : magr::quantize_optq(W, H, grid, options, pool);
        add_optq(found, r);
        add_limits(found, r.limits);
        add_quantized(found, r.quantized);
    });
}

void factor_feedback(recorder& out, const std::string& of, const std::string& text) {
    run_with_gram(out, "factor_feedback", of, text, [](settings& s, results& found, const layer&, auto W, auto H, auto& pool) {
        using scalar = magr::compute_t<typename decltype(W)::value_type>;
        magr::factor_options options;
        s.number("damping", options.damping);
        s.number("dead_threshold", options.dead_threshold);
        options.raise_damping = s.yes("raise_damping", options.raise_damping);
        options.precision = factor_precision_of(s, "precision");
        magr::column_order order = magr::column_order::natural;
        column_order_of(s, "order", order);
        const magr::matrix_view<const typename decltype(H)::value_type> h = H;
        const auto r = magr::factor_feedback<scalar>(h, magr::order_columns(h, order, 16), options, pool);
        found.add("damping", r.damping);
        found.add("diagonal_floor", r.diagonal_floor);
        found.add("attempts", r.attempts);
        found.add("precision", word_of(r.precision));
        found.add("dead", std::vector<std::int64_t>(r.dead.begin(), r.dead.end()));
        found.add("feedback", r.feedback);
        found.add("pivots", r.pivots);
        found.add("added", r.added);
    });
}

void order_columns(recorder& out, const std::string& of, const std::string& text) {
    run_case(out, "order_columns", of, text, [](settings& s, results& found, const layer& l) {
        stored<double> H(l.H, "rows");
        magr::column_order order = magr::column_order::natural;
        column_order_of(s, "order", order);
        index_t group_size = l.W.cols;
        s.number("group_size", group_size);
        const auto columns = magr::order_columns(H.view(), order, group_size);
        found.add("columns", std::vector<std::int64_t>(columns.begin(), columns.end()));
    });
}

void quantize_sequentially(recorder& out, const std::string& of, const std::string& text) {
    run_case(out, "quantize_sequentially", of, text, [](settings& s, results& found, const layer& l) {
        magr::thread_pool pool(std::stoi(s.find("workers").value_or("1")));
        index_t block_size = 128;
        s.number("block_size", block_size);
        with_compute_type(s.find("W").value_or("f32"), [&](auto type) {
            using scalar = decltype(type);
            stored<scalar> W(l.W, "columns");
            stored<double> H(l.H, "rows");
            const magr::matrix_view<const double> h = H.view();
            const auto factor =
                magr::factor_feedback<scalar>(h, magr::order_columns(h, magr::column_order::natural, 1), magr::factor_options{});
            const auto to_sixteenths = [](index_t, index_t, std::span<const scalar> weights, std::span<scalar> rounded) {
                for (std::size_t i = 0; i < weights.size(); ++i) rounded[i] = std::nearbyint(weights[i] * 16) / 16;
            };
            const auto errors = magr::quantize_sequentially(W.view(), factor.feedback.view(), block_size, to_sixteenths, pool);
            found.add("residual", W.view());
            found.add("rounding_errors", errors);
        });
    });
}

}  // namespace record
