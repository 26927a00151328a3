// SPDX-License-Identifier: MIT
#include <string>
#include <vector>

#include "calls.hpp"
#include "cases.hpp"
#include "layers.hpp"

namespace record {
namespace {

using texts = std::vector<std::string>;

/// Every text of one list combined with every text of the other; "" means nothing.
texts product(const texts& left, const texts& right) {
    texts all;
    for (const std::string& a : left)
        for (const std::string& b : right) all.push_back(a + (a.empty() || b.empty() ? "" : ", ") + b);
    return all;
}

void run(recorder& out, call& function, const texts& layers, const texts& cases) {
    for (const std::string& layer : layers)
        for (const std::string& text : cases) function(out, layer, text);
}

const texts& small = small_layers();
const texts element_types = product({"W f64", "W f32", "W f16", "W bf16"}, {"H f64", "H f32"});
const texts layouts = product({"layout rows", "layout columns", "layout padded", "layout strided"}, {"H_layout rows", "H_layout columns"});
const texts workers = {"workers 1", "workers 2", "workers 7"};
const texts zero_points = {"zero_point none", "zero_point integer", "zero_point real", "zero_point offset"};
const texts storages = {"storage native", "storage f32", "storage f16", "storage bf16"};
const texts orders = {"order natural", "order by_activation", "order group_aware"};
const std::string normal_floats =
    "levels -1 -0.6962 -0.5251 -0.3949 -0.2844 -0.1848 -0.0911 0 0.0796 0.1609 0.2461 0.3379 0.4407 0.5626 0.7230 1";
const std::string doubled_integers = "bits 3, levels -8 -4 -2 -1 1 2 4 8";

void run_preprocess(recorder& out) {
    run(out, preprocess, small,
        {"", "group_size 16", "alpha 1e-2, group_size 7", "alpha 1e-5", "alpha 1", "alpha 0", "damping 0", "damping 0.1", "tolerance 1e-7",
         "tolerance 0, max_iterations 12", "max_iterations 1", "rho 0.2", "relaxation 1", "solver proximal_gradient",
         "solver proximal_gradient, group_size 16, damping 0.01, tolerance 1e-2",
         "solver proximal_gradient, max_iterations 7, alpha 1e-2"});
    run(out, preprocess, small, product({"W f64", "W f16", "W bf16"}, {"", "solver proximal_gradient, max_iterations 20"}));
    run(out, preprocess, {"odd", "dominating direction", "dead columns"}, product(element_types, {"H_layout rows", "group_size 16"}));
    run(out, preprocess, {"odd"}, product(layouts, {"alpha 1e-3", "alpha 1e-3, solver proximal_gradient"}));
    run(out, preprocess, {"large"}, product(workers, {"", "group_size 64", "W f64, solver proximal_gradient, max_iterations 10"}));
    run(out, preprocess, {"large"}, product({"stop_after 100", "stop_after 1000"}, {"workers 1"}));
}

void run_grids(recorder& out) {
    const texts ranges = {"range min_max", "range mse", "range output_error", "range row_output_error"};
    run(out, fit_grids, {"ordinary", "dead columns", "one sign"},
        product(product({"bits 2", "bits 3", "bits 4, group_size 20"}, zero_points),
                product(ranges, {"candidates joint", "candidates shrink"})));
    run(out, fit_grids, small,
        product(product(zero_points, {"range min_max, group_size 16", "range output_error, group_size 16", "range row_output_error"}),
                {"storage native", "storage f16"}));
    run(out, fit_grids, {"ordinary", "tiny", "huge", "rows of different size"},
        product(product(zero_points, storages), {"bits 4", "bits 8, group_size 32"}));
    run(out, fit_grids, {"odd"}, product(element_types, {"range output_error, group_size 16", "range row_output_error", "bits 8"}));
    run(out, fit_grids, {"odd"}, product(layouts, {"range row_output_error"}));
    run(out, fit_grids, {"ordinary", "equal weights"},
        product(product(zero_points, {"beta 0.9", "beta 0.5"}), {"anchor low", "anchor zero", "anchor centre"}));
    run(out, fit_grids, {"ordinary"},
        product(zero_points,
                {"range mse, norm 1", "range mse, norm 2", "range mse, norm 8, bits 5", "range mse, norm 3.5, bits 6", "bits 7"}));
    run(out, fit_grids, {"ordinary", "dead columns"},
        product(product({normal_floats, doubled_integers}, ranges), {"zero_point none", "zero_point none, group_size 16, storage f16"}));
    run(out, fit_grids, {"dead columns"},
        product(ranges, {"grid_dead_threshold 1e-3", "grid_dead_threshold 1e-3, group_size 16, zero_point offset"}));
    run(out, fit_grids, {"ordinary"}, product({"gram no"}, {"range min_max", "range mse", "range mse, W f64", "range output_error"}));
    run(out, fit_grids, {"large"},
        product(workers, {"range output_error, candidates shrink", "range row_output_error, candidates shrink, group_size 200"}));
    run(out, fit_row, {"ordinary", "equal weights", "one sign"},
        product(zero_points, {"", "range mse", "W f64, range output_error, gram yes", "bits 2, range output_error, gram yes"}));
    run(out, fit_k_quant_grids, {"packable", "packable, dead columns"},
        product({"type q2_k", "type q3_k", "type q4_k", "type q5_k", "type q6_k"},
                {"gram yes", "gram no", "dead_threshold 0.5", "W f64, gram yes", "W f16, gram yes, H f32"}));
}

void run_rtn(recorder& out) {
    run(out, quantize_rtn, small, product(zero_points, {"bits 4", "bits 2, group_size 16, storage f16"}));
    run(out, quantize_rtn, {"odd"},
        product(product({"W f64", "W f32", "W f16", "W bf16"}, {"layout rows", "layout columns"}), {"bits 3", "bits 8"}));
    run(out, quantize_rtn, {"ordinary", "dead columns"},
        product({"gram yes"}, {"range output_error", "range row_output_error, group_size 16", "range min_max, grid_dead_threshold 1e-3",
                               "bits 2, zero_point offset"}));
    run(out, quantize_rtn, {"ordinary"},
        product(product({"rounding stochastic, seed 1", "rounding stochastic, seed 7, W f64"}, {"given no", "given yes"}), zero_points));
    run(out, quantize_rtn, {"ordinary"},
        product({"given yes"}, {"bits 4", "range mse, zero_point real", normal_floats + ", zero_point none"}));
}

void run_optq(recorder& out) {
    const texts groups = {"groups fixed", "groups live", "groups stale"};
    run(out, quantize_optq, small,
        {"", "bits 2", "bits 3, group_size 16, order by_activation, groups live", "damping 0, on_failure none", "damping 0",
         "damping 0, on_failure round_to_nearest", "damping 1", "precision f32", "precision f64", "precision f32, damping 0", "dead zero",
         "dead refuse", "rounding stochastic, seed 3", "measure_error no", "range row_output_error, bits 2", "storage f16, group_size 8"});
    run(out, quantize_optq, small, product({"W f64", "W f16", "W bf16"}, {"bits 3", "damping 0, bits 3"}));
    run(out, quantize_optq, {"ordinary", "odd", "dead columns"},
        product(product(orders, groups), {"bits 3, group_size 16", "bits 2, group_size 20, range output_error, block_size 24",
                                          "group_size 16, block_size 1, zero_point none", "bits 4"}));
    run(out, quantize_optq, {"odd"}, product(product(zero_points, orders), {"rounding nearest", "rounding stochastic, group_size 16"}));
    run(out, quantize_optq, {"dead columns"},
        product(
            product({"dead round", "dead zero", "dead refuse"}, {"dead_threshold 0", "dead_threshold 1e-3", "grid_dead_threshold 1e-3"}),
            {"zero_point integer", "zero_point offset, group_size 16", "zero_point none, order by_activation"}));
    run(out, quantize_optq, {"odd", "singular"},
        product(element_types, {"bits 3", "damping 1e-6, bits 4, group_size 16, order group_aware"}));
    run(out, quantize_optq, {"odd"}, product(layouts, {"bits 3"}));
    run(out, quantize_optq, {"ordinary"},
        product({"block_size 1", "block_size 7", "block_size 64", "block_size 1000"}, {"bits 3", "bits 3, group_size 16, groups stale"}));
    run(out, quantize_optq, {"ordinary"},
        product({normal_floats, doubled_integers}, {"zero_point none", "zero_point none, group_size 16, groups live"}));
    run(out, quantize_optq, {"ordinary", "dead columns"},
        product({"given yes"}, {"bits 3", "range row_output_error, group_size 16, order by_activation",
                                "zero_point real, rounding stochastic", "groups live"}));
    run(out, quantize_optq, {"large"},
        product(workers, {"", "group_size 64, order by_activation, groups live, storage f16", "W f64, group_size 100, groups stale"}));
    run(out, factor_feedback, small,
        {"", "damping 0", "damping 0, raise_damping no", "order by_activation", "order group_aware", "precision f64", "precision f32",
         "W f64", "W f64, H f32, damping 1e-5"});
    run(out, factor_feedback, {"dead columns"}, {"dead_threshold 1e-3"});
    run(out, factor_feedback, {"large"}, product(workers, {"", "W f64"}));
    run(out, order_columns, small,
        {"order natural", "order by_activation", "order group_aware, group_size 16", "order group_aware, group_size 7"});
    run(out, quantize_sequentially, {"ordinary", "odd", "one column"}, product({"W f32", "W f64"}, {"block_size 128", "block_size 5"}));
    run(out, quantize_sequentially, {"large"}, workers);
}

void run_refinement(recorder& out) {
    for (call* function : {&refine_codes, &refine_scales}) {
        run(out, *function, small,
            {"bits 3", "bits 2, group_size 16, storage f16", "bits 3, damping 0", "damping 1, zero_point offset", "max_passes 1",
             "max_passes 50"});
        run(out, *function, {"ordinary", "dead columns"}, product(product(zero_points, storages), {"bits 2", "bits 3, group_size 20"}));
        run(out, *function, {"odd"}, product(element_types, {"bits 3"}));
        run(out, *function, {"odd"}, product(layouts, {"bits 2"}));
        run(out, *function, {"dead columns"}, {"dead_threshold 1e-3", "dead_threshold 1e-3, zero_point real, group_size 16"});
        run(out, *function, {"ordinary"}, {doubled_integers + ", zero_point none", normal_floats + ", zero_point none, group_size 16"});
        run(out, *function, {"packable"}, {"k_quant yes"});
    }
    run(out, refine_codes, {"ordinary", "dead columns"},
        product(orders, {"bits 3", "bits 3, group_size 16, denominator_offset 0.1", "bits 2, denominator_offset 1000, W f64"}));
    run(out, refine_codes, {"large"}, product(workers, {"bits 3, max_passes 2"}));
    run(out, refine_scales, {"large"}, product(workers, {"bits 3, group_size 100, zero_point real"}));
    run(out, output_error, small, {"bits 4", "bits 2, W f64", "bits 2, W f16, H f32"});
    run(out, output_error, {"large"}, product(workers, {"bits 3"}));
    run(out, output_error, {"odd"}, product(layouts, {"bits 3"}));
}

void run_layers(recorder& out) {
    run(out, quantize_layer, small,
        {"", "preprocess yes, bits 2", "preprocess yes, bits 3, group_size 16, preprocess.group_size 16", "quantizer rtn, bits 3",
         "quantizer rtn, preprocess yes", "refinement_rounds 0", "scales no", "codes no, zero_point offset",
         "preprocess yes, target original", "optq.dead zero", "optq.dead refuse", "quantizer rtn, optq.dead zero",
         "optq.on_failure none, optq.damping 0", "optq.on_failure round_to_nearest, optq.damping 0", "accumulator yes",
         "W f64, preprocess yes, bits 3, zero_point real, storage bf16"});
    run(out, quantize_layer, {"odd", "dead columns"}, product(element_types, {"preprocess yes, bits 3, group_size 16, storage f16"}));
    run(out, quantize_layer, {"odd"}, product(layouts, {"preprocess yes, bits 3"}));
    run(out, quantize_layer, {"odd"},
        product({"preprocess yes", "preprocess no"},
                {"bits 3, group_size 16, optq.order by_activation, optq.groups live",
                 "group_size 16, optq.order group_aware, optq.groups stale", "range min_max", "range mse", "range row_output_error",
                 "beta 0.9", "optq.rounding stochastic", "optq.block_size 10",
                 "refinement_rounds 1, codes.order by_activation, codes.damping 0.75, scales.damping 0.1", "optq.measure_error no",
                 doubled_integers + ", zero_point none"}));
    run(out, quantize_layer, {"dead columns"},
        product({"optq.dead_threshold 1e-3", "grid_dead_threshold 1e-3", "codes.dead_threshold 1e-3"},
                {"bits 3", "bits 3, preprocess yes, optq.dead zero", "quantizer rtn, group_size 16"}));
    run(out, quantize_layer, {"one token"},
        product({"accumulator yes, minimum_tokens 10"},
                {"optq.on_failure more_damping", "optq.on_failure round_to_nearest", "H f32, quantizer rtn"}));
    run(out, quantize_layer, {"large"},
        product(workers, {"bits 3, preprocess yes, refinement_rounds 1, group_size 200, candidates shrink, codes.max_passes 2"}));
    run(out, quantize_layer, {"large"}, product(workers, {"W f64, refinement_rounds 0, range min_max, optq.order by_activation"}));

    run(out, quantize_automatic, small, {"bits 3, range min_max", "bits 2, group_size 16, required_gain 0, refinement_rounds 1"});
    run(out, quantize_automatic, {"odd"},
        {"", "alphas 1e-3, dampings 1e-2", "betas 0.9 0.8, bits 2, range min_max", "accumulator yes", "dampings 1e-3 1e-2 1, bits 2",
         "bits 3, optq.order by_activation", "quantizer rtn, bits 3", "refinement_rounds 0, required_gain 0.5",
         "preprocess yes, bits 2, preprocess.solver proximal_gradient"});
    run(out, quantize_automatic, {"odd"}, product(element_types, {"range min_max, refinement_rounds 1"}));
    run(out, quantize_automatic, {"packable"},
        product(workers, {"bits 2, range min_max, refinement_rounds 1, codes.max_passes 1, dampings 1e-2"}));
}

void run_methods(recorder& out) {
    run(out, round_onto_drift, small, {"method gpfq, bits 3", "method gptaq, bits 3", "method qronos, bits 3"});
    run(out, round_onto_drift, {"ordinary"},
        product({"method gpfq", "method gptaq, W f64", "method qronos, H f32"}, {"order by_activation", "group_size 16, zero_point real"}));
    run(out, round_onto_drift, {"large"}, product(workers, {"method gptaq", "method qronos"}));
    run(out, quantize_quip, small, {"bits 2", "bits 3, rescale no, greedy_passes 2", "bits 4, W f64, dead zero"});
    run(out, quantize_boa, small, {"bits 3", "bits 3, rows_per_step 4, scale_passes 1", "bits 2, W f64, order by_activation"});
    run(out, quantize_boa, {"packable"}, {"bits 3, two_heads yes, rows_per_step 8", "bits 2, two_heads yes, row_order by_activation"});
    run(out, quantize_owq, {"ordinary", "odd", "dead columns"}, {"bits 3, weak_columns 2", "bits 2, group_size 16, weak_columns 3, W f64"});
    run(out, quantize_dint, {"ordinary", "odd", "dead columns"}, {"bits 3", "bits 4, group_size 16"});
    run(out, quantize_coupled_rows, small, {"bits 2, passes 1", "bits 3, group_size 16, passes 1, rows_per_step 3, storage f16"});
    run(out, quantize_coupled_rows, {"odd", "dead columns"},
        {"", "W f64, H f32, zero_point real", "from_scratch no", "range_factors 0.9 1, refined_candidates 1", "refinement_rounds 0",
         "codes no", "codes.damping 0.1", "optq.order by_activation, bits 2", "range min_max, zero_point none"});
    run(out, quantize_coupled_rows, {"packable"}, product(workers, {"bits 3, passes 1, group_size 64"}));
    run(out, bound_errors, small, {"bits 3", "bits 2, rounding stochastic, seed 3", "bits 4, W f64, order by_activation"});
}

void run_packers(recorder& out) {
    run(out, formats_that_take, {"ordinary", "odd", "packable"},
        product(product({"bits 2", "bits 3", "bits 4", "bits 5", "bits 6", "bits 7", "bits 8"}, zero_points),
                product({"group_size 16", "group_size 20", "group_size 64", "group_size 1000"}, storages)));
    const texts groups = {"group_size 32", "group_size 64, storage bf16", "group_size 128, storage f32, bits 8",
                          "group_size 20, storage f16", "bits 3, group_size 64, storage f16"};
    run(out, pack_all, {"packable"}, product(product(zero_points, groups), {"W f32", "W f64, optq no"}));
    run(out, pack_all, {"packable"},
        product({"bits 2", "bits 3", "bits 4", "bits 5", "bits 6", "bits 7", "bits 8"},
                {"group_size 64, storage f16, zero_point none", "group_size 32, storage f16, zero_point offset",
                 "group_size 128, storage f16, zero_point integer, optq no"}));
    run(out, pack_all, {"packable"},
        product({"order by_activation, groups live", "order by_activation", "order group_aware, groups live"},
                {"group_size 64, storage f16", "bits 3, group_size 32, storage f16"}));
    run(out, pack_all, {"packable", "packable, dead columns"},  // layers that the blocks of ggml can hold
        product(product({"bits 2", "bits 4", "bits 5", "bits 8"}, {"zero_point none", "zero_point offset"}),
                {"group_size 64, storage f16", "group_size 128, storage f16, optq no, W f64"}));
    run(out, pack_all, {"odd", "one column", "packable, dead columns"},
        {"", "storage f16", "group_size 25, storage f16", "group_size 16, zero_point offset, storage f16"});
}

void run_calibration(recorder& out) {
    for (call* function : {&accumulate_gram, &accumulate_drift}) {
        run(out, *function, small, product({"sum f64", "sum f32"}, {"batch 1000", "batch 7", "merge yes"}));
        run(out, *function, {"odd"},
            product(product({"sum f64", "sum f32"}, {"X f64", "X f32", "X f16", "X bf16"}),
                    {"layout rows", "layout columns", "layout strided"}));
        run(out, *function, {"large"}, product(product({"sum f64", "sum f32"}, workers), {"batch 1200", "batch 500"}));
    }
    run(out, compensate_drift, small, {"", "strength 1", "strength 0", "damping 0", "W f64, strength 1"});
    run(out, compensate_drift, {"odd"}, product(element_types, {"damping 1e-2"}));
    run(out, compensate_drift, {"odd"}, product(layouts, {"damping 1e-2"}));
    run(out, compensate_drift, {"dead columns"}, {"dead_threshold 1e-3"});
    run(out, compensate_drift, {"large"}, workers);
}

void run_linear_algebra(recorder& out) {
    const texts square = {"ordinary", "odd", "one column", "large", "singular", "all dead"};
    run(out, largest_eigenvalue, {"ordinary", "odd", "one column", "large", "singular", "dominating direction", "tiny", "huge"},
        product({"H f64", "H f32"}, {"layout rows", "layout columns"}));
    run(out, cholesky, square, product({"H f64", "H f32"}, {"workers 1", "workers 2", "layout columns"}));
    run(out, spd_inverse, square, product({"H f64", "H f32"}, {"workers 1", "workers 2"}));
    run(out, triangular_solve, {"ordinary", "odd", "one column", "large"}, {"H f64", "H f32"});
    run(out, project_l1_ball, small,
        product(product({"W f32", "W f64"}, {"vectors yes", "vectors yes, metric yes"}),
                {"amount 0", "amount 0.01", "amount 1", "amount 1000"}));
    run(out, prox_linf, small,
        product(product({"W f32", "W f64"}, {"vectors yes", "vectors yes, metric yes"}),
                {"amount 0", "amount 0.01", "amount 1", "amount 1000"}));
    for (call* function : {&project_l1_ball, &prox_linf})
        run(out, *function, {"odd", "equal weights"},
            product(product({"W f64", "W f32", "W f16", "W bf16"}, {"layout rows", "layout columns"}),
                    {"amount 0.05", "amount 0.05, axis columns", "amount 0.05, group_size 10",
                     "amount 0.05, group_size 10, axis columns, metric yes", "amount 0.05, metric yes"}));
}

}  // namespace

void run_all(recorder& out) {
    run_preprocess(out);
    run_grids(out);
    run_rtn(out);
    run_optq(out);
    run_refinement(out);
    run_layers(out);
    run_methods(out);
    run_packers(out);
    run_calibration(out);
    run_linear_algebra(out);
}

}  // namespace record
