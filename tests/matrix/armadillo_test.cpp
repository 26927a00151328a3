// SPDX-License-Identifier: MIT
#include <magr/matrix/armadillo.hpp>

// Matrices alone, so that nothing is linked.
#define ARMA_DONT_USE_WRAPPER
#define ARMA_DONT_USE_BLAS
#define ARMA_DONT_USE_LAPACK
#include <armadillo>
#include <complex>
#include <utility>

#include "matrix/same_results.hpp"
#include "support/catch.hpp"

using magr::dense_matrix;
using magr::index_t;
using magr::mutable_dense_matrix;
using tests::inputs;
using tests::outputs;

static_assert(mutable_dense_matrix<arma::fmat&> && mutable_dense_matrix<arma::mat&> && mutable_dense_matrix<arma::fmat::fixed<2, 3>&>);
static_assert(mutable_dense_matrix<arma::fvec&> && mutable_dense_matrix<arma::rowvec&>);
static_assert(dense_matrix<const arma::fmat&> && !mutable_dense_matrix<const arma::fmat&>);
static_assert(mutable_dense_matrix<decltype(std::declval<arma::fmat&>().submat(0, 0, 1, 1))>);
static_assert(!mutable_dense_matrix<decltype(std::declval<const arma::fmat&>().submat(0, 0, 1, 1))>);
static_assert(!dense_matrix<decltype(std::declval<arma::fmat&>().t())>);
static_assert(!dense_matrix<decltype(std::declval<arma::fmat&>() + std::declval<arma::fmat&>())>);
static_assert(!dense_matrix<decltype(std::declval<arma::fmat&>().elem(std::declval<arma::uvec&>()))>);
static_assert(!dense_matrix<arma::imat> && !dense_matrix<arma::cx_fmat> && !dense_matrix<arma::fcube> && !dense_matrix<arma::sp_fmat>);

namespace {

template <class Matrix>
auto elements_of(Matrix& m) {
    return [&m](index_t i, index_t j) -> auto& { return m(static_cast<arma::uword>(i), static_cast<arma::uword>(j)); };
}

}  // namespace

TEMPLATE_TEST_CASE("Armadillo: its matrices give the same bits as magr::matrix", "[matrix][armadillo]", float, double) {
    arma::Mat<TestType> W(outputs, inputs), H(inputs, inputs);
    tests::check_same_results(W, H, elements_of(W), elements_of(H));
}

TEMPLATE_TEST_CASE("Armadillo: submatrices and slices of cubes give the same bits as magr::matrix", "[matrix][armadillo]", float, double) {
    arma::Mat<TestType> all(outputs + 5, inputs + 3);
    all.fill(7);
    arma::Cube<TestType> grams(inputs, inputs, 3);
    auto W = all.submat(2, 1, outputs + 1, inputs);
    auto& H = grams.slice(1);
    const auto at = [&](index_t i, index_t j) -> TestType& {
        return all(static_cast<arma::uword>(i + 2), static_cast<arma::uword>(j + 1));
    };
    tests::check_same_results(W, H, at, elements_of(H));
    CHECK(all(1, 1) == 7);
    CHECK(all(outputs + 2, inputs) == 7);
    CHECK(all(2, 0) == 7);
    CHECK(all(2, inputs + 1) == 7);
}

TEST_CASE("Armadillo: vectors, whole columns and whole rows are seen where they are", "[matrix][armadillo]") {
    arma::fmat m(3, 4);
    arma::frowvec v(5);
    auto column = m.col(2);
    auto row = m.row(1);
    CHECK(magr::as_view(column).data() == &m(0, 2));
    CHECK(magr::as_view(column).rows() == 3);
    CHECK(&magr::as_view(row)(0, 3) == &m(1, 3));
    CHECK(magr::as_view(row).cols() == 4);
    CHECK(&magr::as_view(v)(0, 4) == &v(4));
}

TEST_CASE("Armadillo: an empty matrix keeps its shape", "[matrix][armadillo][edge]") {
    const arma::fmat none, no_rows(0, 4);
    CHECK(magr::as_view(none).empty());
    CHECK(magr::as_view(no_rows).cols() == 4);
}
