// SPDX-License-Identifier: MIT
#include <magr/calibration/gram_by_length.hpp>
#include <magr/calibration/range_vs_length.hpp>
#include <magr/calibration/resegment.hpp>

#include <Eigen/Core>
#include <array>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <vector>

#include <magr/calibration/hessian.hpp>

#include "support/catch.hpp"
#include "support/random_matrix.hpp"

using Eigen::MatrixXd;
using magr::index_t;
using tests::random_matrix;

TEST_CASE("resegment: whole pieces in order, and the rest is dropped", "[calibration][length]") {
    std::vector<std::int32_t> ids(10);
    std::iota(ids.begin(), ids.end(), 100);
    const std::vector<std::array<index_t, 2>> expected{{1, 10}, {3, 3}, {4, 2}, {10, 1}, {11, 0}};
    for (const auto& [length, count] : expected) {
        CAPTURE(length);
        const auto pieces = magr::resegment(ids, length);
        REQUIRE(static_cast<index_t>(pieces.size()) == count);
        std::int32_t next = 100;
        for (const auto& piece : pieces) {
            CHECK(static_cast<index_t>(piece.size()) == length);
            for (const std::int32_t id : piece) CHECK(id == next++);
        }
    }
    CHECK(magr::resegment(ids, 4)[1].data() == ids.data() + 4);  // views, not copies
    CHECK(magr::resegment(ids, std::numeric_limits<index_t>::max()).empty());
    CHECK(magr::resegment(std::span<const std::int32_t>(ids).first(7), 3).size() == 2);
    const std::array<std::uint16_t, 5> few{1, 2, 3, 4, 5};
    CHECK(magr::resegment(few, 2).back().back() == 4);
    std::vector<std::int64_t> none;
    CHECK(magr::resegment(none, 1).empty());
}

TEST_CASE("resegment: a length below 1 is refused", "[calibration][length]") {
    const std::vector<int> ids{1, 2, 3};
    for (const index_t length : {index_t{0}, index_t{-1}, std::numeric_limits<index_t>::min()})
        CHECK_THROWS_AS(magr::resegment(ids, length), magr::option_error);
}

TEST_CASE("gram_by_length: the Gram matrix of each length is that of an accumulator of its tokens", "[calibration][length]") {
    const MatrixXd X = random_matrix(300, 6, 1);
    magr::gram_by_length<> grams(6);
    magr::gram_accumulator<> brief(6), lengthy(6);
    for (index_t t = 0; t < 200; t += 20) {
        grams.add(20, X.middleRows(t, 20));
        brief.add(X.middleRows(t, 20));
    }
    grams.add(7, X.middleRows(250, 3));  // some tokens of sequences of 7
    grams.add(100, X.middleRows(200, 100));
    lengthy.add(X.middleRows(200, 100));
    CHECK(grams.inputs() == 6);
    CHECK(grams.lengths() == std::vector<index_t>{7, 20, 100});
    CHECK(grams.at(20).gram() == brief.gram());
    CHECK(grams.at(20).tokens() == 200);
    CHECK(grams.at(100).gram() == lengthy.gram());
    CHECK(magr::hessian(grams.at(7)).tokens() == 3);
}

TEMPLATE_TEST_CASE("gram_by_length: refused batches leave no length and no token", "[calibration][length]", float, double) {
    magr::gram_by_length<TestType> grams(4);
    CHECK_THROWS_AS(magr::gram_by_length<TestType>(0), magr::shape_error);
    MatrixXd good = random_matrix(5, 4, 2), narrow = random_matrix(5, 3, 2), bad = good;
    bad(4, 0) = std::numeric_limits<double>::quiet_NaN();
    CHECK_THROWS_AS(grams.add(0, good), magr::option_error);
    CHECK_THROWS_AS(grams.add(-5, good), magr::option_error);
    CHECK_THROWS_AS(grams.add(5, narrow), magr::shape_error);
    CHECK_THROWS_AS(grams.add(5, bad), magr::value_error);
    CHECK(grams.lengths().empty());
    CHECK_THROWS_AS(grams.at(5), magr::option_error);
    grams.add(5, good);
    CHECK_THROWS_AS(grams.add(5, bad), magr::value_error);
    CHECK(grams.at(5).tokens() == 5);
    CHECK_THROWS_AS(grams.at(6), magr::option_error);
}

TEST_CASE("range_vs_length: compares lengths at the same number of tokens", "[calibration][length]") {
    magr::range_vs_length ranges(2);
    CHECK(ranges.ranges().empty());
    MatrixXd brief(4, 2), lengthy(2, 2);
    brief << 1, -3, 2, 0, 0.5, 0.5, -100, 0;  // the last two tokens are beyond those of the other length
    lengthy << -8, 1, 4, 4;
    ranges.add(2, brief.topRows(2));
    ranges.add(2, brief.bottomRows(2));
    ranges.add(8, lengthy);
    ranges.add(9, brief.topRows(3));
    const auto found = ranges.ranges();
    REQUIRE(found.size() == 3);
    CHECK(found[2].tokens == 2);
    CHECK(found[0].length == 2);
    CHECK(found[1].length == 8);
    CHECK(found[0].tokens == 2);
    CHECK(found[1].tokens == 2);
    CHECK(found[0].largest == 3);
    CHECK(found[0].mean_largest == 2.5);
    CHECK(found[1].largest == 8);
    CHECK(found[1].mean_largest == 6);
}

TEMPLATE_TEST_CASE("range_vs_length: every storage type and layout, and the largest numbers", "[calibration][length]", float, double,
                   Eigen::half, Eigen::bfloat16) {
    const Eigen::Matrix<TestType, Eigen::Dynamic, Eigen::Dynamic> X = random_matrix(50, 130, 4).cast<TestType>();
    magr::range_vs_length ranges(130);
    ranges.add(10, X);
    const Eigen::VectorXd maxima = X.template cast<double>().cwiseAbs().rowwise().maxCoeff();
    CHECK(ranges.ranges()[0].largest == maxima.maxCoeff());
    CHECK(ranges.ranges()[0].mean_largest == Approx(maxima.mean()).epsilon(1e-14));
    magr::range_vs_length huge(1);
    huge.add(1, MatrixXd::Constant(9, 1, std::numeric_limits<double>::max()).eval());
    CHECK(huge.ranges()[0].mean_largest == Approx(std::numeric_limits<double>::max()));
}

TEST_CASE("range_vs_length: refused batches leave no length and no token", "[calibration][length]") {
    CHECK_THROWS_AS(magr::range_vs_length(0), magr::shape_error);
    magr::range_vs_length ranges(3);
    MatrixXd good = random_matrix(2, 3, 5), bad = good;
    bad(1, 2) = std::numeric_limits<double>::infinity();
    CHECK_THROWS_AS(ranges.add(0, good), magr::option_error);
    CHECK_THROWS_AS(ranges.add(4, MatrixXd(0, 3)), magr::shape_error);
    CHECK_THROWS_AS(ranges.add(4, MatrixXd::Ones(2, 4).eval()), magr::shape_error);
    CHECK_THROWS_AS(ranges.add(4, bad), magr::value_error);
    CHECK(ranges.ranges().empty());
    ranges.add(4, good);
    CHECK_THROWS_AS(ranges.add(4, bad), magr::value_error);
    CHECK(ranges.ranges()[0].tokens == 2);
}
