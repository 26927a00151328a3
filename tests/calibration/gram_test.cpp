// SPDX-License-Identifier: MIT
#include <magr/calibration/gram.hpp>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <type_traits>
#include <utility>

#include <magr/parallel/thread_pool.hpp>

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

TEMPLATE_TEST_CASE("gram_accumulator: more inputs than one task has rows, more tokens than enter H at once", "[calibration][oracle]", float,
                   double) {
    const double unit = std::is_same_v<TestType, double> ? 1.2e-16 : 6e-8;
    for (const magr::index_t inputs : {95, 96, 97, 230}) {
        CAPTURE(inputs);
        const auto X = random_tokens<float>(800, inputs, 10);
        magr::gram_accumulator<TestType> accumulator(inputs);
        accumulator.add(X);
        CHECK(error_against_oracle(X, accumulator.gram()) < 384 * unit);
    }
}

namespace {

/// H of X added in batches of the sizes that `next` returns.
template <class Scalar, class Matrix, class Next>
magr::matrix<Scalar> gram_by_batches(const Matrix& X, Next&& next) {
    magr::gram_accumulator<Scalar> accumulator(X.cols());
    for (magr::index_t at = 0; at < X.rows();) {
        const magr::index_t size = std::min(static_cast<magr::index_t>(next()), X.rows() - at);
        accumulator.add(X.middleRows(at, size));
        at += size;
    }
    return accumulator.gram();
}

}  // namespace

TEMPLATE_TEST_CASE("gram_accumulator: the same bits however tokens are split into batches", "[calibration][property][determinism]", float,
                   double) {
    const auto X = random_tokens<float>(1300, 50, 11);
    const auto whole = gram_by_batches<TestType>(X, [] { return 1300; });
    for (const int size : {1, 2, 100, 383, 384, 385, 768, 1000}) {
        CAPTURE(size);
        CHECK(gram_by_batches<TestType>(X, [&] { return size; }) == whole);
    }
    std::mt19937 random(12);
    std::uniform_int_distribution<int> any(1, 500);
    for (int trial = 0; trial < 5; ++trial) CHECK(gram_by_batches<TestType>(X, [&] { return any(random); }) == whole);
    magr::gram_accumulator<TestType> watched(50);
    watched.add(X.topRows(100));
    CHECK(error_against_oracle(X.topRows(100), watched.gram()) < 384 * 6e-8);
    watched.add(X.bottomRows(1200));
    CHECK(watched.gram() == whole);
    // the comparison is not vacuous: where a block ends elsewhere, sums are rounded elsewhere
    magr::gram_accumulator<TestType> broken(50), rest(50);
    broken.add(X.topRows(100));
    rest.add(X.bottomRows(1200));
    broken.merge(rest);
    CHECK_FALSE(broken.gram() == whole);
    CHECK(error_against_oracle(X, broken.gram()) < 384 * 6e-8);
}

TEMPLATE_TEST_CASE("gram_accumulator: the same bits with every executor", "[calibration][determinism]", float, double) {
    const auto X = random_tokens<float>(1000, 410, 13);
    magr::gram_accumulator<TestType> serial(410);
    serial.add(X.topRows(500));
    serial.add(X.bottomRows(500));
    magr::gram_accumulator<TestType> doubled = serial;
    doubled.merge(serial);
    for (const magr::index_t workers : {1, 2, 7}) {
        CAPTURE(workers);
        magr::thread_pool pool(workers);
        magr::gram_accumulator<TestType> first(410);
        first.add(X.topRows(500));
        first.add(X.bottomRows(500), pool);
        magr::gram_accumulator<TestType> both = first;
        both.merge(first, pool);
        CHECK(first.gram(pool) == serial.gram());
        CHECK(both.gram(pool) == doubled.gram());
        CHECK(both.tokens() == 2000);
    }
}

TEST_CASE("gram_accumulator: copies go their own way, with the tokens that wait", "[calibration][property]") {
    const auto X = random_tokens<float>(450, 30, 14);
    magr::gram_accumulator<> whole(30), original(30);
    whole.add(X);
    original.add(X.topRows(420));
    magr::gram_accumulator<> copy = original;
    copy.add(X.bottomRows(30));
    CHECK(copy.gram() == whole.gram());
    CHECK(original.tokens() == 420);
    original.add(X.bottomRows(30));
    const magr::gram_accumulator<> before = original;
    magr::gram_accumulator<> moved = std::move(original);
    CHECK(moved.gram() == whole.gram());
    magr::gram_accumulator<> assigned(2);
    assigned = before;
    CHECK(assigned.gram() == whole.gram());
    assigned.merge(assigned);
    CHECK(assigned.tokens() == 900);
    for (magr::index_t i = 0; i < 30; ++i) CHECK(assigned.gram()(i, i) == 2 * whole.gram()(i, i));
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

TEMPLATE_TEST_CASE("gram_accumulator: a constant one, or one that is given away, has the same sum", "[calibration][property]", float,
                   double) {
    magr::thread_pool pool(2);
    magr::gram_accumulator<TestType> sum(40);
    sum.add(random_tokens<float>(500, 40, 20));
    const magr::gram_accumulator<TestType> constant = sum;
    const auto H = constant.gram();
    CHECK(constant.gram(pool) == H);
    CHECK(constant.gram() == H);
    CHECK(constant.tokens() == 500);
    CHECK(std::move(sum).gram(pool) == H);
}

TEMPLATE_TEST_CASE("gram_accumulator: goes on from a sum that was saved", "[calibration][property][determinism]", float, double) {
    const auto X = random_tokens<float>(1000, 30, 21);
    magr::gram_accumulator<TestType> whole(30), early(30), rest(30);
    whole.add(X);
    early.add(X.topRows(768));
    rest.add(X.bottomRows(232));
    const magr::matrix<TestType> saved = early.gram();

    magr::gram_accumulator<TestType> restored(saved, early.tokens());
    CHECK(restored.inputs() == 30);
    CHECK(restored.tokens() == 768);
    CHECK(restored.gram() == saved);
    restored.add(X.bottomRows(232));
    CHECK(restored.tokens() == 1000);
    CHECK(restored.gram() == whole.gram());  // the same bits, because 768 is twice 384

    magr::gram_accumulator<TestType> elsewhere(rest.gram(), rest.tokens());
    elsewhere.merge(magr::gram_accumulator<TestType>(saved, 768));
    CHECK(elsewhere.tokens() == 1000);
    CHECK(error_against_oracle(X, elsewhere.gram()) < 384 * 6e-8);

    // in another type and layout
    const Eigen::Map<const eigen_matrix<TestType, Eigen::RowMajor>> map(saved.data(), 30, 30);
    const eigen_matrix<float, Eigen::ColMajor> narrow = map.template cast<float>();
    magr::gram_accumulator<TestType> from_float(narrow, 768);
    CHECK(error_against_oracle(X.topRows(768), from_float.gram()) < 384 * 6e-8);
    const magr::gram_accumulator by_default(narrow, 768);
    static_assert(std::is_same_v<decltype(by_default), const magr::gram_accumulator<double>>);
}

TEST_CASE("gram_accumulator: refuses sums that are no Gram matrix, and more tokens than can be counted", "[calibration][errors]") {
    const auto made = [](const Eigen::MatrixXd& H, magr::index_t tokens) -> std::string {
        try {
            return magr::gram_accumulator<float>(H, tokens).tokens() == tokens ? "accepted" : "other tokens";
        } catch (const magr::shape_error& error) {
            return std::string("shape: ") + error.what();
        } catch (const magr::value_error& error) {
            return error.what();
        }
    };
    Eigen::MatrixXd H = Eigen::MatrixXd::Identity(3, 3);
    CHECK(made(H, 1) == "accepted");
    CHECK(made(Eigen::MatrixXd::Zero(3, 3), 1) == "accepted");
    CHECK(made(H, 0) == "gram_accumulator: tokens must be at least 1, it is 0");
    CHECK(made(H, -5) == "gram_accumulator: tokens must be at least 1, it is -5");
    CHECK(made(Eigen::MatrixXd(0, 0), 1) == "shape: gram_accumulator: H must not be empty, it is 0 x 0");
    CHECK(made(Eigen::MatrixXd::Zero(3, 4), 1) == "shape: gram_accumulator: H must be square, it is 3 x 4");
    H(1, 1) = -1;
    CHECK(made(H, 1).find("no negative diagonal entry") != std::string::npos);
    H(1, 1) = 1;
    H(2, 1) = 0.5;
    CHECK(made(H, 1).find("symmetric") != std::string::npos);
    H(1, 2) = 0.5;
    CHECK(made(H, 1) == "accepted");
    H(1, 1) = std::numeric_limits<double>::infinity();
    CHECK(made(H, 1).find("must be finite, entry (row 1, column 1)") != std::string::npos);
    H(1, 1) = 1e39;
    CHECK(made(H, 1) == "gram_accumulator: H must be finite in the type of the sum, entry (row 1, column 1) is 1e+39");
    CHECK(magr::gram_accumulator<double>(H, 1).gram()(1, 1) == 1e39);

    const magr::index_t most = std::numeric_limits<magr::index_t>::max();
    H = Eigen::MatrixXd::Identity(3, 3);
    magr::gram_accumulator<> full(H, most);
    CHECK_THROWS_AS(full.add(Eigen::MatrixXd(Eigen::MatrixXd::Ones(1, 3))), magr::value_error);
    CHECK_THROWS_AS(full.merge(magr::gram_accumulator<>(H, 1)), magr::value_error);
    CHECK(full.tokens() == most);
    CHECK(full.gram()(0, 1) == 0);
}

TEST_CASE("gram_accumulator: after its sum was moved out it refuses everything", "[calibration][errors][regression]") {
    const magr::matrix<float> X(400, 4);
    magr::gram_accumulator<float> a(4), other(4);
    a.add(X);
    other.add(X);
    CHECK(std::move(a).gram().rows() == 4);
    CHECK_THROWS_AS(a.add(X), magr::value_error);
    CHECK_THROWS_AS(a.gram(), magr::value_error);
    CHECK_THROWS_AS(a.merge(other), magr::value_error);
    CHECK_THROWS_AS(other.merge(a), magr::value_error);
    CHECK(other.tokens() == 400);
    a = other;
    CHECK(a.gram().rows() == 4);
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
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()}) {
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

    // a refused batch leaves the waiting tokens unchanged
    magr::gram_accumulator<> waiting(4), untouched(4);
    for (auto* each : {&waiting, &untouched}) each->add(random_tokens<float>(300, 4, 8));
    CHECK_THROWS_AS(waiting.add(X), magr::value_error);
    for (auto* each : {&waiting, &untouched}) each->add(random_tokens<float>(9, 4, 6));
    CHECK(waiting.gram() == untouched.gram());
    CHECK_THROWS_AS(magr::gram_accumulator<>(0), magr::shape_error);
    CHECK_THROWS_AS(magr::gram_accumulator<>(-3), magr::shape_error);
    CHECK_THROWS_AS(magr::gram_accumulator<>(3).gram(), magr::value_error);
}
