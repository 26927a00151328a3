// SPDX-License-Identifier: MIT
#include <magr/transform/column_scaling.hpp>

#include <Eigen/Core>
#include <limits>
#include <span>
#include <vector>

#include <magr/error.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/transform/transform.hpp>

#include "support/catch.hpp"
#include "support/random_matrix.hpp"

using Eigen::MatrixXd;
using tests::random_matrix;

static_assert(magr::layer_transform<magr::column_scaling>);

TEST_CASE("column_scaling: keeps outputs and the cost of errors, and is undone exactly by powers of two", "[transform]") {
    const MatrixXd W = random_matrix(5, 4, 1), X = random_matrix(9, 4, 2), E = random_matrix(5, 4, 3), H = X.transpose() * X;
    const magr::column_scaling scaling({2, 0.25, 8, 1});
    MatrixXd scaled = W, error = E, gram = H;
    scaling.weights(magr::as_view(scaled));
    scaling.weights(magr::as_view(error));
    scaling.gram(magr::as_view(gram));
    CHECK((error * gram * error.transpose()).trace() == Approx((E * H * E.transpose()).trace()).epsilon(1e-12));
    for (Eigen::Index t = 0; t < X.rows(); ++t) {
        Eigen::VectorXd x = X.row(t), y;
        scaling.input(std::span<double>(x.data(), 4));
        y = scaled * x;
        scaling.output(std::span<double>(y.data(), 5));
        CHECK((y - W * X.row(t).transpose()).norm() <= 1e-13 * y.norm());
    }
    scaling.undo(magr::as_view(scaled));
    CHECK(scaled == W);
}

TEST_CASE("column_scaling: bad factors and sizes are refused before any write", "[transform]") {
    for (const double bad : {0.0, -1.0, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()})
        CHECK_THROWS_AS(magr::column_scaling({1, bad}), magr::value_error);
    const magr::column_scaling scaling({2, 3});
    MatrixXd W = random_matrix(3, 3, 1), H = random_matrix(2, 3, 1);
    const MatrixXd before = W, before_H = H;
    CHECK_THROWS_AS(scaling.weights(magr::as_view(W)), magr::shape_error);
    CHECK_THROWS_AS(scaling.undo(magr::as_view(W)), magr::shape_error);
    CHECK_THROWS_AS(scaling.gram(magr::as_view(H)), magr::shape_error);
    CHECK_THROWS_AS(scaling.input(std::span<double>(W.data(), 3)), magr::shape_error);
    CHECK(W == before);
    CHECK(H == before_H);
}
