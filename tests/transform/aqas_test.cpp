// SPDX-License-Identifier: MIT
#include <magr/transform/aqas.hpp>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <span>
#include <stdexcept>
#include <vector>

#include <magr/calibration/activation_quantizer.hpp>
#include <magr/parallel/thread_pool.hpp>
#include <magr/quantize/rtn.hpp>
#include <magr/transform/fuse_scaling.hpp>
#include <magr/transform/input_magnitudes.hpp>

#include "support/catch.hpp"
#include "support/names.hpp"
#include "support/random_matrix.hpp"

namespace {

using Eigen::MatrixXd;
using magr::activation_options;
using magr::activation_scale;
using magr::aqas_form;
using magr::aqas_options;
using magr::aqas_result;
using magr::grid_options;
using magr::index_t;
using tests::random_matrix;

/// Inputs with some channels far larger than the others, and weights that differ a little.
MatrixXd uneven_inputs(index_t tokens, index_t inputs, unsigned seed) {
    MatrixXd X = random_matrix(tokens, inputs, seed);
    for (index_t j = 0; j < inputs; ++j) X.col(j) *= j % 5 == 0 ? 30 : 0.5 + 0.1 * static_cast<double>(j % 3);
    return X;
}
MatrixXd uneven_weights(index_t rows, index_t inputs, unsigned seed) {
    MatrixXd W = random_matrix(rows, inputs, seed);
    for (index_t j = 0; j < inputs; ++j) W.col(j) *= 0.3 + 0.2 * static_cast<double>(j % 4);
    return W;
}

MatrixXd dequantized(const MatrixXd& W, const grid_options& grid) {
    const auto q = magr::quantize_rtn(W, grid).dequantize();
    return Eigen::Map<const Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>(q.data(), q.rows(), q.cols());
}

/// The objective as it is written, in double.
double loss_of(const MatrixXd& W, const MatrixXd& X, const Eigen::VectorXd& s, const grid_options& grid,
               const std::optional<activation_options>& activations) {
    MatrixXd x = X * s.cwiseInverse().asDiagonal();
    if (activations) magr::round_activations(x, *activations);
    return (X * W.transpose() - x * dequantized(W * s.asDiagonal(), grid).transpose()).squaredNorm();
}

Eigen::VectorXd scales_of(const aqas_result& result) {
    const auto s = result.scaling.scales();
    return Eigen::Map<const Eigen::VectorXd>(s.data(), static_cast<index_t>(s.size()));
}

constexpr auto keep = [](auto w) { return w; };

}  // namespace

TEST_CASE("aqas_search: finds the best of all candidates of the textbook", "[transform][aqas][oracle]") {
    const MatrixXd W = uneven_weights(6, 11, 1), X = uneven_inputs(40, 11, 2);
    const Eigen::VectorXd x = X.cwiseAbs().colwise().maxCoeff(), mean = X.cwiseAbs().colwise().mean(),
                          w = W.cwiseAbs().colwise().maxCoeff();
    for (const auto scale : {activation_scale::per_token, activation_scale::per_tensor})
        for (const int bits : {3, 4}) {
            CAPTURE(to_string(scale), bits);
            aqas_options options;
            options.activations = {8 - 2 * (bits - 3), scale};
            options.steps = 10;
            const grid_options grid{bits};
            struct candidate {
                aqas_form form;
                double a, b, loss;
                Eigen::VectorXd s;
            };
            candidate best{aqas_form::identity, 0, 0, loss_of(W, X, Eigen::VectorXd::Ones(11), grid, options.activations),
                           Eigen::VectorXd::Ones(11)};
            const double identity = best.loss;
            const auto consider = [&](aqas_form form, double a, double b) {
                Eigen::VectorXd s = (form == aqas_form::maxima ? x : mean).array().pow(a) / w.array().pow(b);
                s /= std::sqrt(s.maxCoeff() * s.minCoeff());
                const double loss = loss_of(W, X, s, grid, options.activations);
                if (loss < best.loss) best = {form, a, b, loss, s};
            };
            for (int i = 0; i <= 10; ++i) consider(aqas_form::maxima, i / 10.0, 1 - i / 10.0);
            for (int i = 0; i <= 10; ++i)
                for (int k = 0; k <= 10; ++k) consider(aqas_form::means, i / 10.0, k / 10.0);
            const aqas_result found = magr::aqas_search(W, X, grid, options);
            CHECK(best.loss < 0.9 * identity);  // a layer for which scaling matters
            CHECK(found.form == best.form);
            CHECK(found.a == Approx(best.a));
            CHECK(found.b == Approx(best.b));
            CHECK(found.loss == Approx(best.loss).epsilon(1e-9));
            CHECK(found.loss_identity == Approx(identity).epsilon(1e-12));
            CHECK((scales_of(found) - best.s).norm() <= 1e-12 * best.s.norm());
            CHECK(found.refined == 0);
        }
}

TEST_CASE("aqas_search: never worse than no scaling, and the loss is that of the scales", "[transform][aqas][property]") {
    for (unsigned seed = 0; seed < 12; ++seed) {
        CAPTURE(seed);
        const index_t rows = 1 + seed % 5, inputs = 1 + seed % 7, tokens = 1 + 3 * (seed % 4);
        const MatrixXd W = random_matrix(rows, inputs, 100 + seed), X = random_matrix(tokens, inputs, 200 + seed);
        aqas_options options;
        options.steps = 4;
        options.refine_passes = static_cast<int>(seed % 3);
        if (seed % 4 == 3) options.activations.reset();
        const grid_options grid{2 + static_cast<int>(seed % 3)};
        const aqas_result found = magr::aqas_search(W, X, grid, options);
        CHECK(found.loss <= found.loss_identity);
        CHECK(found.loss == Approx(loss_of(W, X, scales_of(found), grid, options.activations)).epsilon(1e-9).margin(1e-24));
        CHECK(std::isfinite(found.loss));
    }
}

TEST_CASE("aqas_search: without any rounding nothing is gained, and the layer stays what it is", "[transform][aqas]") {
    const MatrixXd W = uneven_weights(5, 9, 1), X = uneven_inputs(20, 9, 2);
    aqas_options options;
    options.activations.reset();
    const aqas_result found = magr::aqas_search(W, X, keep, options);
    CHECK(found.form == aqas_form::identity);
    CHECK(found.loss_identity == 0);
    CHECK(found.loss == 0);
    CHECK(scales_of(found) == Eigen::VectorXd::Ones(9));

    // and with scales from a search with rounding, if neither is rounded afterwards
    const magr::column_scaling scaling = magr::aqas_search(W, X, grid_options{3}).scaling;
    MatrixXd scaled = W, inputs = X;
    scaling.weights(magr::as_view(scaled));
    for (index_t t = 0; t < X.rows(); ++t) {
        Eigen::VectorXd x = X.row(t);
        scaling.input(std::span<double>(x.data(), 9));
        inputs.row(t) = x;
    }
    CHECK((inputs * scaled.transpose() - X * W.transpose()).norm() <= 1e-13 * (X * W.transpose()).norm());
}

TEST_CASE("input_magnitudes: with a = 1/2 the first form has the scales of SmoothQuant up to a common factor", "[transform][aqas]") {
    const MatrixXd W = uneven_weights(5, 9, 1), X = uneven_inputs(20, 9, 2);
    const magr::detail::matrix_ref layer = magr::as_const_view(W);
    const magr::detail::input_magnitudes inputs({&layer, 1}, magr::as_const_view(X), {});
    const std::vector<double> s = inputs.scales(aqas_form::maxima, 0.5, 0.5);
    const Eigen::VectorXd smooth = (X.cwiseAbs().colwise().maxCoeff().array() / W.cwiseAbs().colwise().maxCoeff().array()).sqrt();
    for (std::size_t j = 0; j < 9; ++j) CHECK(s[j] / s[0] == Approx(smooth(static_cast<index_t>(j)) / smooth(0)).epsilon(1e-13));
    const auto [low, high] = std::minmax_element(s.begin(), s.end());
    CHECK(*low * *high == Approx(1).epsilon(1e-13));
}

TEST_CASE("aqas_search: layers that read the same input share scales, and their losses add up", "[transform][aqas]") {
    const MatrixXd Q = uneven_weights(6, 10, 1), K = uneven_weights(3, 10, 2) * 4, X = uneven_inputs(30, 10, 3);
    aqas_options options;
    options.steps = 5;
    const grid_options grid{3};
    const aqas_result both = magr::aqas_search(std::vector<MatrixXd>{Q, K}, X, grid, options);
    const Eigen::VectorXd s = scales_of(both);
    const auto sum = [&](const Eigen::VectorXd& scales) {
        return loss_of(Q, X, scales, grid, options.activations) + loss_of(K, X, scales, grid, options.activations);
    };
    CHECK(both.loss == Approx(sum(s)).epsilon(1e-9));
    CHECK(both.loss_identity == Approx(sum(Eigen::VectorXd::Ones(10))).epsilon(1e-9));
    const std::vector views{magr::as_const_view(Q), magr::as_const_view(K)};
    CHECK(magr::aqas_search(views, X, grid, options).loss == both.loss);

    MatrixXd stacked(9, 10);  // grids are those of rows: it makes no difference which layer a row belongs to
    stacked << Q, K;
    const aqas_result as_one = magr::aqas_search(stacked, X, grid, options);
    CHECK(as_one.loss == both.loss);
    CHECK(scales_of(as_one) == s);
}

TEMPLATE_TEST_CASE("aqas_search: a function of the caller rounds the scaled weights", "[transform][aqas]", float, double) {
    using matrix = Eigen::Matrix<TestType, Eigen::Dynamic, Eigen::Dynamic>;
    const matrix W = uneven_weights(6, 12, 1).cast<TestType>(), X = uneven_inputs(30, 12, 3).cast<TestType>();
    aqas_options options;
    options.steps = 3;
    for (const grid_options& grid :
         {grid_options{3}, grid_options{4, magr::zero_point::offset, 5}, grid_options{2, magr::zero_point::none}}) {
        const aqas_result expected = magr::aqas_search(W, X, grid, options);
        int calls = 0;
        const auto round = [&](magr::matrix_view<const TestType> w) {
            ++calls;
            return magr::quantize_rtn(w, grid).dequantize();
        };
        const aqas_result found = magr::aqas_search(W, X, round, options);
        CHECK(calls == 1 + 4 + 16);
        CHECK(found.loss == Approx(expected.loss).epsilon(1e-5));
        CHECK(found.form == expected.form);
        CHECK(scales_of(found) == scales_of(expected));
    }
}

TEST_CASE("aqas_search: the same bits for any number of workers, in every layout and storage type", "[transform][aqas][determinism]") {
    const Eigen::MatrixXf W = uneven_weights(70, 40, 1).cast<float>(), X = uneven_inputs(500, 40, 2).cast<float>();
    aqas_options options;
    options.steps = 2;
    options.refine_passes = 1;
    for (const auto scale : {activation_scale::per_token, activation_scale::per_tensor}) {
        options.activations = {8, scale};
        const aqas_result alone = magr::aqas_search(W, X, grid_options{3}, options);
        magr::thread_pool pool(3);
        const aqas_result together = magr::aqas_search(W, X, grid_options{3}, options, pool);
        CHECK(alone.loss == together.loss);
        CHECK(alone.loss_identity == together.loss_identity);
        CHECK(scales_of(alone) == scales_of(together));
        const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> rows = W, tokens = X;
        CHECK(magr::aqas_search(rows, tokens, grid_options{3}, options).loss == alone.loss);
    }
    options.refine_passes = 0;
    using half_matrix = Eigen::Matrix<Eigen::half, Eigen::Dynamic, Eigen::Dynamic>;
    const half_matrix half = W.cast<Eigen::half>(), half_inputs = X.cast<Eigen::half>();
    const Eigen::MatrixXf wide = half.cast<float>(), wide_inputs = half_inputs.cast<float>();
    CHECK(magr::aqas_search(half, half_inputs, {}, options).loss == magr::aqas_search(wide, wide_inputs, grid_options(), options).loss);
}

TEST_CASE("aqas_search: inputs without activations or weights keep the scale 1 and change no other scale", "[transform][aqas]") {
    MatrixXd W = uneven_weights(5, 8, 1), X = uneven_inputs(30, 8, 2);
    W.col(3).setZero();
    X.col(6).setZero();
    aqas_options options;
    options.steps = 6;
    options.refine_passes = 1;
    const aqas_result found = magr::aqas_search(W, X, grid_options{3}, options);
    REQUIRE(found.form != aqas_form::identity);
    CHECK(found.scaling.scales()[3] == 1);
    CHECK(found.scaling.scales()[6] == 1);

    const aqas_result silent = magr::aqas_search(W, MatrixXd::Zero(4, 8).eval(), grid_options{3}, options);
    CHECK(silent.form == aqas_form::identity);
    CHECK(silent.loss_identity == 0);
    CHECK(scales_of(silent) == Eigen::VectorXd::Ones(8));
    const aqas_result empty = magr::aqas_search(MatrixXd::Zero(5, 8).eval(), X, grid_options{3}, options);
    CHECK(scales_of(empty) == Eigen::VectorXd::Ones(8));
    CHECK(empty.loss == 0);
}

TEST_CASE("aqas_search: tied inputs share a scale", "[transform][aqas]") {
    const MatrixXd W = uneven_weights(5, 12, 1), X = uneven_inputs(30, 12, 2);
    aqas_options options;
    options.steps = 6;
    options.refine_passes = 2;
    options.tie = magr::shared_value_channels(12, 4, 2);
    const aqas_result found = magr::aqas_search(W, X, grid_options{3}, options);
    REQUIRE(found.form != aqas_form::identity);
    CHECK(found.refined > 0);
    CHECK(magr::shared_scaling(found.scaling, options.tie).inputs() == 6);  // throws unless tied inputs have one scale
    CHECK(found.loss == Approx(loss_of(W, X, scales_of(found), grid_options{3}, options.activations)).epsilon(1e-9));

    // one group for all leaves no choice
    options.tie.assign(12, 7);
    const aqas_result common = magr::aqas_search(W, X, grid_options{3}, options);
    CHECK(scales_of(common).minCoeff() == scales_of(common).maxCoeff());

    // maxima and means are those of the group
    const magr::detail::matrix_ref layer = magr::as_const_view(W);
    const std::vector<index_t> pairs{0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5};
    const magr::detail::input_magnitudes inputs({&layer, 1}, magr::as_const_view(X), pairs);
    const std::vector<double> s = inputs.scales(aqas_form::means, 1, 1);
    const auto expected = [&](index_t g) {
        return X.middleCols(2 * g, 2).cwiseAbs().mean() / W.middleCols(2 * g, 2).cwiseAbs().maxCoeff();
    };
    for (index_t g = 0; g < 6; ++g) CHECK(s[static_cast<std::size_t>(g)] / s[0] == Approx(expected(g) / expected(0)));
}

TEST_CASE("aqas_search: refinement lowers the loss and stops when nothing helps", "[transform][aqas]") {
    const MatrixXd W = uneven_weights(4, 6, 1), X = uneven_inputs(30, 6, 2);
    aqas_options options;
    options.steps = 2;
    const aqas_result rough = magr::aqas_search(W, X, grid_options{3}, options);
    options.refine_passes = 1;
    const aqas_result once = magr::aqas_search(W, X, grid_options{3}, options);
    options.refine_passes = 1000000;
    const aqas_result fully = magr::aqas_search(W, X, grid_options{3}, options);
    CHECK(once.refined > 0);
    CHECK(once.loss < rough.loss);
    CHECK(fully.loss <= once.loss);
    CHECK(fully.form == rough.form);
    // a scale is that of the search times a power of the ratio
    for (index_t j = 0; j < 6; ++j) {
        const double power = std::log(scales_of(fully)(j) / scales_of(rough)(j)) / std::log(options.refine_ratio);
        CHECK(std::abs(power - std::round(power)) <= 1e-9);
    }
}

TEMPLATE_TEST_CASE("aqas_search: the size of weights and inputs does not matter", "[transform][aqas]", float, double) {
    using matrix = Eigen::Matrix<TestType, Eigen::Dynamic, Eigen::Dynamic>;
    const matrix W = uneven_weights(5, 9, 1).cast<TestType>(), X = uneven_inputs(25, 9, 2).cast<TestType>();
    aqas_options options;
    options.steps = 4;
    const aqas_result expected = magr::aqas_search(W, X, grid_options{3}, options);
    const int far = std::is_same_v<TestType, float> ? 100 : 900;
    for (const int of_weights : {-far, 0, far})
        for (const int of_inputs : {-far, 0, far}) {
            CAPTURE(of_weights, of_inputs);
            const matrix w = W * std::ldexp(TestType(1), of_weights), x = X * std::ldexp(TestType(1), of_inputs);
            const aqas_result found = magr::aqas_search(w, x, grid_options{3}, options);
            CHECK(found.form == expected.form);
            CHECK(found.a == expected.a);
            CHECK(found.b == expected.b);
            CHECK((scales_of(found) - scales_of(expected)).norm() <= 1e-9 * scales_of(expected).norm());
            const int exponent = 2 * (of_weights + of_inputs);
            if (std::abs(exponent) < 900) CHECK(found.loss == Approx(std::ldexp(expected.loss, exponent)).epsilon(1e-4));
        }
}

TEST_CASE("aqas_search: inputs from the smallest to the largest number", "[transform][aqas]") {
    MatrixXd W = random_matrix(3, 4, 1), X = random_matrix(5, 4, 2);
    W.col(0) *= 1e300;
    W.col(1) *= 1e-300;
    X.col(0) *= 1e-300;
    X.col(1) *= 1e300;
    X.col(2) *= 1e-310;
    const aqas_result found = magr::aqas_search(W, X, grid_options{3});
    CHECK(found.loss <= found.loss_identity);
    CHECK(scales_of(found).allFinite());
    const Eigen::MatrixXf w = (W.cwiseMax(-3e38).cwiseMin(3e38)).cast<float>(), x = X.cwiseMax(-3e38).cwiseMin(3e38).cast<float>();
    const aqas_result narrow = magr::aqas_search(w, x, grid_options{3});
    CHECK(narrow.loss <= narrow.loss_identity);
    CHECK(std::isfinite(narrow.loss_identity));

    const MatrixXd subnormal = random_matrix(5, 4, 2) * 1e-310, plain = random_matrix(3, 4, 1);
    CHECK(scales_of(magr::aqas_search(plain, subnormal, grid_options{3})).allFinite());
}

TEST_CASE("aqas_search: H is scaled before it is damped", "[transform][aqas]") {
    const MatrixXd W = uneven_weights(5, 9, 1), X = uneven_inputs(25, 9, 2), H = X.transpose() * X;
    const aqas_result found = magr::aqas_search(W, X, grid_options{3});
    REQUIRE(found.form != aqas_form::identity);
    const MatrixXd inverse = scales_of(found).cwiseInverse().asDiagonal(), scaled = X * inverse;
    MatrixXd gram = H;
    found.scaling.gram(magr::as_view(gram));
    CHECK((gram - scaled.transpose() * scaled).norm() <= 1e-13 * gram.norm());
    const MatrixXd damping = MatrixXd::Identity(9, 9) * 0.01;
    MatrixXd damped_first = H + H.diagonal().mean() * damping;
    found.scaling.gram(magr::as_view(damped_first));
    CHECK((damped_first - (gram + gram.diagonal().mean() * damping)).norm() > 1e-4 * gram.norm());
}

TEST_CASE("aqas_search: bad arguments are refused", "[transform][aqas]") {
    const MatrixXd W = random_matrix(3, 4, 1), X = random_matrix(5, 4, 2);
    const auto refused_options = [&](const auto& change) {
        aqas_options options;
        change(options);
        CHECK_THROWS_AS(magr::aqas_search(W, X, grid_options(), options), magr::option_error);
    };
    refused_options([](aqas_options& o) { o.steps = 0; });
    refused_options([](aqas_options& o) { o.steps = 1001; });
    refused_options([](aqas_options& o) { o.refine_passes = -1; });
    refused_options([](aqas_options& o) { o.refine_ratio = 1; });
    refused_options([](aqas_options& o) { o.refine_ratio = 17; });
    refused_options([](aqas_options& o) { o.refine_ratio = std::numeric_limits<double>::quiet_NaN(); });
    refused_options([](aqas_options& o) { o.activations->bits = 1; });
    refused_options([](aqas_options& o) { o.activations->scale = static_cast<activation_scale>(5); });
    refused_options([](aqas_options& o) { o.tie = {0, 1, 2, 4}; });
    refused_options([](aqas_options& o) { o.tie = {0, 1, 2, -1}; });
    aqas_options brief;
    brief.tie = {0, 1};
    CHECK_THROWS_AS(magr::aqas_search(W, X, grid_options(), brief), magr::shape_error);
    aqas_options several;
    several.steps = 0;
    several.activations->bits = 0;
    CHECK(magr::problems(several).size() == 2);

    CHECK_THROWS_AS(magr::aqas_search(W, X, grid_options{1}), magr::option_error);
    grid_options with_gram;
    with_gram.range = magr::range_search::output_error;
    CHECK_THROWS_AS(magr::aqas_search(W, X, with_gram), magr::option_error);
    CHECK_THROWS_AS(magr::aqas_search(W, MatrixXd::Ones(5, 3).eval()), magr::shape_error);
    CHECK_THROWS_AS(magr::aqas_search(W, MatrixXd(0, 4)), magr::shape_error);
    CHECK_THROWS_AS(magr::aqas_search(MatrixXd(0, 4), X), magr::shape_error);
    CHECK_THROWS_AS(magr::aqas_search(std::vector<MatrixXd>(), X), magr::shape_error);
    CHECK_THROWS_AS(magr::aqas_search(std::vector<MatrixXd>{W, random_matrix(3, 5, 1)}, X), magr::shape_error);
    for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
        MatrixXd bad_weights = W, bad_inputs = X;
        bad_weights(1, 2) = bad_inputs(4, 3) = bad;
        CHECK_THROWS_AS(magr::aqas_search(bad_weights, X), magr::value_error);
        CHECK_THROWS_AS(magr::aqas_search(std::vector<MatrixXd>{W, bad_weights}, X), magr::value_error);
        CHECK_THROWS_AS(magr::aqas_search(W, bad_inputs), magr::value_error);
    }
}

TEST_CASE("aqas_search: what the caller's function returns is checked", "[transform][aqas]") {
    const MatrixXd W = random_matrix(3, 4, 1), X = random_matrix(5, 4, 2);
    CHECK_THROWS_AS(magr::aqas_search(W, X, [](auto) { return MatrixXd(MatrixXd::Ones(3, 3)); }), magr::shape_error);
    CHECK_THROWS_AS(magr::aqas_search(W, X, [](auto) { return MatrixXd(MatrixXd::Constant(3, 4, std::nan(""))); }), magr::value_error);
    const double huge = (std::numeric_limits<double>::max)();
    CHECK_THROWS_AS(magr::aqas_search(W, X, [=](auto) { return MatrixXd(MatrixXd::Constant(3, 4, huge)); }), magr::value_error);
    CHECK_THROWS_AS(magr::aqas_search(W, X, [](auto w) -> decltype(w) { throw std::runtime_error("stop"); }), std::runtime_error);
}

TEST_CASE("aqas_form: names", "[transform][aqas]") { check_names<aqas_form>({"identity", "maxima", "means"}); }
