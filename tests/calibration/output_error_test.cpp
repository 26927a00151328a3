// SPDX-License-Identifier: MIT
#include <magr/calibration/output_error.hpp>

#include <Eigen/Core>
#include <cmath>

#include <magr/matrix/eigen.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/parallel/thread_pool.hpp>

#include "quantize/layers.hpp"
#include "support/catch.hpp"

using Eigen::MatrixXd;
using magr::index_t;
using magr::output_error;

TEST_CASE("output_error: equals the error of the outputs themselves", "[quantize][output_error][oracle]") {
    std::mt19937 random(1);
    for (const index_t rows : {1, 5, 300})  // more rows than a panel
        for (const index_t cols : {1, 2, 127, 129, 300}) {
            const MatrixXd X = layers::normal_matrix(40, cols, random);
            const MatrixXd H = X.transpose() * X;
            const MatrixXd W = layers::normal_matrix(rows, cols, random);
            const MatrixXd Q = W + 0.01 * layers::normal_matrix(rows, cols, random);
            const double expected = (X * (Q - W).transpose()).squaredNorm() / (X * W.transpose()).squaredNorm();
            CAPTURE(rows, cols);
            CHECK(output_error(W, Q, H) == Approx(expected).epsilon(1e-9));
        }
}

TEST_CASE("output_error: takes any storage and layout", "[quantize][output_error][property]") {
    std::mt19937 random(2);
    using rows_of_half = Eigen::Matrix<Eigen::half, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    const MatrixXd X = layers::normal_matrix(30, 9, random);
    const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> H = (X.transpose() * X).cast<float>();
    const rows_of_half W = layers::normal_matrix(4, 9, random).cast<Eigen::half>();
    const Eigen::MatrixXf Q = W.cast<float>().array() + 0.125F;
    const double expected = output_error(MatrixXd(W.cast<double>()), MatrixXd(Q.cast<double>()), MatrixXd(H.cast<double>()));
    CHECK(expected > 0);
    CHECK(output_error(W, Q, H) == expected);
    magr::matrix<float> owned(4, 9);
    for (index_t i = 0; i < 4; ++i)
        for (index_t j = 0; j < 9; ++j) owned(i, j) = Q(i, j);
    CHECK(output_error(W, owned, H) == expected);
}

TEST_CASE("output_error: the same bits for every executor", "[quantize][output_error][determinism]") {
    const layers::layer l = layers::make_layer(700, 40, layers::inputs::neighbours, 5);
    const MatrixXd Q = (8 * l.W).array().round() / 8;
    const double serial = magr::output_error(l.W, Q, l.H);
    CHECK(serial > 0);
    for (const index_t workers : {2, 7}) {
        magr::thread_pool pool(workers);
        CHECK(magr::output_error(l.W, Q, l.H, pool) == serial);
    }
}

TEST_CASE("output_error: zero over zero is zero, anything else over zero infinite", "[quantize][output_error][edge]") {
    const MatrixXd H = MatrixXd::Identity(3, 3);
    const MatrixXd zero = MatrixXd::Zero(2, 3);
    const MatrixXd one = MatrixXd::Ones(2, 3);
    CHECK(output_error(zero, zero, H) == 0);
    CHECK(output_error(one, one, H) == 0);
    CHECK(std::isinf(output_error(zero, one, H)));
    CHECK(output_error(one, zero, H) == 1);
}

TEST_CASE("output_error: refuses what does not fit", "[quantize][output_error][edge]") {
    const MatrixXd W = MatrixXd::Ones(2, 3);
    const MatrixXd H = MatrixXd::Identity(3, 3);
    MatrixXd bad = W;
    bad(1, 2) = std::nan("");
    CHECK_THROWS_AS(output_error(W, MatrixXd(MatrixXd::Ones(3, 2)), H), magr::shape_error);
    CHECK_THROWS_AS(output_error(W, W, MatrixXd(MatrixXd::Identity(2, 2))), magr::shape_error);
    CHECK_THROWS_AS(output_error(MatrixXd(0, 3), MatrixXd(0, 3), H), magr::shape_error);
    CHECK_THROWS_AS(output_error(bad, W, H), magr::value_error);
    CHECK_THROWS_WITH(output_error(W, bad, H), "output_error: Q must be finite, entry (row 1, column 2) is nan");
}

TEST_CASE("output_error: is right for weights and matrices of any size, and blind to dead inputs", "[quantize][output_error][edge]") {
    std::mt19937 random(5);
    std::normal_distribution<double> normal;
    MatrixXd W(4, 3), Q(4, 3), X(9, 3);
    for (MatrixXd* m : {&W, &Q, &X})
        for (index_t i = 0; i < m->size(); ++i) m->data()[i] = normal(random);
    MatrixXd H = X.transpose() * X;
    const double expected = output_error(W, Q, H);
    for (const double w : {1e-300, 1e-170, 1e170, 1e307})
        for (const double h : {1e-300, 1.0, 1e305}) CHECK(output_error((w * W).eval(), (w * Q).eval(), (h * H).eval()) == Approx(expected));
    CHECK(output_error(W, Q, MatrixXd(MatrixXd::Zero(3, 3))) == 0);
    H.row(1).setZero();
    H.col(1).setZero();
    const double without = output_error(W, Q, H);
    W.col(1).setConstant(1e308);
    Q.col(1).setConstant(-1e308);
    CHECK(output_error(W, Q, H) == without);
}
