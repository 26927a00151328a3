// SPDX-License-Identifier: MIT
#include <magr/linalg/spd_inverse.hpp>

#include <limits>

#include <magr/matrix/matrix.hpp>
#include <magr/parallel/thread_pool.hpp>

#include "linalg/samples.hpp"
#include "support/catch.hpp"

using magr::index_t;
using magr::matrix_view;
using magr::linalg::spd_inverse;
using namespace samples;

namespace {

/// ||A M - I|| in the Frobenius norm.
template <class T>
double residual_of_inverse(const dense<T>& A, const dense<T>& M) {
    const index_t n = A.rows();
    long double sum = 0;
    for (index_t i = 0; i < n; ++i)
        for (index_t j = 0; j < n; ++j) {
            long double difference = i == j ? -1 : 0;
            for (index_t k = 0; k < n; ++k) difference += static_cast<long double>(A(i, k)) * static_cast<long double>(M(j, k));
            sum += difference * difference;
        }
    return static_cast<double>(std::sqrt(sum));
}

template <class T>
bool is_symmetric(const dense<T>& A) {
    return same_bits<T>(A, A.transpose());
}

}  // namespace

TEMPLATE_TEST_CASE("spd_inverse: a small matrix by hand", "[linalg][spd_inverse][oracle]", float, double) {
    TestType two[] = {4, 99, 2, 17};  // the inverse of 4 2; 2 17 is 17 -2; -2 4 over 64. The 99 is not read
    REQUIRE(spd_inverse(matrix_view<TestType>(two, 2, 2)));
    CHECK(two[0] == TestType(17) / 64);
    CHECK(two[1] == TestType(-2) / 64);
    CHECK(two[2] == TestType(-2) / 64);
    CHECK(two[3] == TestType(4) / 64);
    TestType one = 4;
    REQUIRE(spd_inverse(matrix_view<TestType>(&one, 1, 1)));
    CHECK(one == TestType(0.25));
    CHECK(spd_inverse(matrix_view<TestType>(nullptr, 0, 0)));
}

// Section 14.3 of Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition: an inverse computed from a triangular inverse has a
// residual of n unit cond(A), times a constant. For these matrices a constant of one suffices. A single number is rounded five times.
TEMPLATE_TEST_CASE("spd_inverse: the product with the matrix is the identity, within the bound of rounding",
                   "[linalg][spd_inverse][property]", float, double) {
    std::vector<index_t> sizes = near_blocks;
    for (index_t n = 1; n <= 70; ++n) sizes.push_back(n);
    for (const index_t n : sizes)
        for (const double condition : {1.0, 1e3}) {
            const dense<TestType> A = with_condition<TestType>(n, condition, static_cast<unsigned>(n));
            dense<TestType> M = A;
            CAPTURE(n, condition);
            REQUIRE(spd_inverse(view(M)));
            CHECK(is_symmetric(M));
            CHECK(residual_of_inverse(A, M) <= static_cast<double>(n + 4) * static_cast<double>(unit<TestType>) * condition);
        }
}

TEMPLATE_TEST_CASE("spd_inverse: large matrices whose inverse is known", "[linalg][spd_inverse][oracle]", float, double) {
    std::vector<index_t> sizes = large;
    sizes.push_back(largest);
    for (const index_t n : sizes) {
        const low_rank_and_identity<TestType> sample(n, 5);
        dense<TestType> M = sample.A;
        CAPTURE(n);
        REQUIRE(spd_inverse(view(M)));
        CHECK(is_symmetric(M));
        const double error = (M.template cast<double>() - sample.inverse()).cwiseAbs().maxCoeff();
        // the inverse has norm 1; the factor 2 covers the rounding of A and of the formula
        CHECK(error <= 2 * static_cast<double>(n + 4) * static_cast<double>(unit<TestType>) * sample.condition());
    }
}

TEMPLATE_TEST_CASE("spd_inverse: the inverse of a diagonal matrix is exact", "[linalg][spd_inverse][oracle]", float, double) {
    for (const index_t n : {1, 50, 200, 600}) {
        dense<TestType> A = dense<TestType>::Zero(n, n), expected = A;
        for (index_t k = 0; k < n; ++k) {
            A(k, k) = std::ldexp(TestType(1), static_cast<int>(k % 20) * 2 - 20);
            expected(k, k) = 1 / A(k, k);
        }
        REQUIRE(spd_inverse(view(A)));
        CHECK(A == expected);
    }
}

TEMPLATE_TEST_CASE("spd_inverse: the same bits for any strides, and nothing else is touched", "[linalg][spd_inverse][edge]", float,
                   double) {
    for (const index_t n : {1, 2, 13, 64, 97, 130, 500}) {
        const dense<TestType> A = low_rank_and_identity<TestType>(n, 11).A;
        dense<TestType> expected = A;
        REQUIRE(spd_inverse(view(expected)));
        dense<TestType> with_nan = A;  // above the diagonal, which is not read
        with_nan.template triangularView<Eigen::StrictlyUpper>().setConstant(std::numeric_limits<TestType>::quiet_NaN());
        for (const int arrangement : {0, 1, 2, 3}) {
            placed<TestType> actual(with_nan, arrangement);
            const placed<TestType> wanted(expected, arrangement);
            CAPTURE(n, arrangement);
            CHECK(spd_inverse(actual.view));
            CHECK(same_bits(actual.data, wanted.data));
        }
    }
}

TEMPLATE_TEST_CASE("spd_inverse: one pivot that is not positive or no number is enough", "[linalg][spd_inverse][edge]", float, double) {
    for (const index_t n : {1, 2, 13, 45, 240})
        for (index_t k = 0; k<n; k += n> 100 ? 17 : 1) {
            Eigen::VectorXd pivots = Eigen::VectorXd::Ones(n);
            dense<TestType> good = with_pivots<TestType>(pivots, 2);
            dense<TestType> not_a_number = good;
            not_a_number(n - 1, k) = std::numeric_limits<TestType>::quiet_NaN();
            pivots(k) = -0.5;
            dense<TestType> indefinite = with_pivots<TestType>(pivots, 2);
            CAPTURE(n, k);
            CHECK(spd_inverse(view(good)));
            CHECK_FALSE(spd_inverse(view(indefinite)));
            CHECK_FALSE(spd_inverse(view(not_a_number)));
        }
}

TEMPLATE_TEST_CASE("spd_inverse: the same bits for any number of workers", "[linalg][spd_inverse][determinism]", float, double) {
    for (const index_t n : {3, 200, 700, 1100}) {
        const dense<TestType> A = low_rank_and_identity<TestType>(n, 7).A;
        dense<TestType> expected = A;
        REQUIRE(spd_inverse(view(expected)));
        for (const index_t workers : {1, 2, 7}) {
            magr::thread_pool pool(workers);
            dense<TestType> M = A;
            CAPTURE(n, workers);
            REQUIRE(spd_inverse(view(M), pool));
            CHECK(same_bits(M, expected));
        }
    }
}

TEST_CASE("spd_inverse: refuses what is not square, and leaves it alone", "[linalg][spd_inverse][errors]") {
    float data[6] = {1, 2, 3, 4, 5, 6};
    using Catch::Matchers::Equals;
    CHECK_THROWS_AS(spd_inverse(matrix_view<float>(data, 3, 2)), magr::shape_error);
    CHECK_THROWS_WITH(spd_inverse(matrix_view<float>(data, 3, 2)), Equals("spd_inverse: A must be square, it is 3 x 2"));
    for (int k = 0; k < 6; ++k) CHECK(data[k] == static_cast<float>(k + 1));
}

TEMPLATE_TEST_CASE("spd_inverse: an inverse that overflows is no success", "[linalg][spd_inverse][edge]", float, double) {
    using limits = std::numeric_limits<TestType>;
    for (const magr::index_t n : {1, 7, 97, 200}) {
        magr::matrix<TestType> tiny(n, n), small(n, n);
        for (magr::index_t i = 0; i < n; ++i) {
            tiny(i, i) = i == n / 2 ? limits::denorm_min() * 8 : limits::min();
            small(i, i) = limits::min() * 8;
        }
        INFO("n = " << n);
        CHECK_FALSE(magr::linalg::spd_inverse(tiny.view()));
        CHECK(magr::linalg::spd_inverse(small.view()));
        CHECK(static_cast<double>(small(0, 0) * (limits::min() * 8)) == Approx(1).epsilon(1e-6));
    }
}
