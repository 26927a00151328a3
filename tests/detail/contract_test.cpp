// SPDX-License-Identifier: MIT
#include <magr/detail/contract.hpp>

#include <Eigen/Core>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <locale>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include <magr/matrix/eigen.hpp>

#include "support/catch.hpp"

using magr::as_const_view;
using magr::index_t;

namespace {

/// The message of the Error that `check` throws, or a text that equals no message.
template <class Error, class Check>
std::string message_of(Check&& check) {
    try {
        check();
    } catch (const Error& error) {
        return error.what();
    }
    return "(nothing was thrown)";
}

/// X^T X of random X: a Gram matrix up to rounding.
Eigen::MatrixXd gram(index_t inputs, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<double> normal;
    Eigen::MatrixXd X(3 * inputs, inputs);
    for (double& value : X.reshaped()) value = normal(random);
    return X.transpose() * X;
}

const double not_a_number = std::numeric_limits<double>::quiet_NaN();
const double infinity = std::numeric_limits<double>::infinity();

}  // namespace

// Callers who know only the standard library can catch these.
static_assert(std::is_base_of_v<std::invalid_argument, magr::shape_error>);
static_assert(std::is_base_of_v<std::invalid_argument, magr::option_error>);
static_assert(std::is_base_of_v<std::domain_error, magr::value_error>);

TEST_CASE("require_shape: names function, argument, expected and actual shape", "[detail][contract]") {
    const Eigen::MatrixXf m(2, 3);
    CHECK_NOTHROW(magr::detail::require_shape("f", "H", as_const_view(m), 2, 3));
    CHECK(message_of<magr::shape_error>([&] { magr::detail::require_shape("preprocess", "H", as_const_view(m), 3, 3); }) ==
          "preprocess: H must be 3 x 3, it is 2 x 3");
    CHECK_THROWS_AS(magr::detail::require_shape("f", "H", as_const_view(m), 2, 2), magr::shape_error);
}

TEST_CASE("require_not_empty: refuses a matrix without rows or without columns", "[detail][contract][edge]") {
    const Eigen::MatrixXf no_rows(0, 3), no_columns(3, 0), one(1, 1);
    CHECK_NOTHROW(magr::detail::require_not_empty("f", "W", as_const_view(one)));
    CHECK(message_of<magr::shape_error>([&] { magr::detail::require_not_empty("f", "W", as_const_view(no_rows)); }) ==
          "f: W must not be empty, it is 0 x 3");
    CHECK_THROWS_AS(magr::detail::require_not_empty("f", "W", as_const_view(no_columns)), magr::shape_error);
}

TEMPLATE_TEST_CASE("require_finite: names row and column of what is not, in any storage order and type", "[detail][contract]", float,
                   double, Eigen::half, Eigen::bfloat16) {
    Eigen::Matrix<TestType, Eigen::Dynamic, Eigen::Dynamic> columns(3, 4);
    columns.setConstant(TestType(1.0f));
    Eigen::Matrix<TestType, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> rows = columns;
    CHECK_NOTHROW(magr::detail::require_finite("f", "W", as_const_view(columns)));
    CHECK_NOTHROW(magr::detail::require_finite("f", "W", as_const_view(rows)));

    columns(2, 1) = rows(2, 1) = TestType(static_cast<float>(infinity));
    CHECK(message_of<magr::value_error>([&] { magr::detail::require_finite("f", "W", as_const_view(columns)); }) ==
          "f: W must be finite, entry (row 2, column 1) is inf");
    CHECK(message_of<magr::value_error>([&] { magr::detail::require_finite("f", "W", as_const_view(rows)); }) ==
          "f: W must be finite, entry (row 2, column 1) is inf");

    columns(2, 1) = TestType(static_cast<float>(not_a_number));
    CHECK_THROWS_AS(magr::detail::require_finite("f", "W", as_const_view(columns)), magr::value_error);
    columns(2, 1) = TestType(static_cast<float>(-infinity));
    CHECK_THROWS_AS(magr::detail::require_finite("f", "W", as_const_view(columns)), magr::value_error);
}

TEST_CASE("require_finite: accepts the largest and the smallest numbers", "[detail][contract][edge]") {
    Eigen::MatrixXf m(1, 3);
    m << std::numeric_limits<float>::max(), std::numeric_limits<float>::denorm_min(), -0.0f;
    CHECK_NOTHROW(magr::detail::require_finite("f", "W", as_const_view(m)));
}

namespace {

/// Whether `is_finite` agrees with the standard library about the one unusual entry of a matrix, by rows, by columns and with gaps.
template <class T>
bool agrees_with_isfinite(T value) {
    const bool expected = std::isfinite(static_cast<std::conditional_t<std::is_same_v<T, double>, double, float>>(value));
    std::vector<T> m(2 * 3 * 4, T(1.0f));
    m[2 * 7] = value;
    const magr::matrix_view<const T> read(m.data(), 4, 6);
    const auto gaps = magr::matrix_view<const T>::with_strides(m.data(), 3, 4, 8, 2);
    return magr::detail::is_finite(read) == expected && magr::detail::is_finite(read.transposed()) == expected &&
           magr::detail::is_finite(gaps) == expected && magr::detail::is_finite(read.block(0, 0, 2, 6)) &&
           magr::detail::is_finite(read.block(0, 3, 4, 3));
}

}  // namespace

TEMPLATE_TEST_CASE("is_finite: agrees with the standard library on every number of 16 bits", "[detail][contract][oracle]", Eigen::half,
                   Eigen::bfloat16) {
    index_t wrong = 0;
    for (unsigned bits = 0; bits < 0x10000; ++bits) {
        const auto value = std::bit_cast<TestType>(static_cast<std::uint16_t>(bits));
        wrong += agrees_with_isfinite(value) ? 0 : 1;
    }
    CHECK(wrong == 0);
}

TEMPLATE_TEST_CASE("is_finite: agrees with the standard library on random bits", "[detail][contract][oracle]", float, double) {
    using limits = std::numeric_limits<TestType>;
    CHECK(agrees_with_isfinite(limits::max()));
    CHECK(agrees_with_isfinite(limits::denorm_min()));
    CHECK(agrees_with_isfinite(-limits::infinity()));
    CHECK(agrees_with_isfinite(limits::signaling_NaN()));
    std::mt19937_64 random(9);
    index_t wrong = 0, special = 0;
    for (int i = 0; i < 100000; ++i) {
        using bits = std::conditional_t<std::is_same_v<TestType, double>, std::uint64_t, std::uint32_t>;
        constexpr auto all = std::bit_cast<bits>(limits::infinity());
        const auto value = std::bit_cast<TestType>(static_cast<bits>(random() | (i % 2 == 0 ? all : 0)));  // random bits are seldom special
        special += std::isfinite(value) ? 0 : 1;
        wrong += agrees_with_isfinite(value) ? 0 : 1;
    }
    CHECK(special >= 50000);
    CHECK(wrong == 0);
}

TEST_CASE("require_gram: accepts a Gram matrix, in double and rounded to float", "[detail][contract]") {
    const Eigen::MatrixXd H = gram(20, 1);
    const Eigen::MatrixXf rounded = H.cast<float>();
    CHECK_NOTHROW(magr::detail::require_gram("f", "H", as_const_view(H), 20));
    CHECK_NOTHROW(magr::detail::require_gram("f", "H", as_const_view(rounded), 20));
}

TEST_CASE("require_gram: accepts dead inputs, whose row and column are zero", "[detail][contract][edge]") {
    Eigen::MatrixXd H = gram(5, 2);
    H.row(3).setZero();
    H.col(3).setZero();
    CHECK_NOTHROW(magr::detail::require_gram("f", "H", as_const_view(H), 5));
}

TEST_CASE("require_gram: says what is wrong with a matrix", "[detail][contract]") {
    Eigen::MatrixXd H = gram(4, 3);
    const auto message = [&] {
        return message_of<std::exception>([&] { magr::detail::require_gram("preprocess", "H", as_const_view(H), 4); });
    };
    SECTION("not square") {
        H.resize(4, 5);
        CHECK(message() == "preprocess: H must be square, it is 4 x 5");
    }
    SECTION("of another size") {
        H = gram(3, 3);
        CHECK(message() == "preprocess: H must be 4 x 4, it is 3 x 3");
    }
    SECTION("not finite") {
        H(1, 2) = H(2, 1) = not_a_number;
        CHECK(message().find("preprocess: H must be finite, entry (row ") == 0);
    }
    SECTION("negative on the diagonal") {
        H(2, 2) = -1.5;
        CHECK(message() == "preprocess: H must have no negative diagonal entry, entry (row 2, column 2) is -1.5");
    }
    SECTION("not symmetric") {
        H(3, 1) = 1;
        H(1, 3) = 2;
        CHECK(message() == "preprocess: H must be symmetric, entry (row 3, column 1) is 1 and entry (row 1, column 3) is 2");
    }
    SECTION("zero") {
        H.setZero();  // the Gram matrix of inputs that are always zero
        CHECK_NOTHROW(magr::detail::require_gram("preprocess", "H", as_const_view(H), 4));
    }
}

TEST_CASE("require_gram: allows the asymmetry of rounding, at any scale", "[detail][contract][edge]") {
    for (const double scale : {1e-30, 1.0, 1e30}) {
        Eigen::MatrixXd H = scale * gram(6, 4);
        const double largest = H.diagonal().maxCoeff();
        H(4, 2) = H(2, 4) + 0.9e-4 * largest;
        CHECK_NOTHROW(magr::detail::require_gram("f", "H", as_const_view(H), 6));
        H(4, 2) = H(2, 4) + 1.1e-4 * largest;
        CHECK_THROWS_AS(magr::detail::require_gram("f", "H", as_const_view(H), 6), magr::value_error);
    }
}

namespace {

/// Runs tasks from last to first, as workers may.
struct backwards {
    index_t concurrency() const { return 3; }
    template <class Task>
    void parallel_for(index_t count, const Task& task) const {
        for (index_t k = count; k-- > 0;) task(k, index_t{0});
    }
};

/// The message about a layer. It must be the same whether or not workers share the reading.
std::string message_of_layer(const Eigen::MatrixXf& W, const Eigen::MatrixXd& H) {
    const std::string alone = message_of<std::exception>([&] { magr::detail::require_layer("f", as_const_view(W), as_const_view(H)); });
    CHECK(message_of<std::exception>([&] { magr::detail::require_layer("f", as_const_view(W), as_const_view(H), backwards{}); }) == alone);
    return alone;
}

}  // namespace

TEST_CASE("require_layer: finds the one wrong entry wherever it is, with workers and without", "[detail][contract][property]") {
    const index_t n = 200, rows = 220;  // three strips for the workers
    const Eigen::MatrixXd H = gram(n, 5);
    const Eigen::MatrixXf W = Eigen::MatrixXf::Ones(rows, n);
    CHECK(message_of_layer(W, H) == "(nothing was thrown)");
    for (const index_t i : {0, 95, 96, 191, 192, 199}) {
        CAPTURE(i);
        const std::string row = std::to_string(i), other = std::to_string(i == 0 ? 7 : 0);
        Eigen::MatrixXf bad_w = W;
        bad_w(i + 20, 3) = std::numeric_limits<float>::infinity();
        CHECK(message_of_layer(bad_w, H) == "f: W must be finite, entry (row " + std::to_string(i + 20) + ", column 3) is inf");
        Eigen::MatrixXd bad = H;
        bad(i, 3) = infinity;
        CHECK(message_of_layer(W, bad) == "f: H must be finite, entry (row " + row + ", column 3) is inf");
        CHECK(message_of_layer(bad_w, bad) == "f: H must be finite, entry (row " + row + ", column 3) is inf");
        bad = H;
        bad(i, i) = -1;
        CHECK(message_of_layer(W, bad) == "f: H must have no negative diagonal entry, entry (row " + row + ", column " + row + ") is -1");
        bad = H;
        bad(i, std::stol(other)) += 1;
        CHECK(message_of_layer(W, bad).find("f: H must be symmetric, entry (row " + (i == 0 ? other : row) + ", column " +
                                            (i == 0 ? row : other) + ") is ") == 0);
    }
    CHECK(message_of_layer(W, gram(n - 1, 5)) == "f: H must be 200 x 200, it is 199 x 199");
    CHECK(message_of_layer(Eigen::MatrixXf(0, n), H) == "f: W must not be empty, it is 0 x 200");
}

TEST_CASE("require_option: names the option, what is allowed and what was given", "[detail][contract]") {
    CHECK_NOTHROW(magr::detail::require_option(true, "quantize_rtn", "bits", "2 to 8", 4));
    CHECK(message_of<magr::option_error>([] { magr::detail::require_option(false, "quantize_rtn", "bits", "2 to 8", 9); }) ==
          "quantize_rtn: bits must be 2 to 8, it is 9");
    CHECK(message_of<magr::option_error>([] { magr::detail::require_option(false, "preprocess", "alpha", "positive", -0.5); }) ==
          "preprocess: alpha must be positive, it is -0.5");
}

TEMPLATE_TEST_CASE("concat: writes floating-point numbers as a stream of nine digits does", "[detail][contract][oracle]", float, double) {
    using limits = std::numeric_limits<TestType>;
    std::vector<TestType> values = {0,
                                    TestType(-0.0),
                                    1,
                                    TestType(-0.1),
                                    limits::max(),
                                    limits::lowest(),
                                    limits::min(),
                                    limits::denorm_min(),
                                    limits::infinity(),
                                    -limits::infinity(),
                                    limits::quiet_NaN()};
    std::mt19937_64 random(10);
    using bits = std::conditional_t<std::is_same_v<TestType, double>, std::uint64_t, std::uint32_t>;
    for (int i = 0; i < 2000; ++i) values.push_back(std::bit_cast<TestType>(static_cast<bits>(random())));
    for (int i = -30; i < 30; ++i) values.push_back(static_cast<TestType>(std::pow(10.0, i) * 12345));
    index_t wrong = 0;
    for (const TestType value : values) {
        std::ostringstream expected;
        expected.precision(9);
        expected << value;
        wrong += magr::detail::concat(value) == expected.str() ? 0 : 1;
    }
    CHECK(wrong == 0);
}

TEST_CASE("contract: numbers in messages do not depend on the global locale", "[detail][contract]") {
    struct other_numbers : std::numpunct<char> {
        char do_decimal_point() const override { return ','; }
        char do_thousands_sep() const override { return '.'; }
        std::string do_grouping() const override { return "\3"; }
    };
    const std::locale before = std::locale::global(std::locale(std::locale::classic(), new other_numbers));
    const std::string text = magr::detail::concat(12345, " and ", 0.5, " and ", 1e9f, " and ", std::size_t{2000});
    const std::string refused =
        message_of<magr::option_error>([] { magr::detail::require_option(false, "f", "size", "small", 1234567.5); });
    std::locale::global(before);
    CHECK(text == "12345 and 0.5 and 1e+09 and 2000");
    CHECK(refused == "f: size must be small, it is 1234567.5");
}
