// SPDX-License-Identifier: MIT
#include <magr/quantize/choose_damping.hpp>

#include <Eigen/Core>
#include <Eigen/LU>
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <magr/calibration/gram.hpp>
#include <magr/error.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/parallel/thread_pool.hpp>
#include <magr/quantize/optq.hpp>

#include "support/catch.hpp"
#include "support/random_matrix.hpp"

using Eigen::MatrixXd;
using magr::choose_damping;
using magr::damping_choice;
using magr::hessian;
using magr::index_t;
using tests::random_matrix;

namespace {

MatrixXd gram(const MatrixXd& X) { return X.transpose() * X; }

/// Tokens whose inputs depend on each other, always in the same way.
MatrixXd tokens(index_t count, index_t inputs, unsigned seed) {
    return random_matrix(count, inputs, seed) * (random_matrix(inputs, inputs, 99) + MatrixXd::Identity(inputs, inputs));
}

/// tr(T^-1 V T^-T) / tr(V) by elimination: T and D from the last column to the first.
double expected_error(MatrixXd H, const MatrixXd& V, double damping) {
    const index_t n = H.cols();
    H.diagonal().array() += damping * H.diagonal().mean();
    MatrixXd T = MatrixXd::Identity(n, n);
    for (index_t k = n - 1; k >= 0; --k) {
        T.col(k).head(k) = H.col(k).head(k) / H(k, k);
        H.topLeftCorner(k, k) -= T.col(k).head(k) * H(k, k) * T.col(k).head(k).transpose();
    }
    const MatrixXd inverse = T.inverse();
    return (inverse * V * inverse.transpose()).trace() / V.trace();
}

}  // namespace

TEST_CASE("choose_damping: errors are those of the feedback of each candidate", "[quantize][choose_damping][oracle]") {
    for (const index_t n : {1, 7, 60, 130}) {
        const MatrixXd H = gram(tokens(2 * n, n, 1)), V = gram(tokens(n + 3, n, 2));
        const std::vector<double> candidates{0.01, 0.3, 10};
        const damping_choice choice = choose_damping(hessian(H), hessian(V), candidates);
        REQUIRE(choice.errors.size() == 3);
        for (std::size_t k = 0; k < 3; ++k) {
            CAPTURE(n, candidates[k]);
            CHECK(choice.errors[k] == Approx(expected_error(H, V, candidates[k])).epsilon(1e-9));
        }
    }
}

TEST_CASE("choose_damping: the fewer tokens, the more damping, and the least where they abound", "[quantize][choose_damping][property]") {
    const index_t n = 48;
    const MatrixXd V = gram(tokens(4000, n, 3));
    double last = magr::default_dampings.back() + 1;
    for (const index_t count : {24, 56, 20000}) {
        const damping_choice choice = choose_damping(hessian(gram(tokens(count, n, 4))), hessian(V));
        CAPTURE(count, choice.errors);
        CHECK(*choice.damping < last);
        CHECK(
            *std::min_element(choice.errors.begin(), choice.errors.end()) ==
            choice
                .errors[static_cast<std::size_t>(std::find(magr::default_dampings.begin(), magr::default_dampings.end(), *choice.damping) -
                                                 magr::default_dampings.begin())]);
        last = *choice.damping;
    }
    CHECK(last == magr::default_dampings.front());
}

TEST_CASE("choose_damping: very large damping is rounding to the nearest", "[quantize][choose_damping][property]") {
    const MatrixXd H = gram(tokens(50, 20, 5)), V = gram(tokens(50, 20, 6));
    CHECK(choose_damping(hessian(H), hessian(V), std::vector<double>{1e12}).errors[0] == Approx(1).epsilon(1e-9));
}

TEST_CASE("choose_damping: the damping that it chooses makes OPTQ better on other tokens", "[quantize][choose_damping]") {
    const index_t n = 96;
    const MatrixXd X = tokens(100, n, 7), other = gram(tokens(4000, n, 8)), W = random_matrix(64, n, 9);
    const MatrixXd H = gram(X);
    const damping_choice choice = choose_damping(hessian(gram(X.topRows(75))), hessian(gram(X.bottomRows(25))));
    REQUIRE(choice.damping);
    const auto cost = [&](double damping) {
        const auto result = magr::quantize_optq(W, H, magr::grid_options{.bits = 4}, magr::optq_options{.damping = damping});
        const magr::matrix<double> values = result.quantized.dequantize();
        const MatrixXd E = Eigen::Map<const Eigen::Matrix<double, -1, -1, Eigen::RowMajor>>(values.data(), W.rows(), n) - W;
        return (E * other).cwiseProduct(E).sum();
    };
    CHECK(*choice.damping > 0.01);
    CHECK(cost(*choice.damping) < 0.9 * cost(0.01));
}

TEST_CASE("choose_damping: same bits for every executor, and any scale of the matrices", "[quantize][choose_damping][property]") {
    const MatrixXd H = gram(tokens(300, 210, 10)), V = gram(tokens(90, 210, 11));
    magr::thread_pool pool(3);
    const damping_choice one = choose_damping(hessian(H), hessian(V)),
                         three = choose_damping(hessian(H), hessian(V), magr::default_dampings, pool);
    CHECK(one.damping == three.damping);
    CHECK(one.errors == three.errors);
    const MatrixXd large = 0x1p300 * H, small = 0x1p-300 * V;
    const damping_choice scaled = choose_damping(hessian(large), hessian(small));
    CHECK(scaled.damping == one.damping);
    CHECK(scaled.errors == one.errors);
}

TEST_CASE("choose_damping: inputs without tokens are rounded to the nearest", "[quantize][choose_damping]") {
    MatrixXd X = tokens(60, 12, 12), Y = tokens(40, 12, 13);
    X.col(3).setZero();
    const MatrixXd H = gram(X), V = gram(Y);
    const damping_choice choice = choose_damping(hessian(H), hessian(V));
    REQUIRE(choice.damping);
    for (const double error : choice.errors) CHECK(std::isfinite(error));
    const MatrixXd nothing = MatrixXd::Zero(12, 12);
    CHECK(choose_damping(hessian(H), hessian(nothing)).errors == std::vector<double>(magr::default_dampings.size(), 1.0));
    CHECK(choose_damping(hessian(nothing), hessian(V)).errors == std::vector<double>(magr::default_dampings.size(), 1.0));
}

TEST_CASE("choose_damping: a candidate that is too small for H counts as infinitely bad", "[quantize][choose_damping]") {
    const MatrixXd H = gram(tokens(5, 30, 14)), V = gram(tokens(40, 30, 15));
    const damping_choice some = choose_damping(hessian(H), hessian(V), std::vector<double>{0, 0.1});
    CHECK(std::isinf(some.errors[0]));
    CHECK(some.damping == 0.1);
    CHECK_FALSE(choose_damping(hessian(H), hessian(V), std::vector<double>{0}).damping);
}

TEST_CASE("choose_damping: refuses other sizes and impossible candidates", "[quantize][choose_damping]") {
    const MatrixXd H = gram(tokens(20, 5, 16)), V = gram(tokens(20, 6, 17));
    CHECK_THROWS_AS(choose_damping(hessian(H), hessian(V)), magr::shape_error);
    for (const double bad : {-0.1, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()})
        CHECK_THROWS_AS(choose_damping(hessian(H), hessian(H), std::vector<double>{0.01, bad}), magr::option_error);
    CHECK_THROWS_AS(choose_damping(hessian(H), hessian(H), std::vector<double>{}), magr::option_error);
}
