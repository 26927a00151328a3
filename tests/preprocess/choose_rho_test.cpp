// SPDX-License-Identifier: MIT
#include <Eigen/Eigenvalues>
#include <cmath>
#include <limits>

#include <magr/parallel/thread_pool.hpp>
#include <magr/preprocess/choose_rho.hpp>

#include "layers.hpp"
#include "support/catch.hpp"

using layers::index_t;
using layers::row_major;

namespace {

/// Of the scaled matrix whose spectrum decides, by definition.
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

TEST_CASE("choose_rho: is at the documented place of the spectrum", "[preprocess][oracle]") {
    magr::serial_executor serial;
    for (const double spread : {0.5, 3.0, 6.0})
        for (const double damping : {1e-3, 1e-2, 1e-1})
            for (const index_t n : {1, 2, 20, 300}) {
                const row_major<double> H = layers::random_layer(1, n, 31, spread).H;
                Eigen::ArrayXd D;
                const Eigen::ArrayXd lambda = eigenvalues(H, damping, D);
                const auto problem = magr::detail::make_layer_problem(magr::as_const_view(H), n, damping);
                const double rho = magr::detail::choose_rho(problem, D, serial);
                const double share = (rho / 4 / (lambda + rho / 4)).mean();
                CAPTURE(spread, damping, n, rho, share);
                CHECK(rho >= 0.01);
                CHECK(rho <= 0.35);
                if (n < 100) continue;  // one vector says little of so few eigenvalues
                if (rho > 0.0102) CHECK(share < 0.15);
                if (rho < 0.345) CHECK(share > 0.1);
            }
}

TEST_CASE("choose_rho: the same bits whatever executes it, and a step for any matrix", "[preprocess][determinism]") {
    magr::serial_executor serial;
    row_major<double> H = layers::random_layer(1, 200, 32).H;
    Eigen::ArrayXd D;
    static_cast<void>(eigenvalues(H, 1e-2, D));
    const auto problem = magr::detail::make_layer_problem(magr::as_const_view(H), 200, 1e-2);
    const double expected = magr::detail::choose_rho(problem, D, serial);
    for (const index_t workers : {2, 7}) {
        magr::thread_pool pool(workers);
        CHECK(magr::detail::choose_rho(problem, D, pool) == expected);
    }
    H(2, 3) = H(3, 2) = 100 * H.diagonal().maxCoeff();  // indefinite: the factorization is going to tell
    const auto indefinite = magr::detail::make_layer_problem(magr::as_const_view(H), 200, 1e-2);
    const double any = magr::detail::choose_rho(indefinite, D, serial);
    CHECK((any >= 0.01 && any <= 0.35));
}

TEST_CASE("preprocess: the step that suits the spectrum needs few iterations on very different layers", "[preprocess][property]") {
    for (const double spread : {0.5, 3.0, 6.0})
        for (const double damping : {1e-3, 1e-2, 1e-1}) {
            const auto [W0, H] = layers::random_layer(20, 100, 33, spread);
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
