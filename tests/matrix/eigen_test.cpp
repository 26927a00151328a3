// SPDX-License-Identifier: MIT
#include <magr/matrix/eigen.hpp>

#include <Eigen/Core>
#include <complex>
#include <type_traits>
#include <vector>

#include "support/catch.hpp"

using magr::dense_matrix;
using magr::index_t;
using magr::mutable_dense_matrix;

namespace {

template <class Scalar, int Order>
using dynamic_matrix = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Order>;

/// Every element of the view must be the element of the matrix itself, not a copy.
template <class Matrix>
void check_same_elements(Matrix&& m) {
    const auto v = magr::as_view(m);
    static_assert(std::is_same_v<typename decltype(v)::value_type, typename std::remove_cvref_t<Matrix>::Scalar>);
    REQUIRE(v.rows() == m.rows());
    REQUIRE(v.cols() == m.cols());
    for (index_t i = 0; i < v.rows(); ++i)
        for (index_t j = 0; j < v.cols(); ++j) {
            INFO("row " << i << ", column " << j);
            CHECK(&v(i, j) == &m.coeffRef(i, j));
        }
}

/// A user's class that derives from an Eigen matrix and adds a member.
struct named_matrix : Eigen::MatrixXf {
    using Eigen::MatrixXf::MatrixXf;
    const char* name = "";
};

using block_of_const = Eigen::Block<const Eigen::MatrixXf>;
using map_of_const = Eigen::Map<const Eigen::MatrixXd>;

}  // namespace

static_assert(mutable_dense_matrix<Eigen::MatrixXf&> && mutable_dense_matrix<Eigen::Matrix3d&> && mutable_dense_matrix<Eigen::ArrayXXf&>);
static_assert(mutable_dense_matrix<Eigen::VectorXf&> && mutable_dense_matrix<Eigen::RowVectorXd&>);
static_assert(mutable_dense_matrix<dynamic_matrix<Eigen::half, Eigen::RowMajor>&>);
static_assert(mutable_dense_matrix<dynamic_matrix<Eigen::bfloat16, Eigen::ColMajor>&>);
static_assert(mutable_dense_matrix<Eigen::Ref<Eigen::MatrixXf>> && mutable_dense_matrix<Eigen::Map<Eigen::MatrixXf>>);
static_assert(mutable_dense_matrix<named_matrix&>);

// Const matrices can be read but not written, through every kind of view.
static_assert(dense_matrix<const Eigen::MatrixXf&> && !mutable_dense_matrix<const Eigen::MatrixXf&>);
static_assert(dense_matrix<map_of_const> && !mutable_dense_matrix<map_of_const>);
static_assert(dense_matrix<block_of_const> && !mutable_dense_matrix<block_of_const>);
static_assert(dense_matrix<Eigen::Ref<const Eigen::MatrixXf>> && !mutable_dense_matrix<Eigen::Ref<const Eigen::MatrixXf>>);
static_assert(!mutable_dense_matrix<Eigen::Transpose<const Eigen::MatrixXf>>);

// Refused: no storage, or elements that no algorithm supports.
static_assert(!dense_matrix<decltype(std::declval<Eigen::MatrixXf>() + std::declval<Eigen::MatrixXf>())>);
static_assert(!dense_matrix<decltype(std::declval<Eigen::MatrixXf>() * std::declval<Eigen::MatrixXf>())>);
static_assert(!dense_matrix<decltype(2.0f * std::declval<Eigen::MatrixXf>())>);
static_assert(!dense_matrix<decltype(std::declval<Eigen::MatrixXf>().cwiseAbs())>);
static_assert(!dense_matrix<decltype(Eigen::MatrixXf::Zero(2, 2))>);
static_assert(!dense_matrix<decltype(std::declval<Eigen::MatrixXf>().cast<double>())>);
static_assert(!dense_matrix<Eigen::MatrixXi> && !dense_matrix<Eigen::MatrixXcf> && !dense_matrix<Eigen::Matrix<bool, 2, 2>>);

TEMPLATE_TEST_CASE("as_view: shows the elements of Eigen's matrices and of everything with their storage", "[matrix][eigen]", float, double,
                   Eigen::half, Eigen::bfloat16) {
    dynamic_matrix<TestType, Eigen::ColMajor> columns(5, 7);
    dynamic_matrix<TestType, Eigen::RowMajor> rows(5, 7);
    Eigen::Matrix<TestType, 3, 2> fixed;
    Eigen::Array<TestType, Eigen::Dynamic, Eigen::Dynamic> array(4, 3);
    Eigen::Matrix<TestType, Eigen::Dynamic, 1> column(6);
    Eigen::Matrix<TestType, 1, Eigen::Dynamic> row(6);

    check_same_elements(columns);
    check_same_elements(rows);
    check_same_elements(fixed);
    check_same_elements(array);
    check_same_elements(column);
    check_same_elements(row);

    check_same_elements(columns.block(1, 2, 3, 4));
    check_same_elements(rows.block(1, 2, 3, 4));
    check_same_elements(columns.block(1, 2, 3, 4).block(1, 1, 2, 2));
    check_same_elements(columns.row(2));
    check_same_elements(columns.col(2));
    check_same_elements(rows.row(2));
    check_same_elements(rows.col(2));
    check_same_elements(columns.diagonal());
    check_same_elements(columns.leftCols(3));
    check_same_elements(rows.bottomRows(2));
}

TEMPLATE_TEST_CASE("as_view: a transpose is a view of the same elements", "[matrix][eigen]", float, double, Eigen::half, Eigen::bfloat16) {
    dynamic_matrix<TestType, Eigen::ColMajor> columns(3, 4);
    dynamic_matrix<TestType, Eigen::RowMajor> rows(3, 4);
    const auto of_columns = magr::as_view(columns.transpose());
    const auto of_rows = magr::as_view(rows.transpose());
    REQUIRE(of_columns.rows() == 4);
    REQUIRE(of_columns.cols() == 3);
    for (index_t i = 0; i < 4; ++i)
        for (index_t j = 0; j < 3; ++j) {
            CHECK(&of_columns(i, j) == &columns(j, i));
            CHECK(&of_rows(i, j) == &rows(j, i));
        }
}

TEST_CASE("as_view: maps keep their strides", "[matrix][eigen]") {
    std::vector<float> memory(200);
    using dynamic_stride = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
    Eigen::Map<dynamic_matrix<float, Eigen::ColMajor>, 0, dynamic_stride> columns(memory.data(), 3, 4, dynamic_stride(20, 2));
    Eigen::Map<dynamic_matrix<float, Eigen::RowMajor>, 0, dynamic_stride> rows(memory.data(), 3, 4, dynamic_stride(20, 3));
    Eigen::Map<Eigen::MatrixXf, 0, Eigen::OuterStride<>> padded(memory.data(), 3, 4, Eigen::OuterStride<>(9));
    Eigen::Map<Eigen::VectorXf, 0, Eigen::InnerStride<>> spread(memory.data(), 5, Eigen::InnerStride<>(7));
    check_same_elements(columns);
    check_same_elements(rows);
    check_same_elements(padded);
    check_same_elements(spread);
    check_same_elements(columns.block(1, 1, 2, 2));

    CHECK(magr::as_view(columns).row_stride() == 2);
    CHECK(magr::as_view(columns).col_stride() == 20);
    CHECK(magr::as_view(rows).row_stride() == 20);
    CHECK(magr::as_view(rows).col_stride() == 3);
}

TEST_CASE("as_view: a Ref shows what it refers to", "[matrix][eigen]") {
    Eigen::MatrixXf m(4, 5);
    Eigen::Ref<Eigen::MatrixXf> whole(m);
    Eigen::Ref<Eigen::MatrixXf> part(m.block(1, 1, 2, 3));
    check_same_elements(whole);
    check_same_elements(part);
    CHECK(&magr::as_view(part)(0, 0) == &m(1, 1));
    const Eigen::Ref<const Eigen::MatrixXf> constant(m);
    CHECK(magr::as_view(constant).data() == m.data());
}

TEST_CASE("as_view: a class derived from an Eigen matrix is seen like it", "[matrix][eigen]") {
    named_matrix m(2, 3);
    check_same_elements(m);
}

TEST_CASE("as_view: a const matrix gives a view of const", "[matrix][eigen]") {
    const Eigen::MatrixXf m = Eigen::MatrixXf::Constant(2, 3, 4.0f);
    const auto v = magr::as_view(m);
    static_assert(std::is_same_v<decltype(v), const magr::matrix_view<const float>>);
    CHECK(v.data() == m.data());
    CHECK(v(1, 2) == 4.0f);
}

TEST_CASE("as_view: empty Eigen matrices keep their shape", "[matrix][eigen][edge]") {
    const Eigen::MatrixXf none;
    const Eigen::MatrixXf no_rows(0, 4);
    CHECK(magr::as_view(none).empty());
    CHECK(magr::as_view(no_rows).rows() == 0);
    CHECK(magr::as_view(no_rows).cols() == 4);
}
