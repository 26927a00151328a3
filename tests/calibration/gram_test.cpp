#include <magr/calibration/gram.hpp>

#include <cmath>
#include <limits>
#include <random>

#include "support/catch.hpp"

namespace {

template <class T, int Order>
using eigen_matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Order>;

template <class T, int Order = Eigen::RowMajor>
eigen_matrix<T, Order> random_tokens(magr::index_t tokens, magr::index_t inputs, unsigned seed) {
    std::mt19937 generator(seed);
    std::normal_distribution<float> normal;
    eigen_matrix<T, Order> X(tokens, inputs);
    for (magr::index_t i = 0; i < tokens; ++i)
        for (magr::index_t j = 0; j < inputs; ++j) X(i, j) = static_cast<T>(normal(generator));
    return X;
}

/// The largest difference to the Gram matrix summed in long double, relative to the product of the norms of the two inputs.
template <class Matrix, class Scalar>
double error_against_oracle(const Matrix& X, const magr::matrix<Scalar>& H) {
    const magr::index_t n = X.cols();
    const auto entry = [&](magr::index_t i, magr::index_t j) {
        long double sum = 0;
        for (magr::index_t t = 0; t < X.rows(); ++t) sum += static_cast<long double>(X(t, i)) * static_cast<long double>(X(t, j));
        return sum;
    };
    double worst = 0;
    for (magr::index_t i = 0; i < n; ++i)
        for (magr::index_t j = 0; j < n; ++j) {
            const long double scale = std::sqrt(entry(i, i) * entry(j, j));
            worst = std::max(worst, static_cast<double>(std::abs(static_cast<long double>(H(i, j)) - entry(i, j)) / scale));
        }
    return worst;
}

}  // namespace

TEMPLATE_TEST_CASE("gram_accumulator: sums x x^T of every storage type and layout", "[calibration][oracle]", float, double, Eigen::half,
                   Eigen::bfloat16) {
    const auto check = [](const auto& X) {
        magr::gram_accumulator<> wide(X.cols());
        magr::gram_accumulator<float> narrow(X.cols());
        wide.add(X);
        narrow.add(X);
        CHECK(wide.tokens() == X.rows());
        CHECK(error_against_oracle(X, wide.gram()) < 1e-14);
        CHECK(error_against_oracle(X, narrow.gram()) < 300 * 6e-8);
    };
    for (const magr::index_t inputs : {1, 2, 17, 33}) {
        CAPTURE(inputs);
        check(random_tokens<TestType, Eigen::RowMajor>(300, inputs, 1));
        check(random_tokens<TestType, Eigen::ColMajor>(257, inputs, 2));
        check(random_tokens<TestType, Eigen::ColMajor>(1, inputs, 3));
    }
    auto padded = random_tokens<TestType>(40, 30, 4);
    magr::gram_accumulator<> of_block(20), of_copy(20), of_pointer(20);
    const eigen_matrix<TestType, Eigen::RowMajor> copy = padded.block(3, 5, 30, 20);
    of_block.add(padded.block(3, 5, 30, 20));
    of_copy.add(copy);
    of_pointer.add(magr::matrix_view<const TestType>(&padded(3, 5), 30, 20, 30));
    CHECK(of_block.gram() == of_copy.gram());
    CHECK(of_pointer.gram() == of_copy.gram());
}

TEST_CASE("gram_accumulator: is exactly symmetric, also after later batches", "[calibration][property]") {
    magr::gram_accumulator<float> accumulator(45);
    for (unsigned batch = 0; batch < 3; ++batch) {
        accumulator.add(random_tokens<float>(60, 45, batch));
        const auto& H = accumulator.gram();
        for (magr::index_t i = 0; i < 45; ++i)
            for (magr::index_t j = 0; j < i; ++j) REQUIRE(H(i, j) == H(j, i));
    }
}

TEST_CASE("gram_accumulator: batches and merged accumulators give the whole", "[calibration][property]") {
    const auto X = random_tokens<float>(700, 21, 5);
    magr::gram_accumulator<> whole(21), batched(21), first(21), second(21);
    whole.add(X);
    for (magr::index_t at = 0; at < 700; at += 70) batched.add(X.middleRows(at, 70));
    first.add(X.topRows(123));
    second.add(X.bottomRows(577));
    first.merge(second);
    CHECK(batched.tokens() == 700);
    CHECK(first.tokens() == 700);
    CHECK(error_against_oracle(X, batched.gram()) < 1e-14);
    CHECK(error_against_oracle(X, first.gram()) < 1e-14);
    magr::gram_accumulator<> empty(21);
    const auto before = whole.gram();
    whole.merge(empty);
    CHECK(whole.gram() == before);
    CHECK(whole.tokens() == 700);
}

TEST_CASE("gram_accumulator: 16-bit inputs are summed beyond their own range", "[calibration][edge]") {
    eigen_matrix<Eigen::half, Eigen::RowMajor> X(1000, 1);
    X.setConstant(Eigen::half(300.0f));
    magr::gram_accumulator<float> accumulator(1);
    accumulator.add(X);
    CHECK(accumulator.gram()(0, 0) == 9e7f);
}

TEST_CASE("gram_accumulator: refuses bad input, names the place and stays as it was", "[calibration][errors]") {
    magr::gram_accumulator<> accumulator(4);
    accumulator.add(random_tokens<float>(9, 4, 6));
    const auto before = accumulator.gram();
    auto X = random_tokens<float>(500, 4, 7);
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()}) {
        X(437, 2) = bad;  // beyond the first tile of tokens
        try {
            accumulator.add(X);
            FAIL("was accepted");
        } catch (const magr::value_error& error) {
            const std::string message = error.what();
            CHECK(message.find("gram_accumulator::add: X") != std::string::npos);
            CHECK(message.find("row 437, column 2") != std::string::npos);
        }
    }
    CHECK_THROWS_AS(accumulator.add(random_tokens<float>(9, 5, 6)), magr::shape_error);
    CHECK_THROWS_AS(accumulator.add(eigen_matrix<float, Eigen::RowMajor>(0, 4)), magr::shape_error);
    CHECK_THROWS_AS(accumulator.merge(magr::gram_accumulator<>(5)), magr::shape_error);
    CHECK(accumulator.tokens() == 9);
    CHECK(accumulator.gram() == before);
    CHECK_THROWS_AS(magr::gram_accumulator<>(0), magr::shape_error);
    CHECK_THROWS_AS(magr::gram_accumulator<>(-3), magr::shape_error);
    CHECK_THROWS_AS(magr::gram_accumulator<>(3).gram(), magr::value_error);
}
