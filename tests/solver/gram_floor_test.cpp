// SPDX-License-Identifier: MIT
#include <Eigen/Eigenvalues>
#include <random>
#include <vector>

#include <magr/solver/admm.hpp>
#include <magr/solver/gram_floor.hpp>

#include "preprocess/layers.hpp"
#include "support/catch.hpp"

using preprocess_layers::index_t;
using preprocess_layers::row_major;

namespace {

const std::vector<preprocess_layers::common_inputs> kinds = {{},
                                                             {.means = {3.0}},
                                                             {.means = {100.0}},
                                                             {.means = {30.0, 30.0}},
                                                             {.factors = {30, 20, 10, 5}},
                                                             {.factors = {3, 3, 3, 3, 3, 3, 3, 3}},
                                                             {.massive = 3},
                                                             {.massive = 3, .massive_together = true},
                                                             {.grading = 1e3},
                                                             {.means = {10.0}, .grading = 1e3}};

template <class Problem>
Eigen::MatrixXd damped(const Problem& problem) {
    Eigen::MatrixXd H(problem.cols(), problem.cols());
    for (index_t i = 0; i < H.rows(); ++i)
        for (index_t j = 0; j < H.cols(); ++j) H(i, j) = problem.entry(i, j) + (i == j ? problem.shift : 0);
    return H;
}

Eigen::MatrixXd dense(const magr::detail::gram_floor& floor, const magr::detail::gram_split& split) {
    Eigen::MatrixXd N = split.V * floor.strength.matrix().asDiagonal() * split.V.transpose();
    N.diagonal() += floor.floor.matrix();
    return N;
}

}  // namespace

TEMPLATE_TEST_CASE("make_gram_floor: H_d is above it", "[preprocess][certificate]", float, double) {
    constexpr index_t n = 120;
    magr::serial_executor serial;
    int verified = 0;
    for (const auto& kind : kinds)
        for (const index_t tokens : {20, 130, 1000})
            for (const double damping : {1e-4, 1e-2}) {
                const row_major<double> H = preprocess_layers::gram_of(kind, n, tokens, 51);
                const auto problem = magr::detail::make_layer_problem(magr::hessian(H), n, damping);
                const auto split = magr::detail::split_gram(problem, true, serial);
                const auto floor = magr::detail::make_gram_floor<TestType>(problem, split, serial);
                CAPTURE(&kind - kinds.data(), tokens, damping, split.directions());
                REQUIRE(floor.floor.size() == n);
                CHECK(floor.floor.minCoeff() >= 0.74 * problem.shift);
                if (floor.floor.maxCoeff() > 1.01 * problem.shift) ++verified;
                // H_d - N in the metric of the bulk, where the mean of its eigenvalues is 1
                const Eigen::VectorXd root = split.D.rsqrt().matrix();
                const Eigen::MatrixXd H_d = root.asDiagonal() * damped(problem) * root.asDiagonal();
                const Eigen::MatrixXd above = H_d - root.asDiagonal() * dense(floor, split) * root.asDiagonal();
                const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> eigen(above, Eigen::EigenvaluesOnly);
                CHECK(eigen.eigenvalues().minCoeff() >= -1e-13 * H_d.diagonal().maxCoeff() * n);
            }
    CHECK(verified >= 15);
}

TEST_CASE("make_gram_floor: is what the shift gives where there is no larger one, and nothing without damping", "[preprocess]") {
    constexpr index_t n = 60;
    magr::serial_executor serial;
    const row_major<double> singular = preprocess_layers::gram_of({}, n, 10, 52);
    const auto problem = magr::detail::make_layer_problem(magr::hessian(singular), n, 1e-2);
    const auto split = magr::detail::split_gram(problem, true, serial);
    CHECK(split.directions() == 10);
    CHECK((magr::detail::make_gram_floor<double>(problem, split, serial).floor == 0.75 * problem.shift).all());

    const auto undamped = magr::detail::make_layer_problem(magr::hessian(singular), n, 0);
    const auto split_undamped = magr::detail::split_gram(undamped, true, serial);
    CHECK((magr::detail::make_gram_floor<double>(undamped, split_undamped, serial).floor <= 1e-12).all());
}

TEST_CASE("make_gram_floor: a matrix that is not above its diagonal is found out", "[preprocess][edge]") {
    constexpr index_t n = 60;
    magr::serial_executor serial;
    row_major<double> H = preprocess_layers::gram_of({}, n, 500, 53);
    const auto split = [&] {
        const auto problem = magr::detail::make_layer_problem(magr::hessian(H), n, 1e-2);
        return magr::detail::split_gram(problem, true, serial);
    }();
    CHECK(split.low > 0.1);
    H.row(7) = H.row(8);  // now H contradicts the Lanczos steps
    H.col(7) = H.col(8);
    const auto problem = magr::detail::make_layer_problem(magr::hessian(H), n, 1e-2);
    CHECK((magr::detail::make_gram_floor<double>(problem, split, serial).floor == problem.shift).all());
}

TEMPLATE_TEST_CASE("row_floor: f^T N^-1 f is that of the dense matrix", "[preprocess][oracle]", float, double) {
    constexpr index_t n = 90;
    magr::serial_executor serial;
    std::mt19937 random(54);
    std::normal_distribution<double> normal;
    for (const auto& kind : kinds) {
        const row_major<double> H = preprocess_layers::gram_of(kind, n, 400, 55);
        const auto problem = magr::detail::make_layer_problem(magr::hessian(H), n, 1e-2);
        const auto split = magr::detail::split_gram(problem, true, serial);
        const auto floor = magr::detail::make_gram_floor<TestType>(problem, split, serial);
        const magr::detail::admm_metric<TestType> metric(split, 0.3);
        const magr::detail::row_floor<TestType> inverse(floor, split);
        Eigen::Array<TestType, 1, Eigen::Dynamic> u(n), g(n), apart(n);
        for (index_t j = 0; j < n; ++j) {
            u(j) = static_cast<TestType>(normal(random));
            g(j) = static_cast<TestType>(normal(random) * problem.diagonal(j));
        }
        const auto found = inverse.of(metric, u.data(), g.data(), apart.data());
        REQUIRE(found.floor != nullptr);
        REQUIRE((found.apart != nullptr) == (split.directions() > 0));
        double value = found.added;
        Eigen::VectorXd f(n);
        for (index_t j = 0; j < n; ++j) {
            f(j) = static_cast<double>(metric.diagonal()[j]) * static_cast<double>(u(j)) + static_cast<double>(g(j));
            const double rest = f(j) - (found.apart != nullptr ? static_cast<double>(apart(j)) : 0.0);
            value += rest * rest * static_cast<double>(found.floor[j]);
        }
        const double expected = f.dot(dense(floor, split).ldlt().solve(f));
        CAPTURE(&kind - kinds.data(), split.directions());
        // every c gives an upper bound
        CHECK(value >= (1 - 1e-5) * expected);
        CHECK(value <= (1 + (sizeof(TestType) == 4 ? 1e-2 : 1e-7)) * expected);
    }
}
