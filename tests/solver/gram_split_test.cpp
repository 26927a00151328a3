// SPDX-License-Identifier: MIT
#include <Eigen/Eigenvalues>
#include <cmath>
#include <limits>

#include <magr/parallel/thread_pool.hpp>
#include <magr/solver/gram_split.hpp>

#include "preprocess/layers.hpp"
#include "support/catch.hpp"

using preprocess_layers::index_t;
using preprocess_layers::row_major;

namespace {

/// The eigenvalues, by definition, of the scaled matrix whose spectrum decides.
Eigen::ArrayXd eigenvalues(const row_major<double>& H, double damping, Eigen::ArrayXd& D) {
    const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> top(Eigen::MatrixXd(H), Eigen::EigenvaluesOnly);
    Eigen::MatrixXd damped = H / top.eigenvalues().maxCoeff();
    damped.diagonal().array() += damping * damped.diagonal().mean();
    D = damped.diagonal().array();
    D += 1e-3 * D.mean();
    const Eigen::VectorXd root = D.rsqrt().matrix();
    const Eigen::MatrixXd scaled = root.asDiagonal() * damped * root.asDiagonal();
    return Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd>(scaled, Eigen::EigenvaluesOnly).eigenvalues().array();
}

}  // namespace

TEST_CASE("split_gram: without a dominating direction rho is at the documented place of the spectrum", "[preprocess][oracle]") {
    magr::serial_executor serial;
    for (const double damping : {1e-3, 1e-2, 1e-1})
        for (const index_t n : {1, 2, 20, 300}) {
            const row_major<double> X = row_major<double>::Random(3 * n, n);
            const row_major<double> H = X.transpose() * X;
            Eigen::ArrayXd D;
            const Eigen::ArrayXd lambda = eigenvalues(H, damping, D);
            const auto problem = magr::detail::make_layer_problem(magr::hessian(H), n, damping);
            const auto split = magr::detail::split_gram(problem, true, serial);
            CHECK(split.directions() == 0);
            CHECK((split.D - D).abs().maxCoeff() <= 1e-12 * D.maxCoeff());
            const double r = (std::sqrt(1 + 5.6 * split.rho) - 1) / 2.8;  // rho = r (1 + 1.4 r)
            const double share = (r / 4 / (lambda + r / 4)).mean();
            CAPTURE(damping, n, split.rho, share);
            CHECK(r >= 0.001);
            CHECK(r <= 1.001);
            if (n < 100) continue;  // one vector says little about so few eigenvalues
            CHECK(share < 0.15);
            if (r < 0.98) CHECK(share > 0.1);
        }
}

TEST_CASE("split_gram: finds what dominates, and leaves what remains", "[preprocess][oracle]") {
    constexpr index_t n = 200;
    magr::serial_executor serial;
    const auto split_of = [&](const preprocess_layers::common_inputs& inputs) {
        const row_major<double> H = preprocess_layers::gram_of(inputs, n, 1000, 41);
        const auto problem = magr::detail::make_layer_problem(magr::hessian(H), n, 1e-2);
        const auto split = magr::detail::split_gram(problem, true, serial);
        Eigen::MatrixXd B(n, n);
        for (index_t i = 0; i < n; ++i)
            for (index_t j = 0; j < n; ++j) B(i, j) = problem.entry(i, j) + (i == j ? problem.shift : 0);
        B -= split.V * split.lambda.matrix().asDiagonal() * split.V.transpose();
        const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> left(B, Eigen::EigenvaluesOnly);
        CHECK(left.eigenvalues().minCoeff() >= -1e-9);  // the largest eigenvalue of the whole matrix was 1
        const Eigen::ArrayXd diagonal = B.diagonal().array().cwiseMax(0.0);
        CHECK((split.D - (diagonal + 1e-3 * diagonal.mean())).abs().maxCoeff() <= 1e-9 * split.D.maxCoeff());
        return split;
    };
    CHECK(split_of({}).directions() == 0);
    CHECK(split_of({.means = {30.0}}).directions() == 1);
    CHECK(split_of({.factors = {30, 20, 10, 5}}).directions() == 4);
    CHECK(split_of({.factors = {30, 30, 30, 30, 30, 30, 30, 30}}).directions() == 8);
    const index_t massive = split_of({.massive = 3, .massive_together = true}).directions();
    CHECK((massive == 1 || massive == 2));              // a second direction describes the differences between the three
    CHECK(split_of({.massive = 3}).directions() == 0);  // the diagonal describes them
}

TEST_CASE("split_gram: a direction that leaves most of every input is taken only if all inputs count", "[preprocess]") {
    constexpr index_t n = 200;
    magr::serial_executor serial;
    for (const double mean : {0.5, 10.0}) {
        const row_major<double> H = preprocess_layers::gram_of({.means = {mean}}, n, 1000, 42);
        const auto problem = magr::detail::make_layer_problem(magr::hessian(H), n, 1e-2);
        CHECK(magr::detail::split_gram(problem, true, serial).directions() == 1);
        // If the mean of each input is drawn around half the size of the noise, few inputs have a mean above sqrt(3) times the noise.
        CHECK(magr::detail::split_gram(problem, false, serial).directions() == (mean > 1 ? 1 : 0));
    }
}

TEST_CASE("split_gram: the same bits with every executor, and a step for any matrix", "[preprocess][determinism]") {
    magr::serial_executor serial;
    row_major<double> H = preprocess_layers::random_layer(1, 200, 32).H;
    const auto problem = magr::detail::make_layer_problem(magr::hessian(H), 200, 1e-2);
    const auto expected = magr::detail::split_gram(problem, true, serial);
    CHECK(expected.directions() > 0);
    for (const index_t workers : {2, 7}) {
        magr::thread_pool pool(workers);
        const auto split = magr::detail::split_gram(problem, true, pool);
        CHECK(split.rho == expected.rho);
        CHECK(split.V == expected.V);
    }
    H(2, 3) = H(3, 2) = 100 * H.diagonal().maxCoeff();  // indefinite, which the factorization will find
    const auto indefinite = magr::detail::make_layer_problem(magr::hessian(H), 200, 1e-2);
    const double any = magr::detail::split_gram(indefinite, true, serial).rho;
    CHECK((any >= 0.001 && any <= 2.5));
}

TEST_CASE("preprocess: the step that suits the spectrum needs few iterations on very different layers", "[preprocess][property]") {
    for (const double spread : {0.5, 3.0, 6.0})
        for (const double damping : {1e-3, 1e-2, 1e-1}) {
            const auto [W0, H] = preprocess_layers::random_layer(20, 100, 33, spread);
            const auto products = [&, &start = W0, &gram = H](std::optional<double> rho) {
                row_major<float> W = start.cast<float>();
                return magr::preprocess(W, gram, {.damping = damping, .rho = rho}).products;
            };
            double best = std::numeric_limits<double>::infinity();
            for (const double rho : {0.01, 0.02, 0.04, 0.08, 0.16, 0.32}) best = std::min(best, products(rho));
            CAPTURE(spread, damping, best);
            CHECK(products({}) <= 1.3 * best + 1);
        }
}
