// SPDX-License-Identifier: MIT
#include <magr/matrix/xtensor.hpp>

#include <utility>
#include <vector>
#include <xtensor/xadapt.hpp>
#include <xtensor/xarray.hpp>
#include <xtensor/xfixed.hpp>
#include <xtensor/xindex_view.hpp>
#include <xtensor/xmanipulation.hpp>
#include <xtensor/xstrided_view.hpp>
#include <xtensor/xtensor.hpp>
#include <xtensor/xview.hpp>

#include "matrix/same_results.hpp"
#include "support/catch.hpp"

using magr::dense_matrix;
using magr::index_t;
using magr::mutable_dense_matrix;
using tests::inputs;
using tests::outputs;

namespace {

template <class T>
using tensor = xt::xtensor<T, 2>;
using fixed = xt::xtensor_fixed<float, xt::xshape<2, 3>>;

template <class Matrix>
auto elements_of(Matrix& m) {
    return [&m](index_t i, index_t j) -> auto& { return m(i, j); };
}

}  // namespace

static_assert(mutable_dense_matrix<tensor<float>&> && mutable_dense_matrix<xt::xarray<double>&> && mutable_dense_matrix<fixed&>);
static_assert(dense_matrix<const tensor<float>&> && !mutable_dense_matrix<const tensor<float>&>);
static_assert(!mutable_dense_matrix<decltype(xt::view(std::declval<const tensor<float>&>(), xt::all(), xt::range(0, 2)))>);
static_assert(!dense_matrix<decltype(std::declval<tensor<float>&>() + std::declval<tensor<float>&>())>);
static_assert(!dense_matrix<decltype(xt::view(std::declval<tensor<float>&>(), xt::keep(0, 2), xt::all()))>);
static_assert(!dense_matrix<tensor<int>>);

TEMPLATE_TEST_CASE("xtensor: its containers give the same bits as magr::matrix", "[matrix][xtensor]", float, double) {
    SECTION("a tensor by rows, and an array") {
        auto W = tensor<TestType>::from_shape({outputs, inputs});
        auto H = xt::xarray<TestType>::from_shape({inputs, inputs});
        tests::check_same_results(W, H, elements_of(W), elements_of(H));
    }
    SECTION("a tensor by columns") {
        auto W = xt::xtensor<TestType, 2, xt::layout_type::column_major>::from_shape({outputs, inputs});
        auto H = tensor<TestType>::from_shape({inputs, inputs});
        tests::check_same_results(W, H, elements_of(W), elements_of(H));
    }
    SECTION("an adaptor of a vector") {
        std::vector<TestType> memory(outputs * inputs);
        auto W = xt::adapt(memory, std::vector<std::size_t>{outputs, inputs});
        auto H = tensor<TestType>::from_shape({inputs, inputs});
        tests::check_same_results(W, H, elements_of(W), elements_of(H));
    }
}

TEMPLATE_TEST_CASE("xtensor: views of parts, every other column, backwards and transposed give the same bits as magr::matrix",
                   "[matrix][xtensor]", float, double) {
    auto H = tensor<TestType>::from_shape({inputs, inputs});
    xt::xtensor<TestType, 3> all(std::array<std::size_t, 3>{3, outputs + 2, 2 * inputs + 1}, TestType(7));
    const auto check = [&](auto&& W) {
        tests::check_same_results(W, H, elements_of(W), elements_of(H));
        CHECK(all(0, 1, 1) == 7);
        CHECK(all(1, 0, 1) == 7);
        CHECK(all(1, 1, 0) == 7);
        CHECK(all(2, outputs + 1, 2 * inputs) == 7);
    };
    SECTION("part") { check(xt::view(all, 1, xt::range(1, outputs + 1), xt::range(1, inputs + 1))); }
    SECTION("every other column") { check(xt::view(all, 1, xt::range(1, outputs + 1), xt::range(1, 2 * inputs + 1, 2))); }
    SECTION("backwards") { check(xt::strided_view(all, {1, xt::range(outputs, 0, -1), xt::range(inputs, 0, -1)})); }
    SECTION("transposed") {
        auto columns = tensor<TestType>::from_shape({inputs, outputs});
        check(xt::transpose(columns));
    }
}

TEST_CASE("xtensor: anything but two dimensions is refused at run time", "[matrix][xtensor][error]") {
    const xt::xarray<float> cube = xt::xarray<float>::from_shape({2, 3, 4});
    CHECK_THROWS_AS(magr::as_view(cube), magr::shape_error);
    CHECK_THROWS_WITH(magr::as_view(cube), "as_view: an array of xtensor must have 2 dimensions, it has 3");
    xt::xtensor<float, 1> row = xt::xtensor<float, 1>::from_shape({4});
    CHECK_THROWS_WITH(magr::as_mutable_view(row), "as_view: an array of xtensor must have 2 dimensions, it has 1");
}

TEST_CASE("xtensor: a matrix of one row or column is seen where it is", "[matrix][xtensor][edge]") {
    tensor<float> row = tensor<float>::from_shape({1, 5}), column = tensor<float>::from_shape({5, 1});
    CHECK(&magr::as_view(row)(0, 4) == &row(0, 4));
    CHECK(&magr::as_view(column)(4, 0) == &column(4, 0));
    fixed f;
    CHECK(&magr::as_view(f)(1, 2) == &f(1, 2));
}
