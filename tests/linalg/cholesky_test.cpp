// SPDX-License-Identifier: MIT
#include <magr/linalg/cholesky.hpp>

#include <magr/parallel/thread_pool.hpp>

#include "linalg/samples.hpp"
#include "support/catch.hpp"

using magr::index_t;
using magr::matrix_view;
using magr::linalg::cholesky;
using namespace samples;

namespace {

/// The largest |A - L L^T|_ij in units of its bound (n + 4) unit sqrt(A_ii A_jj): theorems 10.3 and 10.5 of Higham, Accuracy and Stability
/// of Numerical Algorithms, 2nd edition. Three roundings are added for the reciprocals of the diagonal and for terms of second order.
template <class T>
double residual(const dense<T>& A, const dense<T>& L) {
    const index_t n = A.rows();
    long double worst = 0;
    for (index_t i = 0; i < n; ++i)
        for (index_t j = 0; j <= i; ++j) {
            long double difference = A(i, j);
            for (index_t k = 0; k <= j; ++k) difference -= static_cast<long double>(L(i, k)) * static_cast<long double>(L(j, k));
            const long double size = std::sqrt(static_cast<long double>(A(i, i)) * static_cast<long double>(A(j, j)));
            worst = std::max(worst, std::abs(difference) / (static_cast<long double>(n + 4) * unit<T> * size));
        }
    return static_cast<double>(worst);
}

/// Like `residual`, but faster: the product is computed in double, and its rounding errors are added to the bound.
template <class T>
double residual_in_double(const dense<T>& A, const dense<T>& L) {
    const dense<double> lower = L.template cast<double>().template triangularView<Eigen::Lower>();
    const dense<double> difference = lower * lower.transpose() - A.template cast<double>();
    const Eigen::VectorXd root = A.diagonal().template cast<double>().cwiseSqrt();
    const auto n = static_cast<double>(A.rows());
    const double bound = (n + 4) * static_cast<double>(unit<T>) + n * static_cast<double>(unit<double>);
    return (difference.array() / (root * root.transpose()).array()).abs().maxCoeff() / bound;
}

}  // namespace

TEMPLATE_TEST_CASE("cholesky: a small matrix by hand", "[linalg][cholesky][oracle]", float, double) {
    TestType two[] = {4, 7, 2, 17};  // 4 2; 2 17 = L L^T with L = 2 0; 1 4. The 7 is above the diagonal
    REQUIRE(cholesky(matrix_view<TestType>(two, 2, 2)));
    CHECK(two[0] == 2);
    CHECK(two[1] == 7);
    CHECK(two[2] == 1);
    CHECK(two[3] == 4);
    TestType one = 9;
    REQUIRE(cholesky(matrix_view<TestType>(&one, 1, 1)));
    CHECK(one == 3);
    CHECK(cholesky(matrix_view<TestType>(nullptr, 0, 0)));
}

TEMPLATE_TEST_CASE("cholesky: L L^T is the matrix, within the bound of rounding", "[linalg][cholesky][property]", float, double) {
    std::vector<index_t> sizes = near_blocks;
    for (index_t n = 1; n <= 70; ++n) sizes.push_back(n);
    for (const index_t n : sizes)
        for (const double condition : {1.0, 1e4}) {
            const dense<TestType> A = with_condition<TestType>(n, condition, static_cast<unsigned>(n));
            dense<TestType> L = A;
            CAPTURE(n, condition);
            REQUIRE(cholesky(view(L)));
            CHECK((L.diagonal().array() > 0).all());
            CHECK(residual(A, L) <= 1);
        }
}

TEMPLATE_TEST_CASE("cholesky: L L^T is the matrix for large matrices, too", "[linalg][cholesky][property]", float, double) {
    for (const index_t n : large) {
        const dense<TestType> A = low_rank_and_identity<TestType>(n, 5).A;
        dense<TestType> L = A;
        CAPTURE(n);
        REQUIRE(cholesky(view(L)));
        CHECK(residual_in_double(A, L) <= 1);
    }
    const dense<TestType> A = low_rank_and_identity<TestType>(largest, 5).A;
    dense<TestType> L = A;
    REQUIRE(cholesky(view(L)));
    const dense<double> lower = L.template cast<double>().template triangularView<Eigen::Lower>();
    std::mt19937 random(3);
    const Eigen::VectorXd x = normal(largest, 1, random);
    const Eigen::VectorXd difference = A.template cast<double>() * x - lower * (lower.transpose() * x);
    // the provable bound, n (n + 4) units, says nothing at this size; roundings that do not conspire add up to a few units
    CHECK(difference.norm() <= 20 * static_cast<double>(unit<TestType>) * 5 * x.norm());
}

TEMPLATE_TEST_CASE("cholesky: the same bits for any strides, and nothing else is touched", "[linalg][cholesky][edge]", float, double) {
    for (const index_t n : {1, 2, 13, 64, 97, 130, 500}) {
        const dense<TestType> A = low_rank_and_identity<TestType>(n, 11).A;
        dense<TestType> expected = A;
        REQUIRE(cholesky(view(expected)));
        dense<TestType> with_nan = A;  // above the diagonal, which is not read
        with_nan.template triangularView<Eigen::StrictlyUpper>().setConstant(std::numeric_limits<TestType>::quiet_NaN());
        for (const int arrangement : {0, 1, 2, 3}) {
            placed<TestType> actual(with_nan, arrangement);
            placed<TestType> wanted(with_nan, arrangement);
            for (index_t i = 0; i < n; ++i)
                for (index_t j = 0; j <= i; ++j) wanted.view(i, j) = expected(i, j);
            CAPTURE(n, arrangement);
            CHECK(cholesky(actual.view));
            CHECK(same_bits(actual.data, wanted.data));
        }
    }
}

TEMPLATE_TEST_CASE("cholesky: one pivot that is not positive is enough", "[linalg][cholesky][edge]", float, double) {
    for (const index_t n : {1, 2, 12, 13, 45, 120}) {
        const Eigen::VectorXd ones = Eigen::VectorXd::Ones(n);
        dense<TestType> good = with_pivots<TestType>(ones, 2);
        REQUIRE(cholesky(view(good)));
        for (index_t k = 0; k < n; ++k) {
            Eigen::VectorXd pivots = ones;
            pivots(k) = -0.5;
            dense<TestType> indefinite = with_pivots<TestType>(pivots, 2);
            dense<TestType> singular = dense<TestType>::Identity(n, n);
            singular(k, k) = 0;
            CAPTURE(n, k);
            CHECK_FALSE(cholesky(view(indefinite)));
            CHECK_FALSE(cholesky(view(singular)));
        }
    }
}

TEMPLATE_TEST_CASE("cholesky: what is not a number ends it", "[linalg][cholesky][edge]", float, double) {
    using limits = std::numeric_limits<TestType>;
    for (const index_t n : {1, 5, 100, 240})
        for (const TestType bad : {limits::quiet_NaN(), limits::infinity(), -limits::infinity()})
            for (const index_t i : {index_t{0}, n / 2, n - 1})
                for (const index_t j : {index_t{0}, i / 2, i}) {
                    dense<TestType> A = low_rank_and_identity<TestType>(n, 1).A;
                    A(i, j) = bad;
                    CAPTURE(n, i, j, bad);
                    CHECK_FALSE(cholesky(view(A)));
                }
}

TEMPLATE_TEST_CASE("cholesky: powers of two pass through exactly", "[linalg][cholesky][property]", float, double) {
    const dense<TestType> A = with_condition<TestType>(110, 100, 4);
    dense<TestType> L = A;
    REQUIRE(cholesky(view(L)));
    for (const int exponent : {-60, 60}) {
        dense<TestType> scaled = A * std::ldexp(TestType(1), exponent);
        REQUIRE(cholesky(view(scaled)));
        for (index_t i = 0; i < A.rows(); ++i)
            for (index_t j = 0; j <= i; ++j) REQUIRE(scaled(i, j) == std::ldexp(L(i, j), exponent / 2));
    }
}

TEMPLATE_TEST_CASE("cholesky: the same bits for any number of workers", "[linalg][cholesky][determinism]", float, double) {
    for (const index_t n : {3, 200, 700, 1100}) {
        const dense<TestType> A = low_rank_and_identity<TestType>(n, 7).A;
        dense<TestType> expected = A;
        REQUIRE(cholesky(view(expected)));
        for (const index_t workers : {1, 2, 7}) {
            magr::thread_pool pool(workers);
            dense<TestType> L = A;
            CAPTURE(n, workers);
            REQUIRE(cholesky(view(L), pool));
            CHECK(same_bits(L, expected));
        }
    }
}

TEST_CASE("cholesky: refuses what is not square, and leaves it alone", "[linalg][cholesky][errors]") {
    float data[6] = {1, 2, 3, 4, 5, 6};
    using Catch::Matchers::Equals;
    CHECK_THROWS_AS(cholesky(matrix_view<float>(data, 2, 3)), magr::shape_error);
    CHECK_THROWS_WITH(cholesky(matrix_view<float>(data, 2, 3)), Equals("cholesky: A must be square, it is 2 x 3"));
    for (int k = 0; k < 6; ++k) CHECK(data[k] == static_cast<float>(k + 1));
}
