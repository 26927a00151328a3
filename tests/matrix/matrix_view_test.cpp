// SPDX-License-Identifier: MIT
#include <magr/matrix/matrix_view.hpp>

#include <numeric>
#include <type_traits>
#include <vector>

#include "support/catch.hpp"

using magr::index_t;
using magr::matrix_layout;
using magr::matrix_view;

namespace {

std::vector<float> counting(int n) {
    std::vector<float> values(static_cast<std::size_t>(n));
    std::iota(values.begin(), values.end(), 0.0f);
    return values;
}

}  // namespace

// Views are passed by value everywhere, so a view must stay a few words without behaviour.
static_assert(std::is_trivially_copyable_v<matrix_view<float>>);
static_assert(std::is_nothrow_default_constructible_v<matrix_view<float>>);

// A writable view converts to a readable one, never the other way round.
static_assert(std::is_convertible_v<matrix_view<float>, matrix_view<const float>>);
static_assert(!std::is_convertible_v<matrix_view<const float>, matrix_view<float>>);
static_assert(!std::is_convertible_v<matrix_view<float>, matrix_view<double>>);

static_assert(std::is_same_v<decltype(matrix_view(static_cast<float*>(nullptr), 2, 3)), matrix_view<float>>);
static_assert(std::is_same_v<decltype(matrix_view(static_cast<const double*>(nullptr), 2, 3, 4)), matrix_view<const double>>);
static_assert(std::is_same_v<decltype(matrix_view(static_cast<float*>(nullptr), 2, 3, 2, matrix_layout::col_major)), matrix_view<float>>);

TEST_CASE("matrix_view: a default one is empty", "[matrix][matrix_view][edge]") {
    const matrix_view<float> m;
    CHECK(m.data() == nullptr);
    CHECK(m.rows() == 0);
    CHECK(m.cols() == 0);
    CHECK(m.empty());
}

TEST_CASE("matrix_view: is empty if either side is", "[matrix][matrix_view][edge]") {
    float value = 0;
    CHECK(matrix_view(&value, 0, 5).empty());
    CHECK(matrix_view(&value, 5, 0).empty());
    CHECK_FALSE(matrix_view(&value, 1, 1).empty());
}

TEST_CASE("matrix_view: three arguments mean rows without a gap", "[matrix][matrix_view]") {
    auto values = counting(6);
    const matrix_view m(values.data(), 2, 3);
    CHECK(m.row_stride() == 3);
    CHECK(m.col_stride() == 1);
    CHECK(m(0, 2) == 2);
    CHECK(m(1, 0) == 3);
}

TEST_CASE("matrix_view: the leading dimension skips what lies between rows or columns", "[matrix][matrix_view]") {
    auto values = counting(20);
    const matrix_view rows(values.data(), 2, 3, 7);
    CHECK(rows(0, 2) == 2);
    CHECK(rows(1, 0) == 7);
    CHECK(rows(1, 2) == 9);
    const matrix_view columns(values.data(), 2, 3, 7, matrix_layout::col_major);
    CHECK(columns(1, 0) == 1);
    CHECK(columns(0, 1) == 7);
    CHECK(columns(1, 2) == 15);
}

TEST_CASE("matrix_view: both strides can be given", "[matrix][matrix_view]") {
    auto values = counting(40);
    const auto m = matrix_view<float>::with_strides(values.data() + 1, 3, 4, 10, 2);
    for (index_t i = 0; i < 3; ++i)
        for (index_t j = 0; j < 4; ++j) CHECK(m(i, j) == static_cast<float>(1 + 10 * i + 2 * j));
}

TEST_CASE("matrix_view: a negative stride walks backwards", "[matrix][matrix_view][edge]") {
    auto values = counting(6);
    const auto flipped = matrix_view<float>::with_strides(values.data() + 5, 2, 3, -3, -1);
    CHECK(flipped(0, 0) == 5);
    CHECK(flipped(0, 2) == 3);
    CHECK(flipped(1, 2) == 0);
}

TEST_CASE("matrix_view: writes go to the memory it was given", "[matrix][matrix_view]") {
    auto values = counting(12);
    const matrix_view m(values.data(), 3, 4);
    m(2, 1) = -1;
    CHECK(values[9] == -1);
}

TEST_CASE("matrix_view: transposed swaps shape and strides over the same elements", "[matrix][matrix_view][property]") {
    auto values = counting(40);
    const matrix_view m(values.data(), 4, 5, 9);
    const auto t = m.transposed();
    REQUIRE(t.rows() == 5);
    REQUIRE(t.cols() == 4);
    for (index_t i = 0; i < m.rows(); ++i)
        for (index_t j = 0; j < m.cols(); ++j) CHECK(&t(j, i) == &m(i, j));
    const auto twice = t.transposed();
    CHECK(twice.row_stride() == m.row_stride());
    CHECK(twice.col_stride() == m.col_stride());
}

TEST_CASE("matrix_view: a block shares the elements of its matrix", "[matrix][matrix_view][property]") {
    auto values = counting(40);
    for (const auto& m : {matrix_view(values.data(), 4, 5, 9), matrix_view(values.data(), 4, 5, 6, matrix_layout::col_major)}) {
        const auto b = m.block(1, 2, 2, 3);
        REQUIRE(b.rows() == 2);
        REQUIRE(b.cols() == 3);
        for (index_t i = 0; i < 2; ++i)
            for (index_t j = 0; j < 3; ++j) CHECK(&b(i, j) == &m(1 + i, 2 + j));
        CHECK(&b.transposed()(2, 1) == &m(2, 4));
        CHECK(b.block(1, 1, 1, 0).empty());
    }
}

TEST_CASE("matrix_view: can be used in constant expressions", "[matrix][matrix_view]") {
    static constexpr float values[] = {1, 2, 3, 4, 5, 6};
    constexpr matrix_view m(values, 2, 3);
    static_assert(m(1, 2) == 6);
    static_assert(m.transposed()(2, 1) == 6);
    static_assert(m.block(1, 1, 1, 2)(0, 1) == 6);
    SUCCEED();
}
