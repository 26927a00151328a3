// SPDX-License-Identifier: MIT
#include <magr/matrix/dense_matrix.hpp>

#include <Eigen/Core>
#include <string>
#include <type_traits>
#include <vector>

#include <magr/matrix/matrix.hpp>

#include "support/catch.hpp"

namespace {

/// A type that an engine might have: columns of bfloat16, padded.
struct tensor {
    std::vector<Eigen::bfloat16> storage;
    int channels;
    int inputs;
    int pitch;
};

/// A type whose `view` is not a view.
struct scalar_field {};

/// A type whose elements no algorithm supports.
struct integer_tensor {
    int value;
};

}  // namespace

template <>
struct magr::matrix_traits<tensor> {
    static magr::matrix_view<Eigen::bfloat16> view(tensor& t) {
        return {t.storage.data(), t.channels, t.inputs, t.pitch, magr::matrix_layout::col_major};
    }
    static magr::matrix_view<const Eigen::bfloat16> view(const tensor& t) {
        return {t.storage.data(), t.channels, t.inputs, t.pitch, magr::matrix_layout::col_major};
    }
};

template <>
struct magr::matrix_traits<scalar_field> {
    static float view(const scalar_field&) { return 0; }
};

template <>
struct magr::matrix_traits<integer_tensor> {
    static magr::matrix_view<int> view(integer_tensor& t) { return {&t.value, 1, 1}; }
};

using magr::dense_matrix;
using magr::matrix;
using magr::matrix_view;
using magr::mutable_dense_matrix;

static_assert(mutable_dense_matrix<matrix_view<float>>);
static_assert(mutable_dense_matrix<const matrix_view<float>&>);  // as with a pointer: the view is const, its elements are not
static_assert(dense_matrix<matrix_view<const float>> && !mutable_dense_matrix<matrix_view<const float>>);
static_assert(mutable_dense_matrix<matrix<double>&>);
static_assert(dense_matrix<const matrix<double>&> && !mutable_dense_matrix<const matrix<double>&>);
static_assert(mutable_dense_matrix<tensor&>);
static_assert(dense_matrix<const tensor&> && !mutable_dense_matrix<const tensor&>);

static_assert(!dense_matrix<int> && !dense_matrix<float*> && !dense_matrix<std::vector<float>> && !dense_matrix<std::string>);
static_assert(!dense_matrix<matrix_view<int>> && !dense_matrix<matrix<unsigned char>>);
static_assert(!dense_matrix<scalar_field> && !dense_matrix<integer_tensor&>);

TEST_CASE("as_view: a type with matrix_traits is seen as its traits say", "[matrix][dense_matrix]") {
    tensor t{std::vector<Eigen::bfloat16>(24), 3, 4, 6};
    const auto view = magr::as_mutable_view(t);
    REQUIRE(view.rows() == 3);
    REQUIRE(view.cols() == 4);
    view(2, 3) = Eigen::bfloat16(1.5f);
    CHECK(static_cast<float>(t.storage[20]) == 1.5f);
    const tensor& constant = t;
    CHECK(static_cast<float>(magr::as_view(constant)(2, 3)) == 1.5f);
}

TEST_CASE("as_view: a view is its own view", "[matrix][dense_matrix]") {
    float values[6] = {};
    const auto m = matrix_view<float>::with_strides(values, 2, 3, 1, 2);
    const auto v = magr::as_view(m);
    CHECK(v.data() == m.data());
    CHECK(v.rows() == 2);
    CHECK(v.cols() == 3);
    CHECK(v.row_stride() == 1);
    CHECK(v.col_stride() == 2);
}

TEST_CASE("as_const_view: makes any matrix read-only over the same elements", "[matrix][dense_matrix]") {
    matrix<float> m(2, 3);
    m(1, 2) = 7;
    const auto v = magr::as_const_view(m);
    static_assert(std::is_same_v<decltype(v), const matrix_view<const float>>);
    CHECK(&v(1, 2) == &m(1, 2));
    static_assert(std::is_same_v<decltype(magr::as_const_view(v)), matrix_view<const float>>);
}
