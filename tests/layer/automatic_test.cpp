// SPDX-License-Identifier: MIT
#include <magr/parallel/thread_pool.hpp>
#include <magr/quantize_automatic.hpp>

#include <Eigen/Core>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "preprocess/layers.hpp"
#include "support/catch.hpp"

namespace {

using Eigen::MatrixXd;
using Eigen::MatrixXf;
using magr::automatic_options;
using magr::index_t;
using magr::quantize_automatic;

struct calibrated {
    MatrixXf W;
    MatrixXd fitting, validation;
};

/// A layer with outliers among its weights and inputs, with two samples of the inputs.
calibrated make_layer(index_t rows, index_t cols, unsigned seed) {
    const preprocess_layers::layer first = preprocess_layers::random_layer(rows, cols, seed);
    calibrated made{first.W.cast<float>(), MatrixXd::Zero(cols, cols), MatrixXd::Zero(cols, cols)};
    std::mt19937 random(seed + 1);
    std::normal_distribution<double> normal;
    const MatrixXd root = first.H.llt().matrixL();
    for (MatrixXd* gram : {&made.fitting, &made.validation}) {
        MatrixXd noise(cols, 2 * cols);
        for (index_t i = 0; i < noise.size(); ++i) noise.data()[i] = normal(random);
        const MatrixXd X = root * noise;
        *gram = X * X.transpose();
    }
    return made;
}

/// Member by member, because g++ 12 warns about nested designated initializers.
automatic_options options_for(const magr::layer_options& layer) {
    automatic_options options;
    options.layer = layer;
    return options;
}

}  // namespace

TEST_CASE("quantize_automatic: a candidate is the result of its steps on the fitting data, measured on the validation data",
          "[quantize][automatic][oracle]") {
    const calibrated layer = make_layer(24, 40, 1);
    const magr::grid_options grid{.bits = 2, .group_size = 20, .range = magr::range_search::min_max};
    automatic_options given = options_for({.grid = grid, .refinement = {.rounds = 1}});
    given.alphas = {1e-2, 1e-3};
    given.dampings = {1e-2, 1e-1};
    given.range_factors = {0.97};
    const auto result = quantize_automatic(layer.W, layer.fitting, layer.validation, given);
    REQUIRE(result);
    // the first damping: 3 penalties including 0, x 2 ranges; the other damping: 0 and the best penalty so far
    REQUIRE(result.candidates.size() == 10);
    const auto first_error = [&](std::size_t k) {
        return std::min(result.candidates[k].output_error.value(), result.candidates[k + 1].output_error.value());
    };
    CHECK(result.candidates[6].alpha == 0);
    CHECK(result.candidates[8].alpha == (first_error(2) < first_error(4) ? 1e-3 : 1e-2));
    for (const magr::automatic_candidate& candidate : result.candidates) {
        magr::layer_options options{.grid = grid, .optq = {.damping = candidate.damping}, .refinement = {.rounds = 0}};
        if (candidate.alpha > 0)
            options.preprocess =
                magr::preprocess_options{.alpha = candidate.alpha, .group_size = 20, .damping = candidate.damping, .tolerance = 1e-7};
        if (candidate.range_factor) options.grid.range_factor = *candidate.range_factor;
        const auto alone = magr::quantize_layer(layer.W, layer.fitting, options);
        const double error = magr::output_error(layer.W, alone.quantized.dequantize(), layer.validation);
        // MagR ends at another point within its tolerance, which may change a code or two
        CHECK(candidate.output_error == Approx(error).epsilon(candidate.alpha > 0 ? 0.1 : 1e-12));
    }
    // compares the best with MagR and the best without, after refinement
    const magr::automatic_candidate *with = nullptr, *without = nullptr;
    for (const magr::automatic_candidate& candidate : result.candidates) {
        const magr::automatic_candidate*& slot = candidate.alpha > 0 ? with : without;
        if (slot == nullptr || candidate.output_error.value() < slot->output_error.value()) slot = &candidate;
    }
    REQUIRE(with->output_error.value() < 0.9 * without->output_error.value());
    for (const magr::automatic_candidate& candidate : result.candidates)
        CHECK(candidate.refined_error.has_value() == (&candidate == with || &candidate == without));
    const auto refined = [&](const magr::automatic_candidate& candidate) {
        magr::layer_options options{.grid = grid, .optq = {.damping = candidate.damping}, .refinement = {.rounds = 1}};
        if (candidate.alpha > 0)
            options.preprocess = magr::preprocess_options{.alpha = candidate.alpha, .group_size = 20, .damping = candidate.damping};
        if (candidate.range_factor) options.grid.range_factor = *candidate.range_factor;
        options.refinement.scales->damping = options.refinement.codes->damping = candidate.damping;
        return magr::output_error(layer.W, magr::quantize_layer(layer.W, layer.fitting, options).quantized.dequantize(), layer.validation);
    };
    CHECK(*with->refined_error == Approx(refined(*with)));
    CHECK(*without->refined_error == Approx(refined(*without)));
    CHECK(&result.candidates[result.chosen] == (*with->refined_error < 0.9 * *without->refined_error ? with : without));

    // the result is the candidate that was measured
    CHECK(result.validation_error == *result.candidates[result.chosen].refined_error);
    CHECK(result.validation_error == magr::output_error(layer.W, result.layer.quantized.dequantize(), layer.validation));
    CHECK(result.layer.output_error == magr::output_error(layer.W, result.layer.quantized.dequantize(), layer.fitting));
    CHECK(result.layer.preprocess.has_value() == (result.candidates[result.chosen].alpha > 0));
}

TEST_CASE("quantize_automatic: returns the candidate that it measured, also where MagR ends early", "[quantize][automatic][property]") {
    const calibrated layer = make_layer(24, 40, 1);
    const magr::grid_options grid{.bits = 2, .range = magr::range_search::min_max};
    for (const auto quantizer : {magr::layer_quantizer::rtn, magr::layer_quantizer::optq}) {
        automatic_options given = options_for({.quantizer = quantizer,
                                               .grid = grid,
                                               .preprocess = magr::preprocess_options{.max_iterations = 2},
                                               .optq = {.measure_error = true},
                                               .refinement = {.rounds = 0}});
        given.required_gain = 0;
        const auto result = quantize_automatic(layer.W, layer.fitting, layer.validation, given);
        const magr::automatic_candidate& chosen = result.candidates[result.chosen];
        REQUIRE(chosen.alpha > 0);
        CHECK(result.validation_error == chosen.output_error);
        CHECK(result.validation_error == magr::output_error(layer.W, result.layer.quantized.dequantize(), layer.validation));
        REQUIRE(result.layer.preprocess);
        CHECK(result.layer.preprocess->alpha == chosen.alpha);
        CHECK(result.layer.preprocess->iterations <= 2);
        CHECK(result.layer.output_error_preprocessed == Approx(result.layer.preprocess->output_error).epsilon(1e-3));
        CHECK(result.layer.optq.has_value() == (quantizer == magr::layer_quantizer::optq));
        if (result.layer.optq) CHECK(std::isfinite(result.layer.optq->output_error.value()));
        CHECK_FALSE(result.layer.output_error_rtn.has_value());
    }
}

TEST_CASE("quantize_automatic: dead inputs decide nothing, unless the validation data know them", "[quantize][automatic][edge]") {
    calibrated layer = make_layer(12, 32, 8);
    for (MatrixXd* gram : {&layer.fitting, &layer.validation}) {
        gram->row(5).setZero();
        gram->col(5).setZero();
    }
    layer.W.col(5).setZero();
    const auto without = quantize_automatic(layer.W, layer.fitting, layer.validation);
    MatrixXf W = layer.W;
    W.col(5).setConstant(1e4F);
    const auto with = quantize_automatic(W, layer.fitting, layer.validation);
    CHECK(with.layer.quantized.scales == without.layer.quantized.scales);
    CHECK(with.validation_error == without.validation_error);
    CHECK(with.layer.dead_inputs == 1);

    layer.validation(5, 5) = layer.validation(4, 4);
    W.col(5).setConstant(2.0F);
    const auto known = quantize_automatic(W, layer.fitting, layer.validation);
    CHECK(known.layer.dead_inputs == 0);
    const auto Q = known.layer.quantized.dequantize();
    for (index_t i = 0; i < W.rows(); ++i) CHECK(std::abs(Q(i, 5) - 2) < 0.5);

    layer = make_layer(12, 32, 8);
    for (MatrixXd* gram : {&layer.fitting, &layer.validation}) {
        gram->row(5) *= 1e-6;
        gram->col(5) *= 1e-6;
    }
    magr::automatic_options nearly;
    nearly.layer.optq.dead_threshold = 1e-9;
    layer.W.col(5).setZero();
    const auto small = quantize_automatic(layer.W, layer.fitting, layer.validation, nearly);
    layer.W.col(5).setConstant(1e6F);
    const auto large = quantize_automatic(layer.W, layer.fitting, layer.validation, nearly);
    CHECK(large.layer.dead_inputs == 1);
    CHECK(large.layer.quantized.scales == small.layer.quantized.scales);
    CHECK(large.chosen == small.chosen);
    CHECK(large.validation_error == small.validation_error);

    const MatrixXd zero = MatrixXd::Zero(32, 32);
    const auto dead = quantize_automatic(layer.W, zero, zero);
    REQUIRE(dead);
    CHECK(dead.layer.dead_inputs == 32);
    CHECK(dead.validation_error == 0);
}

TEST_CASE("quantize_automatic: leaves MagR out where it does harm, and uses it where it helps", "[quantize][automatic]") {
    // outliers, and grids that must reach them: MagR helps
    const calibrated layer = make_layer(48, 64, 3);
    const automatic_options plain = options_for({.grid = {.bits = 2, .range = magr::range_search::min_max}, .refinement = {.rounds = 0}});
    const auto helped = quantize_automatic(layer.W, layer.fitting, layer.validation, plain);
    CHECK(helped.candidates[helped.chosen].alpha > 0);
    CHECK(helped.candidates[helped.chosen].output_error.value() < 0.8 * helped.candidates[0].output_error.value());
    automatic_options demanding = plain;  // asks for more than MagR gains
    demanding.required_gain = 0.99;
    const auto declined = quantize_automatic(layer.W, layer.fitting, layer.validation, demanding);
    CHECK(declined.candidates[declined.chosen].alpha == 0);
    for (const magr::automatic_candidate& candidate : declined.candidates) CHECK_FALSE(candidate.refined_error);

    // weights that are already on their grids
    MatrixXf on_grid(6, 64);
    for (index_t i = 0; i < on_grid.rows(); ++i)
        for (index_t j = 0; j < 64; ++j) on_grid(i, j) = 0.25F * static_cast<float>((i + 3 * j * j + j) % 4 - 1);
    for (index_t i = 0; i < on_grid.rows(); ++i) on_grid.row(i).head(4) << -0.25F, 0.0F, 0.25F, 0.5F;
    const auto exact = quantize_automatic(on_grid, layer.fitting, layer.validation, plain);
    CHECK(exact.candidates[exact.chosen].alpha == 0);
    CHECK(exact.validation_error.value() < 1e-9);
}

TEST_CASE("quantize_automatic: 0 is always a candidate, once", "[quantize][automatic]") {
    const calibrated layer = make_layer(5, 12, 4);
    const auto result = quantize_automatic(layer.W, layer.fitting, layer.validation, {.alphas = {1e-3, 0, 1e-3}, .dampings = {0.5}});
    REQUIRE(result.candidates.size() == 2);
    CHECK(result.candidates[0].alpha == 0);
    CHECK(result.candidates[1].alpha == 1e-3);
    const auto none = quantize_automatic(layer.W, layer.fitting, layer.validation, {.alphas = {0}, .dampings = {0.01}});
    REQUIRE(none.candidates.size() == 1);
    const auto usual = quantize_automatic(layer.W, layer.fitting, layer.validation, {.dampings = {0.01}});
    REQUIRE(usual.candidates.size() == 4);
    CHECK(usual.candidates[3].alpha == 1e-2);
    const auto grouped = quantize_automatic(layer.W, layer.fitting, layer.validation, options_for({.grid = {.group_size = 4}}));
    REQUIRE(grouped.candidates.size() == 6);
    CHECK(grouped.candidates[3].alpha == 1e-3);
    const auto same = magr::quantize_layer(layer.W, layer.fitting);
    CHECK(none.layer.quantized.codes == same.quantized.codes);
}

TEST_CASE("quantize_automatic: accumulators, rounding to nearest, and the same bits for every executor", "[quantize][automatic]") {
    const calibrated layer = make_layer(130, 24, 5);
    magr::gram_accumulator<> fitting(24), validation(24);
    const MatrixXd f = layer.fitting.llt().matrixU(), v = layer.validation.llt().matrixU();
    fitting.add(f);
    validation.add(v);
    for (const auto quantizer : {magr::layer_quantizer::rtn, magr::layer_quantizer::optq}) {
        const automatic_options options = options_for({.quantizer = quantizer, .grid = {.bits = 3}});
        const auto serial = quantize_automatic(layer.W, fitting, validation, options);
        CHECK(serial.layer.tokens == 48);
        for (const int workers : {2, 7}) {
            magr::thread_pool pool(workers);
            const auto parallel = quantize_automatic(layer.W, fitting, validation, options, pool);
            CHECK(parallel.chosen == serial.chosen);
            CHECK(parallel.layer.quantized.codes == serial.layer.quantized.codes);
            CHECK(parallel.layer.quantized.scales == serial.layer.quantized.scales);
            for (std::size_t k = 0; k < serial.candidates.size(); ++k)
                CHECK(parallel.candidates[k].output_error == serial.candidates[k].output_error);
        }
    }
}

TEST_CASE("quantize_automatic: candidates that fail are passed over, and if all do the status says so", "[quantize][automatic][errors]") {
    calibrated layer = make_layer(6, 8, 6);
    layer.fitting.row(3).setZero();  // a dead input: not positive definite without damping
    layer.fitting.col(3).setZero();
    const MatrixXd indefinite = layer.fitting - MatrixXd::Constant(8, 8, 0.01 * layer.fitting.trace());
    MatrixXd H = indefinite;
    H.diagonal() = layer.fitting.diagonal();
    automatic_options strict = options_for({.optq = {.on_failure = magr::factor_fallback::none}});
    strict.alphas = {0};
    strict.dampings = {0, 1e3};
    const auto some = quantize_automatic(layer.W, H, layer.validation, strict);
    CHECK_FALSE(some.candidates[0].output_error);
    CHECK(some.chosen == 1);
    strict.dampings = {0};
    const auto none = quantize_automatic(layer.W, H, H, strict);
    CHECK_FALSE(none);
    CHECK(none.layer.status == magr::quantization_status::failed);
}

TEST_CASE("quantize_automatic: refuses bad options and arguments before any work", "[quantize][automatic][errors]") {
    const calibrated layer = make_layer(3, 6, 7);
    const auto run = [&](const automatic_options& options) {
        return quantize_automatic(layer.W, layer.fitting, layer.validation, options);
    };
    CHECK_THROWS_AS(run({.alphas = {-1}}), magr::option_error);
    CHECK_THROWS_AS(run({.dampings = {}}), magr::option_error);
    CHECK_THROWS_AS(run({.dampings = {std::nan("")}}), magr::option_error);
    CHECK_THROWS_AS(run({.range_factors = {1.5}}), magr::option_error);
    CHECK_THROWS_AS(run({.required_gain = 1}), magr::option_error);
    CHECK_THROWS_AS(run(options_for({.grid = {.bits = 9}})), magr::option_error);
    CHECK_THROWS_AS(quantize_automatic(layer.W, layer.fitting, layer.validation.topLeftCorner(5, 5)), magr::shape_error);
    MatrixXd bad = layer.validation;
    bad(2, 2) = std::nan("");
    CHECK_THROWS_AS(quantize_automatic(layer.W, layer.fitting, bad), magr::value_error);
    CHECK_THROWS_AS(quantize_automatic(layer.W, bad, layer.validation), magr::value_error);
    magr::gram_accumulator<> empty(6), full(6);
    full.add(layer.validation);
    CHECK_THROWS_AS(quantize_automatic(layer.W, full, empty), magr::value_error);
}
