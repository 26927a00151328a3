// SPDX-License-Identifier: MIT
#include <magr/matrix/matrix.hpp>

#include <cstdint>
#include <limits>
#include <utility>

#include "support/catch.hpp"

using magr::index_t;
using magr::matrix;

TEST_CASE("matrix: a default one is empty", "[matrix][edge]") {
    const matrix<float> m;
    CHECK(m.rows() == 0);
    CHECK(m.cols() == 0);
    CHECK(m.empty());
}

TEST_CASE("matrix: keeps its shape if one side is zero", "[matrix][edge]") {
    const matrix<float> m(0, 5);
    CHECK(m.cols() == 5);
    CHECK(m.empty());
    CHECK(m.view().cols() == 5);
}

TEMPLATE_TEST_CASE("matrix: starts as zeros and is row-major without gaps", "[matrix]", float, double, std::uint8_t) {
    matrix<TestType> m(3, 4);
    for (index_t i = 0; i < 3; ++i)
        for (index_t j = 0; j < 4; ++j) {
            CHECK(m(i, j) == TestType(0));
            CHECK(&m(i, j) == m.data() + 4 * i + j);
        }
    CHECK_FALSE(m.empty());
}

TEST_CASE("matrix: copies its elements and compares them", "[matrix]") {
    matrix<float> m(2, 3);
    m(1, 1) = 2;
    matrix<float> copy = m;
    CHECK(copy == m);
    copy(0, 0) = 1;
    CHECK(m(0, 0) == 0);
    CHECK(copy != m);
    CHECK(matrix<float>(2, 3) != matrix<float>(3, 2));
}

TEST_CASE("matrix: moves without copying", "[matrix]") {
    matrix<float> m(2, 3);
    const float* const data = m.data();
    const matrix<float> moved = std::move(m);
    CHECK(moved.data() == data);
    CHECK(moved.rows() == 2);
}

TEST_CASE("matrix: a negative size and one that overflows are refused", "[matrix][error]") {
    constexpr index_t large = std::numeric_limits<index_t>::max() / 2;
    CHECK_THROWS_AS(matrix<float>(-1, 2), magr::shape_error);
    CHECK_THROWS_AS(matrix<float>(-1, -1), magr::shape_error);
    CHECK_THROWS_AS(matrix<float>(large, 4), magr::shape_error);
    CHECK_THROWS_AS(matrix<std::uint8_t>(large, large), magr::shape_error);
    CHECK_THROWS_WITH(matrix<float>(-1, 2),
                      "matrix: rows and columns must not be negative, and their product must fit into index_t, it is -1 x 2");
}
