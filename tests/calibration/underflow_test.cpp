// SPDX-License-Identifier: MIT
#include <magr/calibration/underflow.hpp>

#include <Eigen/Core>
#include <limits>

#include <magr/calibration/output_error.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/parallel/thread_pool.hpp>

#include "quantize/layers.hpp"
#include "support/catch.hpp"

using Eigen::MatrixXd;
using magr::measure_underflow;

TEST_CASE("measure_underflow: the parts are those of the definition, and with the cross term they add up",
          "[calibration][underflow][oracle]") {
    for (const auto kind : layers::all_inputs) {
        const auto [W, H] = layers::make_layer(6, 15, kind, 1);
        const MatrixXd Q = W.array().round(), E = Q - W;
        const MatrixXd du = (Q.array() == 0).select(E, 0.0), dr = E - du;
        const double energy = (W * H * W.transpose()).trace();
        const auto report = measure_underflow(W, Q, H);
        CAPTURE(kind);
        CHECK(report.underflow == Approx((du * H * du.transpose()).trace() / energy));
        CHECK(report.rest == Approx((dr * H * dr.transpose()).trace() / energy));
        CHECK(report.cross == Approx(2 * (du * H * dr.transpose()).trace() / energy).margin(1e-12));
        CHECK(report.total == magr::output_error(W, Q, H));
        CHECK(std::abs(report.cross) > 1e-6);
        magr::thread_pool pool(3);
        CHECK(measure_underflow(W, Q, H, pool).cross == report.cross);
    }
}

TEST_CASE("measure_underflow: everything or nothing becomes 0, and layers without output", "[calibration][underflow][edge]") {
    const auto [W, H] = layers::make_layer(2, 3, layers::inputs::neighbours, 2);
    const auto all = measure_underflow(W, MatrixXd(MatrixXd::Zero(2, 3)), H);
    CHECK(all.underflow == Approx(1));
    CHECK(all.rest == 0);
    const auto none = measure_underflow(W, W, H);
    CHECK(none.underflow == 0);
    CHECK(none.rest == 0);
    CHECK(none.cross == 0);
    const auto silent = measure_underflow(MatrixXd(MatrixXd::Zero(2, 3)), W, H);
    CHECK(silent.rest == std::numeric_limits<double>::infinity());
    CHECK(silent.cross == 0);
    const auto dead = measure_underflow(W, MatrixXd(MatrixXd::Zero(2, 3)), MatrixXd(MatrixXd::Zero(3, 3)));
    CHECK(dead.total == 0);
}

TEST_CASE("measure_underflow: bad input is refused", "[calibration][underflow][contract]") {
    const MatrixXd W = MatrixXd::Ones(2, 3), H = MatrixXd::Identity(3, 3);
    MatrixXd bad = W;
    bad(0, 1) = std::numeric_limits<double>::infinity();
    CHECK_THROWS_AS(measure_underflow(bad, W, H), magr::value_error);
    CHECK_THROWS_AS(measure_underflow(W, bad, H), magr::value_error);
    CHECK_THROWS_AS(measure_underflow(W, MatrixXd(MatrixXd::Ones(2, 2)), H), magr::shape_error);
    CHECK_THROWS_AS(measure_underflow(W, W, MatrixXd(MatrixXd::Identity(2, 2))), magr::shape_error);
}
