// SPDX-License-Identifier: MIT
#include <Eigen/Core>
#include <magr/matrix/matrix.hpp>
#include <magr/parallel/thread_pool.hpp>
#include <magr/prox.hpp>

#include "kernels/samples.hpp"
#include "support/catch.hpp"
#include "support/counting_executor.hpp"

using Eigen::Dynamic;
using magr::index_t;
using magr::vector_axis;
using magr::vectors_of;

namespace {

constexpr index_t rows = 5;
constexpr index_t cols = 1030;  // longer than one block of the kernels; not a multiple of a group

/// One kind of matrix, with its `type` and a function that makes an instance of rows x cols.
template <class Matrix>
struct plain {
    using type = Matrix;
    static Matrix make(index_t r, index_t c) { return Matrix(r, c); }
};

/// A block of a larger matrix of Scalar and storage order.
template <class Scalar, int Order>
struct inner_block {
    struct type {
        Eigen::Matrix<Scalar, Dynamic, Dynamic, Order> outer;
        auto block() { return outer.block(2, 3, outer.rows() - 4, outer.cols() - 7); }
    };
    static type make(index_t r, index_t c) { return {Eigen::Matrix<Scalar, Dynamic, Dynamic, Order>::Zero(r + 4, c + 7)}; }
};

/// Elements three apart.
template <class Scalar, int Order>
struct inner_strided {
    struct type {
        std::vector<Scalar> data;
        index_t r, c;
        auto map() {
            using stride = Eigen::Stride<Dynamic, Dynamic>;
            const index_t leading = 3 * (Order == Eigen::RowMajor ? c : r) + 1;
            return Eigen::Map<Eigen::Matrix<Scalar, Dynamic, Dynamic, Order>, 0, stride>(data.data(), r, c, stride(leading, 3));
        }
    };
    static type make(index_t r, index_t c) { return {std::vector<Scalar>(static_cast<std::size_t>(3 * r * c + r + c)), r, c}; }
};

/// The argument for the functions: the matrix itself, or the view that an owner of its storage lends.
auto argument(auto& made) {
    if constexpr (requires { made.block(); })
        return made.block();
    else if constexpr (requires { made.map(); })
        return made.map();
    else
        return magr::as_view(made);
}

enum class operation { project, prox };

template <class S>
void apply(operation what, std::span<S> v, std::span<const S> d, double amount) {
    if (what == operation::project)
        d.empty() ? magr::project_l1_ball(v, amount) : magr::project_l1_ball(v, d, amount);
    else
        d.empty() ? magr::prox_linf(v, amount) : magr::prox_linf(v, d, amount);
}

template <class Matrix, class S>
void apply(operation what, Matrix&& M, const std::vector<S>& d, double amount, const vectors_of& part) {
    if (what == operation::project)
        d.empty() ? magr::project_l1_ball(M, amount, part) : magr::project_l1_ball(M, d, amount, part);
    else
        d.empty() ? magr::prox_linf(M, amount, part) : magr::prox_linf(M, d, amount, part);
}

/// The function of a matrix must give the same bits as the function of a vector for copies of its rows, columns or groups.
template <class Kind>
void check_against_vectors(operation what, const vectors_of& part, bool weighted) {
    auto made = Kind::make(part.along == vector_axis::rows ? rows : cols, part.along == vector_axis::rows ? cols : rows);
    auto M = argument(made);
    const auto view = magr::as_view(M);
    using storage = typename decltype(view)::value_type;
    using compute = magr::compute_t<storage>;

    std::mt19937 generator(11);
    for (index_t i = 0; i < view.rows(); ++i)
        for (index_t j = 0; j < view.cols(); ++j) view(i, j) = static_cast<storage>(static_cast<float>(samples::gaussian(generator)));
    std::vector<compute> d;
    for (index_t k = 0; weighted && k < cols; ++k) d.push_back(static_cast<compute>(0.1 + samples::uniform(generator)));

    constexpr double amount = 5;
    const auto along = part.along == vector_axis::rows ? view : view.transposed();
    magr::matrix<storage> expected(rows, cols);
    for (index_t i = 0; i < rows; ++i)
        for (index_t j = 0; j < cols; j += part.group_size.value_or(cols)) {
            const index_t n = std::min(part.group_size.value_or(cols), cols - j);
            std::vector<compute> v;
            for (index_t k = 0; k < n; ++k) v.push_back(static_cast<compute>(along(i, j + k)));
            const auto metric = std::span<const compute>(d);
            apply(what, std::span(v), metric.empty() ? metric : metric.subspan(static_cast<std::size_t>(j), v.size()), amount);
            for (index_t k = 0; k < n; ++k) expected(i, j + k) = static_cast<storage>(v[static_cast<std::size_t>(k)]);
        }

    apply(what, M, d, amount, part);
    const auto first_difference = [&]() -> std::string {
        for (index_t i = 0; i < rows; ++i)
            for (index_t j = 0; j < cols; ++j)
                if (static_cast<compute>(along(i, j)) != static_cast<compute>(expected(i, j)))
                    return "vector " + std::to_string(i) + ", element " + std::to_string(j);
        return {};
    };
    INFO((what == operation::project ? "project_l1_ball" : "prox_linf")
         << (part.along == vector_axis::rows ? " of rows" : " of columns") << ", group " << part.group_size.value_or(0)
         << (weighted ? ", weighted" : ""));
    CHECK(first_difference() == "");
}

}  // namespace

TEMPLATE_TEST_CASE("prox: every layout and storage type gives the bits of the vector functions", "[kernels][prox][property]",
                   (plain<Eigen::Matrix<float, Dynamic, Dynamic, Eigen::RowMajor>>), (plain<Eigen::MatrixXf>), (plain<Eigen::MatrixXd>),
                   (plain<magr::matrix<double>>), (inner_block<float, Eigen::RowMajor>), (inner_block<double, Eigen::ColMajor>),
                   (inner_strided<float, Eigen::RowMajor>), (inner_strided<double, Eigen::ColMajor>),
                   (plain<Eigen::Matrix<Eigen::half, Dynamic, Dynamic, Eigen::RowMajor>>),
                   (plain<Eigen::Matrix<Eigen::half, Dynamic, Dynamic, Eigen::ColMajor>>),
                   (plain<Eigen::Matrix<Eigen::bfloat16, Dynamic, Dynamic, Eigen::RowMajor>>),
                   (inner_block<Eigen::bfloat16, Eigen::ColMajor>)) {
    for (const auto what : {operation::project, operation::prox})
        for (const auto along : {vector_axis::rows, vector_axis::columns})
            for (const std::optional<index_t> group_size : {std::optional<index_t>{}, {128}, {1}, {5000}})
                for (const bool weighted : {false, true}) check_against_vectors<TestType>(what, {along, group_size}, weighted);
}

TEST_CASE("prox: workers share the vectors of a matrix, and every executor gives the same bits", "[kernels][prox][determinism]") {
    std::mt19937 generator(12);
    const auto made = Eigen::MatrixXf::NullaryExpr(150, 70, [&] { return static_cast<float>(samples::gaussian(generator)); }).eval();
    const std::vector<float> ones(150, 1.5F);
    const auto all = [&](magr::executor_ref exec) {
        std::vector<Eigen::MatrixXf> results(4, made);
        magr::project_l1_ball(results[0], 5, {}, exec);
        magr::project_l1_ball(results[1], ones, 5, {vector_axis::columns, 16}, exec);
        magr::prox_linf(results[2], 5, {vector_axis::rows, 16}, exec);
        magr::prox_linf(results[3], ones, 5, {vector_axis::columns}, exec);
        return results;
    };
    const auto expected = all({});
    for (const index_t workers : {1, 2, 7}) {
        magr::thread_pool pool(workers);
        const auto found = all(pool);
        for (std::size_t k = 0; k < found.size(); ++k) CHECK((found[k].array() == expected[k].array()).all());
    }
    counting_executor exec;
    static_cast<void>(all(exec));
    CHECK(exec.loops == std::vector<index_t>{3, 2, 3, 2});  // strips of 64 rows or columns
}

TEST_CASE("prox: an inner block is all that is written", "[kernels][prox][property]") {
    auto made = inner_block<float, Eigen::RowMajor>::make(rows, cols);
    made.outer.setConstant(7);
    magr::project_l1_ball(made.block(), 0.0);
    CHECK(made.outer.sum() == 7 * static_cast<float>(made.outer.size() - rows * cols));
    CHECK(made.block().isZero(0));
}

TEST_CASE("prox: a matrix without rows or columns is left alone", "[kernels][prox][edge]") {
    Eigen::MatrixXf no_rows(0, 4), no_cols(4, 0);
    for (const auto along : {vector_axis::rows, vector_axis::columns}) {
        CHECK_NOTHROW(magr::prox_linf(no_rows, 1.0, {along}));
        CHECK_NOTHROW(magr::project_l1_ball(no_cols, 1.0, {along, 2}));
    }
}

TEMPLATE_TEST_CASE("prox: entries near the largest number are projected and clipped like others", "[kernels][prox][edge]", float, double,
                   Eigen::half, Eigen::bfloat16) {
    using compute = magr::compute_t<TestType>;
    const auto largest = static_cast<compute>(std::numeric_limits<TestType>::max());
    for (const index_t n : {1, 2, 8, 64, 1030, 4096}) {
        std::mt19937 generator(static_cast<unsigned>(n));
        samples::sample<compute> s;
        for (index_t j = 0; j < n; ++j) {
            const auto drawn = static_cast<compute>(samples::random_sign(generator) * (0.2 + 0.8 * samples::uniform(generator)));
            s.v.push_back(static_cast<compute>(static_cast<TestType>(largest * drawn)));
        }
        for (const double share : {0.2, 0.9}) {
            const auto elements = oracle::prox_elements(s.v, s.d);
            const auto total = static_cast<double>(samples::total_of(elements, share));
            if (!std::isfinite(total)) continue;  // overflows a double
            magr::matrix<TestType> clipped(1, n), projected(1, n);
            for (index_t j = 0; j < n; ++j) clipped(0, j) = projected(0, j) = static_cast<TestType>(s.v[static_cast<std::size_t>(j)]);
            magr::prox_linf(clipped, total);
            magr::project_l1_ball(projected, total);
            const auto prox = oracle::prox_linf(s.v, s.d, total), projection = oracle::project_l1_ball(s.v, s.d, total);
            INFO("n = " << n << ", share " << share);
            const auto error = static_cast<long double>(std::numeric_limits<TestType>::epsilon()) * static_cast<long double>(largest);
            const std::vector allowed(s.v.size(), 8 * error);
            const auto row_of = [&](const magr::matrix<TestType>& m) {
                std::vector<compute> row;
                for (index_t j = 0; j < n; ++j) row.push_back(static_cast<compute>(m(0, j)));
                return row;
            };
            CHECK(samples::first_difference(row_of(clipped), prox, allowed) == "");
            CHECK(samples::first_difference(row_of(projected), projection, allowed) == "");
        }
    }
}

TEST_CASE("prox: a product with the metric that overflows is named before anything is written", "[kernels][prox][edge]") {
    magr::matrix<float> m(2, 3);
    m(0, 0) = 1e38F;
    m(1, 2) = -1e38F;
    const auto before = m;
    const std::vector<float> d = {1, 1, 10};
    CHECK_THROWS_WITH(magr::project_l1_ball(m, std::span(d), 1.0),
                      "project_l1_ball: d times M must be finite, entry (row 1, column 2) is "
                      "-9.99999968e+37 and its d is 10");
    CHECK(m == before);
    magr::prox_linf(m, std::span(d), 1e38);  // works although this product overflows a float
    CHECK(m(1, 2) == Approx(-9e37).epsilon(1e-6));
}

TEST_CASE("prox: bad arguments are named before anything is written", "[kernels][prox][edge]") {
    const Eigen::MatrixXf original = Eigen::MatrixXf::Constant(2, 3, 4);
    Eigen::MatrixXf M = original;
    const double nan = std::numeric_limits<double>::quiet_NaN();
    CHECK_THROWS_WITH(magr::prox_linf(M, -1.0), "prox_linf: t must be at least 0, it is -1");
    CHECK_THROWS_WITH(magr::project_l1_ball(M, -2.0), "project_l1_ball: radius must be at least 0, it is -2");
    CHECK_THROWS_AS(magr::prox_linf(M, nan), magr::option_error);
    CHECK_THROWS_AS(magr::project_l1_ball(M, nan), magr::option_error);
    CHECK_THROWS_WITH(magr::prox_linf(M, 1.0, {vector_axis::rows, 0}), "prox_linf: group_size must be at least 1, it is 0");
    CHECK_THROWS_AS(magr::project_l1_ball(M, 1.0, {vector_axis::rows, -5}), magr::option_error);

    std::vector<float> d = {1, 1};
    CHECK_THROWS_WITH(magr::prox_linf(M, d, 1.0), "prox_linf: d must have 3 elements, it has 2");
    CHECK_THROWS_AS(magr::project_l1_ball(M, d, 1.0), magr::shape_error);
    for (const float bad :
         {0.0F, -1.0F, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::denorm_min(), static_cast<float>(nan)}) {
        d = {1, 1, bad};
        CHECK_THROWS_AS(magr::prox_linf(M, d, 1.0), magr::value_error);
        CHECK_THROWS_AS(magr::project_l1_ball(M, d, 1.0), magr::value_error);
    }
    CHECK(M == original);

    M(1, 2) = static_cast<float>(nan);
    CHECK_THROWS_WITH(magr::prox_linf(M, 1.0), "prox_linf: M must be finite, entry (row 1, column 2) is nan");
    CHECK_THROWS_AS(magr::project_l1_ball(M, 1.0), magr::value_error);
    CHECK(M.topRows(1) == original.topRows(1));
}
