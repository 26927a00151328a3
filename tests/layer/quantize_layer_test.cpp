// SPDX-License-Identifier: MIT
#include <magr/parallel/thread_pool.hpp>
#include <magr/quantize_automatic.hpp>
#include <magr/quantize_layer.hpp>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "quantize/layers.hpp"
#include "support/catch.hpp"
#include "support/counting_executor.hpp"
#include "support/values_of.hpp"

using Eigen::MatrixXd;
using Eigen::MatrixXf;
using magr::index_t;
using magr::layer_options;
using magr::layer_quantizer;
using magr::output_error;
using magr::quantization_status;
using magr::quantize_layer;
using tests::values_of;

namespace {}  // namespace

TEST_CASE("quantize_layer: is its steps one after the other", "[quantize][layer][oracle]") {
    const layers::layer layer = layers::make_layer(20, 48, layers::inputs::outliers, 1);
    const MatrixXf W = layer.W.cast<float>();
    const MatrixXd& H = layer.H;
    const magr::grid_options grid{.bits = 2, .group_size = 16, .range = magr::range_search::mse};
    MatrixXf M = W;
    const auto magr_alone = magr::preprocess(M, H, {.alpha = 1e-2, .group_size = 16});

    CHECK(quantize_layer(W, H, {.quantizer = layer_quantizer::rtn, .grid = grid, .refinement = {.rounds = 0}}).quantized.codes ==
          magr::quantize_rtn(W, grid).codes);
    CHECK(quantize_layer(W, H, {.grid = grid, .refinement = {.rounds = 0}}).quantized.codes ==
          magr::quantize_optq(W, H, grid).quantized.codes);
    const auto magr_rtn = quantize_layer(W, H,
                                         {.quantizer = layer_quantizer::rtn,
                                          .grid = grid,
                                          .preprocess = magr::preprocess_options{.alpha = 1e-2},
                                          .refinement = {.rounds = 0},
                                          .measure_rtn = true});
    CHECK(magr_rtn.quantized.codes == magr::quantize_rtn(M, grid).codes);
    const auto magr_optq = quantize_layer(
        W, H, {.grid = grid, .preprocess = magr::preprocess_options{.alpha = 1e-2}, .refinement = {.rounds = 0}, .measure_rtn = true});
    CHECK(magr_optq.quantized.codes == magr::quantize_optq(M, H, grid).quantized.codes);
    const auto original = quantize_layer(W, H,
                                         {.grid = grid,
                                          .preprocess = magr::preprocess_options{.alpha = 1e-2},
                                          .target = magr::rounding_target::original,
                                          .refinement = {.rounds = 0},
                                          .measure_rtn = true});
    CHECK(original.quantized.codes == magr::quantize_optq(W, H, magr::fit_grids(M, grid)).quantized.codes);
    const auto live = quantize_layer(
        W, H, {.grid = grid, .optq = {.groups = magr::group_update::live}, .refinement = {.rounds = 0}, .measure_rtn = true});
    CHECK(live.quantized.codes == magr::quantize_optq(W, H, grid, {.groups = magr::group_update::live}).quantized.codes);

    auto refined = magr::quantize_optq(M, H, grid).quantized;
    const double before = magr::refine_scales(refined, W, H).loss_before;
    magr::refinement_result last = magr::refine_codes(refined, W, H);
    magr::refine_scales(refined, W, H);
    last = magr::refine_codes(refined, W, H);
    const auto two_rounds = quantize_layer(
        W, H, {.grid = grid, .preprocess = magr::preprocess_options{.alpha = 1e-2}, .refinement = {.rounds = 2}, .measure_rtn = true});
    CHECK(two_rounds.quantized.codes == refined.codes);
    CHECK(two_rounds.quantized.scales == refined.scales);
    REQUIRE(two_rounds.refinement);
    CHECK(two_rounds.refinement->loss_before == Approx(before));
    CHECK(two_rounds.refinement->loss_after == Approx(last.loss_after));

    // each report describes its own result
    const MatrixXd rtn = values_of(magr::quantize_rtn(W, grid));
    for (const auto* result : {&magr_rtn, &magr_optq, &original, &live, &two_rounds}) {
        CHECK(result->status == quantization_status::as_requested);
        CHECK(result->output_error_rtn.value() == Approx(output_error(W, rtn, H)));
        CHECK(result->output_error.value() == Approx(output_error(W, values_of(result->quantized), H)));
        CHECK(result->output_error_preprocessed.has_value() == (result != &live));
        if (result->output_error_preprocessed) CHECK(*result->output_error_preprocessed == Approx(output_error(W, M, H)));
        CHECK(result->preprocess.has_value() == (result != &live));
        CHECK(result->optq.has_value() == (result != &magr_rtn));
        if (result->optq) CHECK_FALSE(result->optq->output_error.has_value());
        CHECK(result->refinement.has_value() == (result == &two_rounds));
        CHECK_FALSE(result->tokens.has_value());
    }
    CHECK(magr_rtn.preprocess->output_error == Approx(magr_alone.output_error));
    CHECK(original.clipped > 0);
    CHECK(two_rounds.output_error.value() < magr_optq.output_error.value());

    const auto measured = quantize_layer(W, H, {.grid = grid, .optq = {.measure_error = true}, .refinement = {.rounds = 0}});
    CHECK(measured.optq->output_error.value() == Approx(measured.output_error.value()).epsilon(1e-4));
    CHECK_FALSE(measured.output_error_rtn.has_value());
}

TEST_CASE("quantize_layer: MagR has the groups of the grids unless told otherwise", "[quantize][layer]") {
    const layers::layer layer = layers::make_layer(8, 48, layers::inputs::neighbours, 5);
    const auto codes = [&](std::optional<index_t> group_size) {
        return quantize_layer(layer.W, layer.H,
                              {.grid = {.bits = 2, .group_size = 16},
                               .preprocess = magr::preprocess_options{.alpha = 1e-2, .group_size = group_size},
                               .refinement = {.rounds = 0}})
            .quantized.codes;
    };
    CHECK(codes({}) == codes(16));
    CHECK_FALSE(codes({}) == codes(48));
}

TEST_CASE("quantize_layer: the tokens that H has seen are reported, and too few of them refused", "[quantize][layer][edge]") {
    const layers::layer layer = layers::make_layer(6, 12, layers::inputs::neighbours, 2);
    const MatrixXf W = layer.W.cast<float>();
    std::mt19937 random(3);
    magr::gram_accumulator<double> calibration(12);
    calibration.add(layers::normal_matrix(30, 12, random));
    const auto result = quantize_layer(W, calibration, {});
    CHECK(result.tokens == 30);
    CHECK(result.status == quantization_status::as_requested);
    CHECK(result.quantized.codes == quantize_layer(W, calibration.gram(), {}).quantized.codes);
    const magr::gram_accumulator<double> constant = calibration;
    CHECK(quantize_layer(W, constant).quantized.codes == result.quantized.codes);
    CHECK(quantize_layer(W, magr::gram_accumulator<double>(calibration.gram(), 30)).quantized.codes == result.quantized.codes);
    CHECK(quantize_layer(W, calibration, {.minimum_tokens = 30}).status == quantization_status::as_requested);

    const auto refused = quantize_layer(W, calibration, {.minimum_tokens = 31});
    CHECK(refused.status == quantization_status::too_few_tokens);
    CHECK_FALSE(refused.output_error.has_value());
    CHECK_FALSE(refused);
    const auto rounded = quantize_layer(W, calibration,
                                        {.preprocess = magr::preprocess_options{},
                                         .optq = {.on_failure = magr::factor_fallback::round_to_nearest},
                                         .refinement = {.rounds = 3},
                                         .minimum_tokens = 31});
    CHECK(rounded.status == quantization_status::rounded_to_nearest);
    CHECK(rounded.quantized.codes == magr::quantize_rtn(W, calibration.gram(), {.range = magr::range_search::output_error}).codes);
    CHECK_FALSE(rounded.preprocess.has_value());
    CHECK_FALSE(rounded.refinement.has_value());
    magr::gram_accumulator<double> empty(12);
    CHECK_THROWS_AS(quantize_layer(W, empty, {}), magr::value_error);
}

TEST_CASE("quantize_layer: grids are fitted once to the same weights", "[quantize][layer]") {
    const layers::layer layer = layers::make_layer(300, 24, layers::inputs::neighbours, 11);
    const index_t loop = 10;  // number of tasks of fit_grids, of 32 rows each: no other loop has as many
    const auto fits = [&](const layer_options& options) {
        counting_executor exec;
        static_cast<void>(quantize_layer(layer.W, layer.H, options, exec));
        return exec.loops_of(loop);
    };
    counting_executor alone;
    static_cast<void>(magr::fit_grids(layer.W, layer.H, {}, alone));
    REQUIRE(alone.loops_of(loop) == 1);
    for (const auto which : {layer_quantizer::rtn, layer_quantizer::optq}) {
        CHECK(fits({.quantizer = which, .refinement = {.rounds = 0}}) == 1);
        CHECK(fits({.quantizer = which, .refinement = {.rounds = 0}, .measure_rtn = true}) == 1);
        CHECK(fits({.quantizer = which, .preprocess = magr::preprocess_options{}, .refinement = {.rounds = 0}}) == 1);
        CHECK(fits({.quantizer = which, .preprocess = magr::preprocess_options{}, .refinement = {.rounds = 0}, .measure_rtn = true}) == 2);
    }
    CHECK(fits({.optq = {.groups = magr::group_update::live}, .refinement = {.rounds = 0}}) == 1);
    CHECK(fits({.grid = {.group_size = 8}, .optq = {.groups = magr::group_update::live}, .refinement = {.rounds = 0}}) == 1);

    counting_executor exec;
    static_cast<void>(magr::quantize_automatic(layer.W, layer.H, layer.H,
                                               {.alphas = {0}, .dampings = {1e-2}, .layer = {.refinement = {.rounds = 0}}}, exec));
    CHECK(exec.loops_of(loop) == 1);
}

TEST_CASE("quantize_layer: says what it did instead, and in strict mode does nothing instead", "[quantize][layer][edge]") {
    const layers::layer layer = layers::make_layer(6, 12, layers::inputs::neighbours, 4);
    const MatrixXf W = layer.W.cast<float>();
    MatrixXd H = layer.H;
    MatrixXd hopeless = H;
    hopeless(0, 5) = hopeless(5, 0) = 1e3 * H.diagonal().maxCoeff();
    using magr::factor_fallback;
    for (const auto what : {factor_fallback::none, factor_fallback::more_damping, factor_fallback::round_to_nearest}) {
        const auto result = quantize_layer(W, hopeless, {.optq = {.on_failure = what}});
        const bool rounds = what == factor_fallback::round_to_nearest;
        CHECK(result.status == (rounds ? quantization_status::rounded_to_nearest : quantization_status::failed));
        CHECK(static_cast<bool>(result) == rounds);
        REQUIRE(result.optq);
        CHECK(result.optq->attempts == (what == factor_fallback::none ? 1 : 9));
        if (rounds) CHECK(result.quantized.codes == magr::quantize_rtn(W, hopeless, {.range = magr::range_search::output_error}).codes);
    }
    H.row(3).setZero();
    H.col(3).setZero();
    const auto refused = quantize_layer(W, H, {.optq = {.dead = magr::dead_columns::refuse}});
    CHECK(refused.status == quantization_status::dead_columns_refused);
    CHECK(refused.optq->dead_inputs == 1);
    CHECK_FALSE(refused);
    std::mt19937 random(5);
    const Eigen::VectorXd x = layers::normal_matrix(12, 1, random).col(0);
    const MatrixXd singular = x * x.transpose();
    CHECK(quantize_layer(W, singular, {.optq = {.damping = 0}}).status == quantization_status::damped_more);
    CHECK(quantize_layer(W, singular, {.optq = {.damping = 0, .on_failure = factor_fallback::none}}).status == quantization_status::failed);
    CHECK(std::string(to_string(quantization_status::damped_more)) == "damped_more");
}

TEST_CASE("quantize_layer: 16-bit weights in any layout, and nothing is written", "[quantize][layer][property]") {
    const auto [weights, H] = layers::make_layer(7, 20, layers::inputs::neighbours, 6);
    const Eigen::Matrix<Eigen::bfloat16, Eigen::Dynamic, Eigen::Dynamic> W = weights.cast<Eigen::bfloat16>();
    const auto copy = W;
    const layer_options options{.grid = {.bits = 3}, .preprocess = magr::preprocess_options{}, .refinement = {.rounds = 1}};
    const auto result = quantize_layer(W, H, options);
    CHECK((W.array() == copy.array()).all());
    const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> same = W.cast<float>();
    CHECK(result.quantized.codes == quantize_layer(same, Eigen::MatrixXd(H), options).quantized.codes);
}

TEST_CASE("quantize_layer: refuses with every problem at once, before any work", "[quantize][layer][edge]") {
    const layers::layer layer = layers::make_layer(3, 8, layers::inputs::neighbours, 7);
    const MatrixXf W = layer.W.cast<float>();
    const MatrixXd& H = layer.H;
    const layer_options bad{.grid = {.bits = 1, .range_factor = 3},
                            .preprocess = magr::preprocess_options{.alpha = -1.0},
                            .optq = {.damping = -1, .groups = magr::group_update::live},
                            .target = magr::rounding_target::original,
                            .refinement = {.rounds = -1,
                                           .scales = magr::scale_refinement_options{.max_passes = 0},
                                           .codes = magr::code_refinement_options{.damping = std::nan("")}}};
    const auto found = problems(bad);
    const std::vector<std::string> expected{
        "grid_options: bits",         "grid_options: range_factor",           "preprocess_options: alpha",        "optq_options: damping",
        "refinement_options: rounds", "scale_refinement_options: max_passes", "code_refinement_options: damping", "layer_options: target"};
    REQUIRE(found.size() == expected.size());
    for (std::size_t i = 0; i < found.size(); ++i) CHECK(found[i].find(expected[i]) == 0);
    CHECK_THROWS_AS(quantize_layer(W, H, bad), magr::option_error);
    CHECK_THROWS_AS(quantize_layer(W, MatrixXd(H.topLeftCorner(7, 7))), magr::shape_error);
    MatrixXf nan = W;
    nan(2, 7) = std::nanf("");
    CHECK_THROWS_WITH(quantize_layer(nan, H), "quantize_layer: W must be finite, entry (row 2, column 7) is nan");
    MatrixXd infinite = H;
    infinite(1, 1) = HUGE_VAL;
    CHECK_THROWS_WITH(quantize_layer(W, infinite), "quantize_layer: H must be finite, entry (row 1, column 1) is inf");
}

TEST_CASE("quantize_layer: by default grids follow the output error, unless beta says how they shrink", "[quantize][layer]") {
    const layers::layer layer = layers::make_layer(8, 24, layers::inputs::outliers, 8);
    const MatrixXf W = layer.W.cast<float>();
    const MatrixXd& H = layer.H;
    const auto scales = [&](const magr::grid_options& grid) {
        return quantize_layer(W, H, {.grid = grid, .refinement = {.rounds = 0}}).quantized.scales;
    };
    CHECK(scales({.bits = 3}) == magr::fit_grids(W, H, {.bits = 3, .range = magr::range_search::output_error}).scales);
    CHECK(scales({.bits = 3, .range = magr::range_search::min_max}) == magr::fit_grids(W, {.bits = 3}).scales);
    CHECK(scales({.bits = 3, .range_factor = 0.8}) == magr::fit_grids(W, {.bits = 3, .range_factor = 0.8}).scales);
}

TEST_CASE("quantize_layer: clipped weights and grids at the limits are counted without OPTQ too", "[quantize][layer][oracle]") {
    const layers::layer layer = layers::make_layer(4, 20, layers::inputs::neighbours, 9);
    MatrixXf W = layer.W.cast<float>();
    W.row(0) *= 1e7F;
    W.row(1) *= 1e-9F;
    const auto result = quantize_layer(W, layer.H,
                                       {.quantizer = layer_quantizer::rtn,
                                        .grid = {.bits = 3, .storage = magr::storage_type::f16, .range_factor = 0.5},
                                        .refinement = {.rounds = 0}});
    const auto& q = result.quantized;
    index_t clipped = 0;
    for (index_t i = 0; i < 4; ++i)
        for (index_t j = 0; j < 20; ++j) {
            const float code = W(i, j) / q.scales(i, 0) + q.zeros(i, 0);
            clipped += code < -0.5F || code > 7.5F ? 1 : 0;
        }
    CHECK(clipped > 5);
    CHECK(result.clipped == clipped);
    CHECK(result.limits.largest == 1);
    CHECK(result.limits.smallest == 1);
}

TEST_CASE("quantize_layer: a result that leaves the range of numbers is reported", "[quantize][layer][edge]") {
    const MatrixXd W = 1e200 * MatrixXd::Random(2, 6);  // the squares of errors overflow
    const MatrixXd H = MatrixXd::Identity(6, 6);
    const auto optq = quantize_layer(W, H, {.refinement = {.rounds = 0}});
    CHECK(optq.status == quantization_status::overflowed);
    CHECK_FALSE(optq);
    CHECK(optq.quantized.codes.empty());
    const auto rtn = quantize_layer(W, H, {.quantizer = layer_quantizer::rtn, .refinement = {.rounds = 0}});  // needs no squares
    const auto small = quantize_layer((1e-200 * W).eval(), H, {.quantizer = layer_quantizer::rtn, .refinement = {.rounds = 0}});
    CHECK(rtn.status == quantization_status::as_requested);
    CHECK(rtn.output_error.value() == Approx(small.output_error.value()));
}

TEST_CASE("quantize_layer: weights of dead and nearly dead inputs decide nothing", "[quantize][layer][property]") {
    layers::layer layer = layers::make_layer(10, 48, layers::inputs::outliers, 11);
    MatrixXd& H = layer.H;
    const std::vector<index_t> dead{3, 20, 21, 32, 33, 34, 35, 36, 37, 38, 39};  // all of one group of eight are dead
    for (const bool nearly : {false, true}) {
        for (const index_t j : dead) {
            H.row(j) *= nearly ? 1e-6 : 0;
            H.col(j) *= nearly ? 1e-6 : 0;
        }
        if (nearly) {
            H = layers::make_layer(10, 48, layers::inputs::outliers, 11).H;
            for (const index_t j : dead) {
                H.row(j) *= 1e-6;
                H.col(j) *= 1e-6;
            }
        }
        for (const auto zero : {magr::zero_point::none, magr::zero_point::middle, magr::zero_point::integer, magr::zero_point::real,
                                magr::zero_point::offset})
            for (const auto policy : {magr::dead_columns::round, magr::dead_columns::zero})
                for (int kind = 0; kind < 6; ++kind) {
                    layer_options options;
                    options.measure_rtn = true;
                    options.grid = {.bits = 3, .zero_point = zero};
                    if (kind % 2 == 1) options.grid.group_size = 8;
                    if (kind / 2 == 1) options.grid.range = magr::range_search::min_max;
                    if (kind == 2) options.quantizer = layer_quantizer::rtn;
                    if (kind == 3) options.optq.groups = magr::group_update::live;
                    if (kind / 2 == 2) options.grid.range = magr::range_search::row_output_error;
                    if (kind == 4) options.preprocess.emplace();
                    options.optq.dead = policy;
                    if (nearly) options.optq.dead_threshold = 1e-9;
                    MatrixXf W = layer.W.cast<float>();
                    for (const index_t j : dead) W.col(j).setZero();
                    const auto expected = quantize_layer(W, H, options);
                    for (const index_t j : dead) W.col(j).setRandom();
                    for (const index_t j : dead) W.col(j) *= 300;
                    const auto actual = quantize_layer(W, H, options);
                    INFO(nearly << static_cast<int>(zero) << static_cast<int>(policy) << kind);
                    REQUIRE(actual);
                    CHECK(actual.dead_inputs == static_cast<index_t>(dead.size()));
                    CHECK(actual.clipped == expected.clipped);
                    if (!nearly) CHECK(actual.output_error == expected.output_error);
                    if (!nearly) CHECK(actual.output_error_rtn.value() == expected.output_error_rtn.value());
                    bool same = true;
                    for (index_t i = 0; i < W.rows(); ++i)
                        for (index_t j = 0; j < W.cols(); ++j) {
                            if (std::find(dead.begin(), dead.end(), j) != dead.end()) continue;
                            const auto g = actual.quantized.group_of_column[static_cast<std::size_t>(j)];
                            same = same && actual.quantized.codes(i, j) == expected.quantized.codes(i, j) &&
                                   actual.quantized.scales(i, g) == expected.quantized.scales(i, g) &&
                                   actual.quantized.zeros(i, g) == expected.quantized.zeros(i, g);
                        }
                    CHECK(same);
                    if (policy == magr::dead_columns::zero) CHECK(actual.quantized.codes == expected.quantized.codes);
                    if (policy == magr::dead_columns::round && kind % 2 == 1 && kind != 3) {  // as near as their own grid allows
                        const MatrixXd Q = values_of(actual.quantized);
                        for (index_t i = 0; i < W.rows(); ++i)
                            for (index_t j = 32; j < 40; ++j)
                                CHECK(std::abs(Q(i, j) - static_cast<double>(W(i, j))) < 0.25 * W.row(i).cwiseAbs().maxCoeff());
                    }
                }
    }
}

TEST_CASE("quantize_layer: a layer whose inputs are all dead follows the policy for dead columns", "[quantize][layer][edge]") {
    const layers::layer layer = layers::make_layer(6, 16, layers::inputs::neighbours, 12);
    const MatrixXf W = layer.W.cast<float>();
    const MatrixXd H = MatrixXd::Zero(16, 16);
    for (const auto how : {layer_quantizer::rtn, layer_quantizer::optq})
        for (const auto order : {magr::column_order::natural, magr::column_order::act_order}) {
            layer_options options{.quantizer = how, .grid = {.bits = 4, .range = magr::range_search::min_max}, .optq = {.order = order}};
            options.preprocess.emplace();
            const auto rounded = quantize_layer(W, H, options);
            CHECK(rounded.status == quantization_status::as_requested);
            CHECK(rounded.dead_inputs == 16);
            CHECK(rounded.quantized.codes == magr::quantize_rtn(W, {.bits = 4}).codes);
            CHECK(rounded.output_error == 0);
            CHECK_FALSE(rounded.preprocess);
            options.optq.dead = magr::dead_columns::zero;
            CHECK(values_of(quantize_layer(W, H, options).quantized).isZero(0));
            options.optq.dead = magr::dead_columns::refuse;
            CHECK(quantize_layer(W, H, options).status == quantization_status::dead_columns_refused);
        }
    CHECK(magr::quantize_optq(W, H, {.bits = 4}).quantized.codes == magr::quantize_rtn(W, {.bits = 4}).codes);
    CHECK(magr::quantize_rtn(W, H, {.bits = 4}).codes == magr::quantize_rtn(W, {.bits = 4}).codes);
    auto q = magr::quantize_rtn(W, {.bits = 4});
    CHECK(magr::refine_codes(q, W, H).changes == 0);
    CHECK(magr::refine_scales(q, W, H).changes == 0);
    CHECK(magr::output_error(W, q.dequantize(), H) == 0);
}

TEST_CASE("quantize_layer: losses before and after refinement are of one matrix, whatever the dampings", "[quantize][layer][property]") {
    const layers::layer layer = layers::make_layer(16, 64, layers::inputs::outliers, 13);
    const MatrixXf W = layer.W.cast<float>();
    const double mean = layer.H.trace() / 64;
    for (const double scales : {1e-2, 10.0})
        for (const double codes : {1e-2, 0.75, 10.0}) {
            layer_options options{.grid = {.bits = 3, .group_size = 16}, .refinement = {.rounds = 0}};
            const MatrixXd before = values_of(quantize_layer(W, layer.H, options).quantized) - W.cast<double>();
            options.refinement.rounds = 3;
            options.refinement.scales->damping = scales;
            options.refinement.codes->damping = codes;
            const auto result = quantize_layer(W, layer.H, options);
            const MatrixXd after = values_of(result.quantized) - W.cast<double>();
            const auto loss = [&](const MatrixXd& E) {
                return 0.5 * ((E * layer.H).cwiseProduct(E).sum() + codes * mean * E.squaredNorm());
            };
            REQUIRE(result.refinement);
            CHECK(result.refinement->loss_before == Approx(loss(before)));
            CHECK(result.refinement->loss_after == Approx(loss(after)));
            CHECK(result.refinement->loss_after <= result.refinement->loss_before);
        }
}

TEST_CASE("quantize_layer: an H that MagR cannot work with is no reason for silence", "[quantize][layer][edge]") {
    const layers::layer layer = layers::make_layer(4, 20, layers::inputs::neighbours, 9);
    MatrixXd H = layer.H;
    H(2, 3) = H(3, 2) = 3 * std::sqrt(H(2, 2) * H(3, 3));
    const auto run = [&](magr::factor_fallback on_failure, layer_quantizer how) {
        return quantize_layer(layer.W, H, {.quantizer = how, .preprocess = magr::preprocess_options{}, .optq = {.on_failure = on_failure}});
    };
    for (const auto how : {layer_quantizer::rtn, layer_quantizer::optq}) {
        const auto strict = run(magr::factor_fallback::none, how);
        CHECK(strict.status == quantization_status::failed);
        CHECK_FALSE(strict);
        REQUIRE(strict.preprocess);
        CHECK(strict.preprocess->stopped == magr::stop_reason::not_factored);
        const auto rounded = run(magr::factor_fallback::round_to_nearest, how);
        CHECK(rounded.status == quantization_status::rounded_to_nearest);
        CHECK(rounded.quantized.codes == magr::quantize_rtn(layer.W, H, {.range = magr::range_search::output_error}).codes);
    }
}

TEST_CASE("quantize_layer: the same bits with every executor", "[quantize][layer][determinism]") {
    const layers::layer layer = layers::make_layer(300, 40, layers::inputs::neighbours, 10);
    const MatrixXf W = layer.W.cast<float>();
    const magr::layer_options options{.grid = {.bits = 3, .group_size = 16}, .preprocess = magr::preprocess_options{.alpha = 1e-3}};
    const auto expected = quantize_layer(W, layer.H, options);
    for (const index_t workers : {1, 2, 7}) {
        magr::thread_pool pool(workers);
        const auto result = quantize_layer(W, layer.H, options, pool);
        CHECK(result.quantized.codes == expected.quantized.codes);
        CHECK(result.quantized.scales == expected.quantized.scales);
        CHECK(result.output_error == expected.output_error);
        CHECK(result.preprocess->gap == expected.preprocess->gap);
    }
}
