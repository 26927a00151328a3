// SPDX-License-Identifier: MIT
#include <magr/calibration/column_order.hpp>

#include <Eigen/Core>
#include <cmath>
#include <vector>

#include <magr/matrix/eigen.hpp>

#include "support/catch.hpp"

using magr::column_order;
using magr::index_t;

TEST_CASE("order_columns: by decreasing diagonal, equal entries in their order", "[quantize][column_order]") {
    Eigen::MatrixXf H = Eigen::MatrixXf::Constant(6, 6, 9);  // only the diagonal counts
    H.diagonal() << 2, 0, 5, 2, 5, 1;
    const auto view = magr::as_const_view(H);
    CHECK(magr::order_columns(view, column_order::natural, 2) == std::vector<index_t>{0, 1, 2, 3, 4, 5});
    CHECK(magr::order_columns(view, column_order::act_order, 2) == std::vector<index_t>{2, 4, 0, 3, 5, 1});
    CHECK(magr::order_columns(view, column_order::reversed, 2) == std::vector<index_t>{5, 4, 3, 2, 1, 0});
}

TEST_CASE("order_columns: group-aware keeps groups together, sorted inside and among each other", "[quantize][column_order]") {
    Eigen::MatrixXf H = Eigen::MatrixXf::Zero(8, 8);
    H.diagonal() << 2, 0, 5, /**/ 1, 7, 7, /**/ 3, 6;  // groups of 3, the last one shorter
    const auto view = magr::as_const_view(H);
    CHECK(magr::order_columns(view, column_order::group_aware, 3) == std::vector<index_t>{4, 5, 3, 7, 6, 2, 0, 1});
    CHECK(magr::order_columns(view, column_order::group_aware, 8) == magr::order_columns(view, column_order::act_order, 8));
    CHECK(magr::order_columns(view, column_order::group_aware, 100) == magr::order_columns(view, column_order::act_order, 8));
    CHECK(magr::order_columns(view, column_order::group_aware, 1) == magr::order_columns(view, column_order::act_order, 1));
}

TEST_CASE("order_columns: refuses what has no order", "[quantize][column_order][errors]") {
    Eigen::MatrixXd H = Eigen::MatrixXd::Identity(3, 3);
    const auto view = magr::as_const_view(H);
    CHECK_THROWS_AS(magr::order_columns(magr::as_const_view(Eigen::MatrixXd(0, 0)), column_order::natural, 1), magr::shape_error);
    CHECK_THROWS_AS(magr::order_columns(view.block(0, 0, 2, 3), column_order::natural, 1), magr::shape_error);
    CHECK_THROWS_AS(magr::order_columns(view, static_cast<column_order>(4), 1), magr::option_error);
    CHECK_THROWS_AS(magr::order_columns(view, column_order::group_aware, 0), magr::option_error);
    H(1, 1) = std::nan("");
    CHECK_THROWS_WITH(magr::order_columns(view, column_order::act_order, 1),
                      "order_columns: H must be finite, entry (row 1, column 1) is nan");
}
