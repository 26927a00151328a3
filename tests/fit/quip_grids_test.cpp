// SPDX-License-Identifier: MIT
#include <magr/fit/quip_grids.hpp>

#include <Eigen/Core>
#include <cmath>
#include <limits>

#include <magr/error.hpp>
#include <magr/matrix/eigen.hpp>

#include "support/catch.hpp"
#include "support/random_matrix.hpp"

using Eigen::MatrixXd;
using Eigen::MatrixXf;
using magr::index_t;
using magr::quip_grids;
using tests::random_matrix;

TEST_CASE("quip_grids: one symmetric grid of half-integer zero point for the whole matrix", "[grid][quip]") {
    const MatrixXd W = random_matrix(7, 12, 1);
    for (const int bits : {2, 3, 4, 8}) {
        const double maxq = (1 << bits) - 1, s = 2.4 * std::sqrt(W.squaredNorm() / 84);
        const auto grids = quip_grids(W, bits);
        magr::require_grids("test", grids, 7, 12);
        CHECK(grids.zero_point == magr::zero_point::real);
        CHECK(grids.group_size == 12);
        for (index_t i = 0; i < 7; ++i) {
            CHECK(grids.scales(i, 0) == Approx(2 * s / maxq).epsilon(1e-14));
            CHECK(grids.zeros(i, 0) == maxq / 2);
        }
        const auto in_float = quip_grids(MatrixXf(W.cast<float>()), bits);
        CHECK(in_float.scales(3, 0) == Approx(2 * s / maxq).epsilon(1e-6));
    }
}

TEST_CASE("quip_grids: any size of weights", "[grid][quip]") {
    const MatrixXd W = random_matrix(3, 5, 2);
    const double scale = quip_grids(W, 3).scales(0, 0);
    CHECK(quip_grids(MatrixXd(W * 0x1p1000), 3).scales(0, 0) == scale * 0x1p1000);
    CHECK(quip_grids(MatrixXd(W * 0x1p-900), 3).scales(0, 0) == scale * 0x1p-900);
    for (const double size : {std::numeric_limits<double>::max(), std::numeric_limits<double>::denorm_min()})
        magr::require_grids("test", quip_grids(MatrixXd(MatrixXd::Constant(3, 5, size)), 3), 3, 5);
    for (const float size : {std::numeric_limits<float>::max(), std::numeric_limits<float>::denorm_min()})
        magr::require_grids("test", quip_grids(MatrixXf(MatrixXf::Constant(3, 5, size)), 8), 3, 5);
    const auto zeros = quip_grids(MatrixXd(MatrixXd::Zero(3, 5)), 2);
    CHECK(zeros.scales(2, 0) == Approx(2e-16 / 3));
}

TEST_CASE("quip_grids: bad arguments are refused", "[grid][quip]") {
    MatrixXd W = random_matrix(3, 5, 2);
    CHECK_THROWS_WITH(quip_grids(W, 1), "quip_grids: bits must be in 2..8, it is 1");
    CHECK_THROWS_AS(quip_grids(W, 9), magr::option_error);
    CHECK_THROWS_AS(quip_grids(MatrixXd(0, 5), 2), magr::shape_error);
    W(1, 1) = std::numeric_limits<double>::quiet_NaN();
    CHECK_THROWS_AS(quip_grids(W, 2), magr::value_error);
}
