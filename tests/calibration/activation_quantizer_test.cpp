// SPDX-License-Identifier: MIT
#include <magr/calibration/activation_quantizer.hpp>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <limits>

#include "support/catch.hpp"
#include "support/names.hpp"
#include "support/random_matrix.hpp"

namespace {

using Eigen::MatrixXd;
using magr::activation_options;
using magr::activation_scale;
using tests::random_matrix;

template <class T, int Order = Eigen::RowMajor>
using tokens = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Order>;

/// Tokens of very different sizes.
MatrixXd uneven_tokens(Eigen::Index count, Eigen::Index inputs, unsigned seed) {
    MatrixXd X = random_matrix(count, inputs, seed);
    for (Eigen::Index t = 0; t < count; ++t) X.row(t) *= std::pow(3.0, t % 7 - 3);
    return X;
}

}  // namespace

TEST_CASE("round_activations: numbers that are known", "[calibration][activations]") {
    // scale 1: half-way cases go to the even level
    Eigen::RowVectorXd x(8);
    x << 127, 0.5, 1.5, -2.5, 0.49, -126.6, 3, -0.2;
    Eigen::RowVectorXd expected(8);
    expected << 127, 0, 2, -2, 0, -127, 3, 0;
    magr::round_activations(x);
    CHECK(x == expected);

    MatrixXd X(3, 2);
    X << 7, 3.4, 0, 0, -1.4, 0.3;
    MatrixXd per_token(3, 2), per_tensor(3, 2);
    per_token << 7, 3, 0, 0, -1.4, 0.4;  // 0.3 is 1.5 steps of 0.2
    per_tensor << 7, 3, 0, 0, -1, 0;
    MatrixXd rounded = X;
    magr::round_activations(rounded, {4, activation_scale::per_token});
    CHECK((rounded - per_token).cwiseAbs().maxCoeff() <= 1e-15);
    rounded = X;
    magr::round_activations(rounded, {4, activation_scale::per_tensor});
    CHECK(rounded == per_tensor);
}

TEMPLATE_TEST_CASE("round_activations: at most half a step away, on few levels, and idempotent", "[calibration][activations][property]",
                   float, double, Eigen::half, Eigen::bfloat16) {
    const double unit = std::is_same_v<TestType, double> ? 1e-15 : std::is_same_v<TestType, float> ? 1e-7 : 8e-3;
    for (const int bits : {2, 3, 4, 5, 8})
        for (const auto scale : {activation_scale::per_token, activation_scale::per_tensor}) {
            CAPTURE(bits, to_string(scale));
            const tokens<TestType> X = uneven_tokens(23, 70, 1).cast<TestType>();
            tokens<TestType> Q = X;
            magr::round_activations(Q, {bits, scale});
            const MatrixXd x = X.template cast<double>(), q = Q.template cast<double>();
            const double levels = (1 << (bits - 1)) - 1;
            for (Eigen::Index t = 0; t < x.rows(); ++t) {
                const double largest = scale == activation_scale::per_token ? x.row(t).cwiseAbs().maxCoeff() : x.cwiseAbs().maxCoeff();
                const double step = largest / levels;
                CHECK((q.row(t) - x.row(t)).cwiseAbs().maxCoeff() <= step / 2 + unit * largest);
                for (Eigen::Index j = 0; j < x.cols(); ++j) CHECK(std::abs(q(t, j) / step - std::round(q(t, j) / step)) <= unit * levels);
            }
            tokens<TestType> again = Q;
            magr::round_activations(again, {bits, scale});
            CHECK(again == Q);
        }
}

TEST_CASE("round_activations: a token per token does not depend on the others, and the layout does not matter",
          "[calibration][activations]") {
    const tokens<float> X = uneven_tokens(9, 33, 2).cast<float>();
    tokens<float> all = X;
    magr::round_activations(all);
    for (Eigen::Index t = 0; t < X.rows(); ++t) {
        tokens<float> one = X.row(t);
        magr::round_activations(one);
        CHECK(one == all.row(t));
    }
    for (const auto scale : {activation_scale::per_token, activation_scale::per_tensor}) {
        tokens<float> rows = X;
        tokens<float, Eigen::ColMajor> columns = X;
        magr::round_activations(rows, {8, scale});
        magr::round_activations(columns, {8, scale});
        CHECK(rows == columns);
    }
    magr::round_activations(all.middleRows(2, 3));  // a block is written through its view
}

TEST_CASE("round_activations: tokens of zeros, and the smallest and largest numbers", "[calibration][activations]") {
    MatrixXd X(4, 3);
    const double tiny = std::numeric_limits<double>::denorm_min(), huge = (std::numeric_limits<double>::max)();
    X << 0, 0, 0, tiny, 0, -tiny, huge, 0.75 * huge, -huge, 3e-310, 1e-310, 0;
    MatrixXd rounded = X;
    magr::round_activations(rounded);
    CHECK(rounded.row(0) == X.row(0));
    CHECK(rounded.row(1) == X.row(1));
    CHECK(rounded(2, 0) == huge);
    CHECK(rounded(2, 1) == Approx(huge / 127 * 95));
    CHECK(rounded(3, 1) == Approx(3e-310 / 127 * 42));
    CHECK(rounded.allFinite());
    MatrixXd again = rounded;
    magr::round_activations(again);
    CHECK(again == rounded);
    MatrixXd zeros = MatrixXd::Zero(2, 2);
    magr::round_activations(zeros, {8, activation_scale::per_tensor});
    CHECK(zeros.isZero(0));
}

TEST_CASE("round_activations: bad options and entries are refused before any write", "[calibration][activations]") {
    MatrixXd X = random_matrix(3, 4, 3);
    const MatrixXd before = X;
    for (const int bits : {-1, 0, 1, 9, 64}) CHECK_THROWS_AS(magr::round_activations(X, {bits}), magr::option_error);
    CHECK_THROWS_AS(magr::round_activations(X, {8, static_cast<activation_scale>(2)}), magr::option_error);
    CHECK(X == before);
    MatrixXd empty(0, 4), no_inputs(4, 0);
    CHECK_THROWS_AS(magr::round_activations(empty), magr::shape_error);
    CHECK_THROWS_AS(magr::round_activations(no_inputs), magr::shape_error);
    X(2, 1) = std::numeric_limits<double>::quiet_NaN();
    CHECK_THROWS_AS(magr::round_activations(X), magr::value_error);
    X(2, 1) = -std::numeric_limits<double>::infinity();
    CHECK_THROWS_AS(magr::round_activations(X), magr::value_error);
    X(2, 1) = before(2, 1);
    CHECK(X == before);
}

TEST_CASE("activation_scale: names", "[calibration][activations]") { check_names<activation_scale>({"per_token", "per_tensor"}); }
