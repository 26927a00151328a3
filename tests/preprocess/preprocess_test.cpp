// SPDX-License-Identifier: MIT
#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>

#include <magr/parallel/thread_pool.hpp>
#include <magr/solver/row_bounds.hpp>

#include "layers.hpp"
#include "support/catch.hpp"

using preprocess_layers::exact;
using preprocess_layers::exact_problem;
using preprocess_layers::index_t;
using preprocess_layers::random_layer;
using preprocess_layers::row_major;

namespace {

/// Largest difference relative to the largest entry.
template <class A, class B>
double difference(const A& a, const B& b) {
    const exact x = a.template cast<long double>(), y = b.template cast<long double>();
    return static_cast<double>((x - y).cwiseAbs().maxCoeff() / std::max(y.cwiseAbs().maxCoeff(), 1e-300L));
}

}  // namespace

TEMPLATE_TEST_CASE("preprocess: the result is within its certified gap of the optimum", "[preprocess][certificate]", float, double) {
    for (const auto solver : {magr::preprocess_solver::admm, magr::preprocess_solver::proximal_gradient})
        for (const index_t group : {24, 7, 1})
            for (const double alpha : {1e-4, 1e-2, 1.0})
                for (const double damping : {1e-2, 1e-1}) {
                    const auto [W0, H] = random_layer(5, 24, 11);
                    const row_major<TestType> start = W0.cast<TestType>();
                    const exact_problem oracle(start.template cast<double>(), H, alpha, group, damping);
                    const long double optimum = oracle.objective(oracle.optimum());
                    row_major<TestType> W = start;
                    const auto result = magr::preprocess(W, H,
                                                         {.alpha = alpha,
                                                          .group_size = group,
                                                          .solver = solver,
                                                          .damping = damping,
                                                          .max_iterations = 3000,
                                                          .tolerance = 1e-4});
                    CAPTURE(static_cast<int>(solver), group, alpha, damping, result.iterations, result.gap);
                    CHECK(result.stopped == magr::stop_reason::converged);
                    CHECK(result.gap <= 1e-4);
                    CHECK(result.mean_gap <= result.largest_gap);
                    const auto reached = static_cast<double>(oracle.objective(W.template cast<long double>()));
                    const double rounding = std::is_same_v<TestType, float> ? 1e-5 : 1e-9;
                    CHECK(result.objective == Approx(reached).epsilon(rounding));
                    CHECK(reached >= static_cast<double>(optimum) * (1 - 1e-9));
                    CHECK(reached - static_cast<double>(optimum) <= (result.gap + rounding) * reached);
                    for (index_t i = 0; i < W.rows(); ++i) {
                        const long double best = oracle.row_objective(oracle.optimum(), i);
                        const long double row = oracle.row_objective(W.template cast<long double>(), i);
                        CHECK(static_cast<double>(row - best) <= (result.largest_gap + rounding) * static_cast<double>(row));
                    }
                }
}

TEST_CASE("preprocess: the gap bounds the distance to the optimum after any number of iterations", "[preprocess][certificate]") {
    for (const auto solver : {magr::preprocess_solver::admm, magr::preprocess_solver::proximal_gradient})
        for (const index_t iterations : {1, 2, 5, 20})
            for (const double damping : {0.0, 1e-3, 1e-2})
                for (const index_t group : {30, 8}) {
                    const auto [W0, H] = random_layer(4, 30, 21);
                    const exact_problem oracle(W0, H, 1e-2, group, damping);
                    const exact best = oracle.optimum();
                    row_major<double> W = W0;
                    const auto result = magr::preprocess(W, H,
                                                         {.alpha = 1e-2,
                                                          .group_size = group,
                                                          .solver = solver,
                                                          .damping = damping,
                                                          .max_iterations = iterations,
                                                          .tolerance = 0.0});
                    CAPTURE(static_cast<int>(solver), iterations, damping, group);
                    CHECK(result.stopped == magr::stop_reason::iteration_limit);
                    CHECK(result.iterations == iterations);
                    const auto distance = static_cast<double>(oracle.objective(W.cast<long double>()) - oracle.objective(best));
                    CHECK(distance <= result.gap * result.objective * (1 + 1e-9));
                }
}

TEMPLATE_TEST_CASE("preprocess: proximal_gradient is the authors' iteration", "[preprocess][oracle]", float, double) {
    struct recipe {
        index_t group;
        double alpha;
        int iterations;
    };
    for (const auto& [group, alpha, iterations] :
         {recipe{48, 1e-3, 150}, recipe{48, 1e-3, 200}, recipe{16, 1e-4, 200}, recipe{10, 1e-2, 150}})
        for (unsigned seed = 1; seed <= 3; ++seed) {
            const auto [W0, H] = random_layer(8, 48, seed);
            row_major<TestType> W = W0.cast<TestType>();
            const exact_problem oracle(W.template cast<double>(), H, alpha, group, 0);
            const exact expected = oracle.proximal_gradient(iterations);
            const auto result = magr::preprocess(
                W, H,
                {.alpha = alpha, .group_size = group, .solver = magr::preprocess_solver::proximal_gradient, .max_iterations = iterations});
            CAPTURE(group, alpha, iterations, seed);
            CHECK(result.iterations == iterations);
            CHECK(result.damping == 0);
            CHECK(difference(W, expected) < 1e-5);
            CHECK(difference(W, oracle.W0) > 1e-3);  // it has an effect
            CHECK(result.objective == Approx(static_cast<double>(oracle.objective(expected))).epsilon(1e-5));
        }
}

TEST_CASE("preprocess: defaults are the documented ones", "[preprocess]") {
    const auto [W0, H] = random_layer(3, 20, 5);
    const auto run = [&, &start = W0, &gram = H](magr::preprocess_options options) {
        row_major<double> W = start;
        return magr::preprocess(W, gram, options);
    };
    CHECK(run({}).alpha == 1e-3);
    CHECK(run({}).damping == 1e-2);
    CHECK(run({}).gap <= 1e-3);
    CHECK((run({}).rho >= 0.001 && run({}).rho <= 6));
    CHECK(run({.rho = 0.5}).rho == 0.5);
    CHECK(run({.group_size = 10}).alpha == 1e-4);
    const auto authors = run({.solver = magr::preprocess_solver::proximal_gradient});
    CHECK(authors.damping == 0);
    CHECK(authors.iterations == 200);
    CHECK(authors.rho == 0);
    CHECK(authors.stopped == magr::stop_reason::iteration_limit);
}

TEST_CASE("preprocess: the report agrees with the definitions", "[preprocess][oracle]") {
    const auto [W0, H] = random_layer(6, 25, 9);
    for (const index_t group : {25, 9}) {
        row_major<double> W = W0;
        const auto result = magr::preprocess(W, H, {.alpha = 1e-2, .group_size = group});
        const exact_problem oracle(W0, H, 1e-2, group, 1e-2);
        CHECK(result.objective_before == Approx(static_cast<double>(oracle.objective(oracle.W0))));
        CHECK(result.linf_before == W0.cwiseAbs().maxCoeff());
        CHECK(result.linf_after == W.cwiseAbs().maxCoeff());
        const row_major<double> d = W - W0;
        CHECK(result.output_error == Approx((d * H).cwiseProduct(d).sum() / (W0 * H).cwiseProduct(W0).sum()).epsilon(1e-9));
        CHECK(result.lambda_max ==
              Approx(Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd>(Eigen::MatrixXd(H)).eigenvalues().maxCoeff()).epsilon(1e-8));
        double before = 0, after = 0, groups = 0;
        for (index_t i = 0; i < 6; ++i)
            for (index_t j = 0; j < 25; j += group, groups += 1) {
                before += W0.row(i).segment(j, std::min(group, 25 - j)).cwiseAbs().maxCoeff();
                after += W.row(i).segment(j, std::min(group, 25 - j)).cwiseAbs().maxCoeff();
            }
        CHECK(result.mean_linf_before == Approx(before / groups));
        CHECK(result.mean_linf_after == Approx(after / groups));
    }
}

TEST_CASE("preprocess: never leaves a row worse than it was, however early it ends", "[preprocess][property]") {
    for (unsigned seed = 1; seed <= 10; ++seed)
        for (const double rho : {1e-4, 3e-2, 10.0})
            for (const index_t iterations : {1, 2, 3}) {
                const auto [W0, H] = random_layer(6, 32, seed, 6);
                row_major<float> W = W0.cast<float>();
                const exact_problem oracle(W.cast<double>(), H, 1e-3, 32, 1e-2);
                const auto result = magr::preprocess(W, H, {.max_iterations = iterations, .rho = rho});
                CHECK(result.objective <= result.objective_before);
                for (index_t i = 0; i < W.rows(); ++i) {
                    const auto before = static_cast<double>(oracle.row_objective(oracle.W0, i));
                    CHECK(static_cast<double>(oracle.row_objective(W.cast<long double>(), i)) <= before * (1 + 1e-5));
                    CHECK(W.row(i).cwiseAbs().maxCoeff() <= static_cast<float>(W0.row(i).cwiseAbs().maxCoeff()));
                }
            }
}

TEST_CASE("preprocess: limits of alpha", "[preprocess][edge]") {
    const auto [W0, H] = random_layer(4, 16, 3);
    row_major<double> W = W0;
    const auto nothing = magr::preprocess(W, H, {.alpha = 0.0});
    CHECK(W == W0);
    CHECK(nothing.stopped == magr::stop_reason::converged);
    CHECK(nothing.iterations == 0);
    CHECK(nothing.output_error == 0);
    CHECK(nothing.linf_after == nothing.linf_before);
    // w = 0 is optimal exactly if ||H_d w0||_1 <= alpha.
    const exact_problem oracle(W0, H, 1, 16, 1e-2);
    const auto bound = static_cast<double>((oracle.W0 * oracle.H).cwiseAbs().rowwise().sum().maxCoeff());
    for (const auto solver : {magr::preprocess_solver::admm, magr::preprocess_solver::proximal_gradient}) {
        W = W0;
        const auto all =
            magr::preprocess(W, H, {.alpha = 1.001 * bound, .solver = solver, .damping = 1e-2, .max_iterations = 20000, .tolerance = 1e-6});
        CHECK(W.cwiseAbs().maxCoeff() < 1e-5 * W0.cwiseAbs().maxCoeff());
        CHECK(all.output_error == Approx(1).epsilon(1e-5));
    }
}

TEST_CASE("preprocess: the scale of H does not matter", "[preprocess][property]") {
    auto [W0, H] = random_layer(5, 20, 4);
    H /= H.diagonal().maxCoeff();
    for (const auto solver : {magr::preprocess_solver::admm, magr::preprocess_solver::proximal_gradient}) {
        row_major<double> reference = W0;
        const auto expected = magr::preprocess(reference, H, {.solver = solver});
        // up to both ends of double: H of numbers with fewer bits, whose reciprocals are infinite, and H whose largest eigenvalue is
        // infinite
        for (const double scale : {1e-310, 1e-300, 1e-30, 0x1p-20, 1e30, 1e300, 1e305, 1.7e308}) {
            row_major<double> W = W0;
            const row_major<double> scaled = H * scale;
            const auto result = magr::preprocess(W, scaled, {.solver = solver});
            CAPTURE(scale, static_cast<int>(solver));
            CHECK(difference(W, reference) < 1e-9);
            CHECK(result.stopped == expected.stopped);
            CHECK(result.iterations == expected.iterations);
            CHECK(result.objective == Approx(expected.objective).epsilon(1e-9));
            CHECK(result.output_error == Approx(expected.output_error).epsilon(1e-9));
            if (scale < 1e308)
                CHECK(result.lambda_max == Approx(expected.lambda_max * scale).epsilon(1e-9));
            else
                CHECK(result.lambda_max == std::numeric_limits<double>::infinity());
        }
        for (const double scale : {1e-40, 1e-30, 0x1p-20, 1e30, 3e38}) {  // up to both ends of float
            row_major<float> W = W0.cast<float>();
            const row_major<float> scaled = (H * scale).cast<float>();
            const auto result = magr::preprocess(W, scaled, {.solver = solver});
            CAPTURE(scale, static_cast<int>(solver));
            CHECK(difference(W, reference) < (scale == 1e-40 ? 1e-2 : 1e-3));  // at 1e-40 H has 16 bits left
            CHECK(result.objective == Approx(expected.objective).epsilon(1e-4));
            CHECK(result.output_error == Approx(expected.output_error).epsilon(1e-3));
        }
    }
}

TEST_CASE("preprocess: W and alpha of any scale", "[preprocess][edge]") {
    const auto [W0, H] = random_layer(5, 20, 4);
    row_major<double> reference = W0;
    magr::preprocess(reference, H);
    for (const double scale : {1e-30, 1e30}) {  // (W, alpha) -> (c W, c alpha) scales the solution by c
        row_major<float> W = (W0 * scale).cast<float>();
        const auto result = magr::preprocess(W, H, {.alpha = 1e-3 * scale});
        CAPTURE(scale);
        CHECK(result.stopped == magr::stop_reason::converged);
        CHECK(difference(W, row_major<double>(reference * scale)) < 1e-3);
    }
}

TEST_CASE("preprocess: rows are independent", "[preprocess][property]") {
    const auto [W0, H] = random_layer(300, 24, 8);  // more rows than one tile
    row_major<double> together = W0;
    const magr::preprocess_options options{.max_iterations = 12, .tolerance = 0.0};
    magr::preprocess(together, H, options);
    for (const index_t i : {0, 127, 128, 255, 256, 299}) {
        row_major<double> alone = W0.row(i);
        magr::preprocess(alone, H, options);
        CHECK(difference(alone, together.row(i)) < 1e-12);
    }
}

TEMPLATE_TEST_CASE("preprocess: every layout gives the same bits", "[preprocess][layout]", float, double) {
    const auto [W0, H64] = random_layer(9, 26, 12);
    const row_major<TestType> start = W0.cast<TestType>(), H = H64.cast<TestType>();
    row_major<TestType> expected = start;
    const auto report = magr::preprocess(expected, H, {.group_size = 8});
    const auto same = [&](const auto& W) { return row_major<TestType>(W) == expected; };

    Eigen::Matrix<TestType, Eigen::Dynamic, Eigen::Dynamic> columns = start;
    const Eigen::Matrix<TestType, Eigen::Dynamic, Eigen::Dynamic> H_columns = H;
    CHECK(magr::preprocess(columns, H_columns, {.group_size = 8}).objective == report.objective);
    CHECK(same(columns));

    row_major<TestType> large = row_major<TestType>::Constant(20, 40, TestType(7));
    large.block(5, 3, 9, 26) = start;
    magr::preprocess(large.block(5, 3, 9, 26), H, {.group_size = 8});
    CHECK(same(large.block(5, 3, 9, 26)));
    large.block(5, 3, 9, 26).setConstant(TestType(7));
    CHECK((large.array() == TestType(7)).all());  // nothing around it was written

    std::vector<TestType> raw(9 * 32, TestType(-1));
    for (index_t i = 0; i < 9; ++i)
        for (index_t j = 0; j < 26; ++j) raw[static_cast<std::size_t>(i * 32 + j)] = start(i, j);
    const magr::matrix_view<TestType> view(raw.data(), 9, 26, 32);
    magr::preprocess(view, H, {.group_size = 8});
    for (index_t i = 0; i < 9; ++i)
        for (index_t j = 0; j < 32; ++j) CHECK(raw[static_cast<std::size_t>(i * 32 + j)] == (j < 26 ? expected(i, j) : TestType(-1)));

    std::vector<TestType> strided(9 * 26 * 3);
    Eigen::Map<row_major<TestType>, 0, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>> spaced(strided.data(), 9, 26, {26 * 3, 3});
    spaced = start;
    magr::preprocess(spaced, H, {.group_size = 8});
    CHECK(same(spaced));
}

TEMPLATE_TEST_CASE("preprocess: 16-bit weights are worked on in float and rounded once", "[preprocess][layout]", Eigen::half,
                   Eigen::bfloat16) {
    const auto [W0, H] = random_layer(7, 18, 13);
    row_major<TestType> W = W0.cast<TestType>();
    row_major<float> expected = W.template cast<float>();
    magr::preprocess(expected, H);
    magr::preprocess(W, H);
    for (index_t i = 0; i < W.rows(); ++i)
        for (index_t j = 0; j < W.cols(); ++j)
            CHECK(static_cast<float>(W(i, j)) == static_cast<float>(static_cast<TestType>(expected(i, j))));
    row_major<float> again = W0.cast<TestType>().template cast<float>();
    const row_major<TestType> narrow = H.cast<TestType>();  // H may be stored in 16 bits too
    CHECK(magr::preprocess(again, narrow).stopped == magr::stop_reason::converged);
}

TEST_CASE("preprocess: is deterministic", "[preprocess][property]") {
    const auto [W0, H] = random_layer(40, 64, 14);
    row_major<float> first = W0.cast<float>(), second = first;
    const auto a = magr::preprocess(first, H, {.group_size = 16});
    const auto b = magr::preprocess(second, H, {.group_size = 16});
    CHECK(first == second);
    CHECK(a.gap == b.gap);
}

TEST_CASE("preprocess: singular Gram matrices", "[preprocess][edge]") {
    auto [W0, H] = random_layer(5, 20, 15);
    SECTION("dead inputs") {
        // Their weights are zeros, because the oracle does not know dead inputs.
        for (const index_t dead : {0, 7, 19}) H.row(dead).setZero(), H.col(dead).setZero(), W0.col(dead).setZero();
    }
    SECTION("rank one") {
        Eigen::VectorXd x(20);
        for (index_t j = 0; j < 20; ++j) x(j) = W0(0, j) + 0.01;
        H = x * x.transpose();
    }
    SECTION("one tiny negative eigenvalue") {
        H.diagonal().array() -=
            Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd>(Eigen::MatrixXd(H)).eigenvalues().minCoeff() + 1e-9 * H.diagonal().mean();
    }
    for (const double damping : {0.0, 1e-2})
        for (const auto solver : {magr::preprocess_solver::admm, magr::preprocess_solver::proximal_gradient}) {
            row_major<float> W = W0.cast<float>();
            const auto result = magr::preprocess(W, H, {.solver = solver, .damping = damping});
            CAPTURE(damping, static_cast<int>(solver), result.gap);
            CHECK(W.allFinite());
            CHECK(std::isfinite(result.gap));
            CHECK(result.objective <= result.objective_before);
            const exact_problem oracle(W0.cast<float>().cast<double>(), H, 1e-3, 20, damping);
            const auto distance = static_cast<double>(oracle.objective(W.cast<long double>()) - oracle.objective(oracle.optimum()));
            CHECK(distance <= (result.gap + 1e-4) * result.objective);
        }
}

TEST_CASE("preprocess: tiny shapes and rows of zeros", "[preprocess][edge]") {
    row_major<float> one(1, 1), H(1, 1);
    one << 2;
    H << 5;
    magr::preprocess(one, H, {.alpha = 0.5, .damping = 0.0, .tolerance = 1e-6});
    // 1/2 (w - 2)^2 + |w| / 2 has its minimum 0.875 at 1.5, and a gap of 1e-6 of that leaves w within sqrt(2 * 0.875e-6).
    CHECK(one(0, 0) == Approx(1.5).margin(1.4e-3));
    auto [W0, gram] = random_layer(3, 12, 16);
    W0.row(1).setZero();
    row_major<double> W = W0;
    const auto result = magr::preprocess(W, gram);
    CHECK(W.row(1).isZero(0));
    CHECK(result.stopped == magr::stop_reason::converged);
    W.setZero();
    const auto zero = magr::preprocess(W, gram);
    CHECK(W.isZero(0));
    CHECK(zero.output_error == 0);
    CHECK(zero.gap == 0);
}

namespace {

magr::observer_flow stop_at_once(const magr::preprocess_progress&) { return magr::observer_flow::stop; }

struct stop_and_count {
    explicit stop_and_count(int& counter) : calls(counter) {}
    stop_and_count(const stop_and_count&) = delete;
    magr::observer_flow operator()(const magr::preprocess_progress&) {
        ++calls;
        return magr::observer_flow::stop;
    }
    int& calls;
};

}  // namespace

TEST_CASE("preprocess: a function, a pointer to one, and an object that cannot be copied can be observers", "[preprocess][observer]") {
    const auto [W0, H] = random_layer(1000, 20, 17);
    row_major<double> W = W0;
    CHECK(magr::preprocess(W, H, {}, stop_at_once).stopped == magr::stop_reason::cancelled);
    CHECK(magr::preprocess(W, H, {}, &stop_at_once).stopped == magr::stop_reason::cancelled);
    int calls = 0;
    CHECK(magr::preprocess(W, H, {}, stop_and_count(calls)).stopped == magr::stop_reason::cancelled);
    CHECK(calls == 1);
    const magr::ignore_progress nobody;
    CHECK(magr::preprocess(W, H, {}, nobody).stopped == magr::stop_reason::converged);
}

TEST_CASE("preprocess: the observer follows the rows and can cancel", "[preprocess][observer]") {
    const auto [W0, H] = random_layer(1000, 20, 17);  // more tiles than one serial batch
    for (const auto solver : {magr::preprocess_solver::admm, magr::preprocess_solver::proximal_gradient}) {
        row_major<double> all = W0;
        std::vector<index_t> seen;
        const auto result = magr::preprocess(all, H, {.solver = solver}, [&](const magr::preprocess_progress& progress) {
            CHECK(progress.rows == 1000);
            seen.push_back(progress.rows_done);
        });
        CHECK(result.stopped != magr::stop_reason::cancelled);
        REQUIRE(seen.size() > 2);
        CHECK(std::is_sorted(seen.begin(), seen.end(), std::less_equal<>()));
        CHECK(seen.back() == 1000);

        row_major<double> part = W0;
        const auto stopped = magr::preprocess(part, H, {.solver = solver}, [&](const magr::preprocess_progress& progress) noexcept {
            return progress.rows_done < seen[1] ? magr::observer_flow::proceed : magr::observer_flow::stop;
        });
        CHECK(stopped.stopped == magr::stop_reason::cancelled);
        CHECK(part.topRows(seen[1]) == all.topRows(seen[1]));
        CHECK(part.bottomRows(1000 - seen[1]) == W0.bottomRows(1000 - seen[1]));
        CHECK(stopped.objective > result.objective);
        CHECK(stopped.objective < stopped.objective_before);

        row_major<float> thrown = W0.cast<float>();
        const row_major<float> before = thrown;
        int calls = 0;
        CHECK_THROWS_AS(magr::preprocess(thrown, H, {.solver = solver},
                                         [&](const magr::preprocess_progress&) {
                                             if (++calls == 2) throw std::runtime_error("enough");
                                         }),
                        std::runtime_error);
        CHECK(thrown == before);
    }
    row_major<double> W = W0;  // stopping after the last row cancels nothing
    CHECK(magr::preprocess(W, H, {}, [](const magr::preprocess_progress& p) {
              return p.rows_done == p.rows ? magr::observer_flow::stop : magr::observer_flow::proceed;
          }).stopped == magr::stop_reason::converged);
}

TEST_CASE("preprocess: an indefinite H is refused in the result", "[preprocess][edge]") {
    const auto [W0, H0] = random_layer(3, 10, 19);
    row_major<double> H = H0, W = W0;
    H(2, 3) = H(3, 2) = 3 * std::sqrt(H(2, 2) * H(3, 3));
    const auto result = magr::preprocess(W, H);
    CHECK(result.stopped == magr::stop_reason::not_factored);
    CHECK(result.objective == result.objective_before);
    CHECK(W == W0);
}

TEST_CASE("preprocess: what is not a number certifies nothing", "[preprocess][certificate]") {
    const auto [W0, H0] = random_layer(3, 10, 19);
    SECTION("H is indefinite, so that the objective has no lower bound") {
        row_major<double> H = H0;
        H(2, 3) = H(3, 2) = 3 * std::sqrt(H(2, 2) * H(3, 3));
        for (const index_t iterations : {200, 2000}) {  // quadratics are negative, and finally overflow
            row_major<float> W = W0.cast<float>();
            const auto result = magr::preprocess(
                W, H, {.solver = magr::preprocess_solver::proximal_gradient, .max_iterations = iterations, .tolerance = 1e-3});
            CHECK(result.stopped == magr::stop_reason::iteration_limit);
            CHECK(result.gap == 1);
            CHECK(W == W0.cast<float>());
        }
    }
    SECTION("H has no largest eigenvalue, as its entries do not fit together") {
        row_major<double> H = H0 * (1e-300 / H0.diagonal().maxCoeff()), W = W0;
        H(2, 3) = H(3, 2) = 1e300;
        for (const auto solver : {magr::preprocess_solver::admm, magr::preprocess_solver::proximal_gradient}) {
            const auto result = magr::preprocess(W, H, {.solver = solver});
            CHECK(result.stopped == magr::stop_reason::not_factored);
            CHECK(result.gap == 1);
            CHECK(W == W0);
        }
    }
    SECTION("the bound itself") {
        constexpr double inf = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
        const auto bound = magr::detail::best_dual;
        CHECK(bound(2, 4, 1) == 0.5);  // 2 t - 2 t^2 at t = 1/2
        CHECK(bound(2, 4, 0.25) == 0.375);
        CHECK(bound(2, 0, 3) == 6);
        for (const double linear : {2.0, -2.0, inf, nan})
            for (const double quadratic : {inf, nan, -1.0}) CHECK(bound(linear, quadratic, 1) == 0);
        CHECK(bound(inf, 4, 1) == 0);
        CHECK(bound(2, 0, inf) == 0);
    }
}

TEMPLATE_TEST_CASE("preprocess: the same bits with every executor", "[preprocess][determinism]", float, double) {
    const auto [W0, H] = random_layer(300, 130, 20);
    for (const auto solver : {magr::preprocess_solver::admm, magr::preprocess_solver::proximal_gradient}) {
        row_major<TestType> expected = W0.cast<TestType>();
        const magr::preprocess_options options{.group_size = 32, .solver = solver};
        const auto report = magr::preprocess(expected, H, options);
        for (const index_t workers : {1, 2, 7}) {
            magr::thread_pool pool(workers);
            row_major<TestType> W = W0.cast<TestType>();
            const auto result = magr::preprocess(W, H, options, magr::ignore_progress{}, pool);
            CHECK(W == expected);
            CHECK(result.gap == report.gap);
            CHECK(result.objective == report.objective);
        }
    }
}

TEST_CASE("preprocess: bad input throws and leaves W bit-identical", "[preprocess][errors]") {
    const auto [W0, H0] = random_layer(6, 10, 18);
    const row_major<float> start = W0.cast<float>(), H = H0.cast<float>();
    const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();

    const auto refused = [](row_major<float> W, const row_major<float>& gram, const magr::preprocess_options& options,
                            const char* expected) {
        const row_major<float> before = W;
        std::string kind, message;
        try {
            magr::preprocess(W, gram, options);
        } catch (const magr::shape_error& error) {
            kind = "shape", message = error.what();
        } catch (const magr::option_error& error) {
            kind = "option", message = error.what();
        } catch (const magr::value_error& error) {
            kind = "value", message = error.what();
        }
        CHECK(kind + ": " + message == expected);
        CHECK((W.size() == 0 || std::memcmp(W.data(), before.data(), sizeof(float) * static_cast<std::size_t>(W.size())) == 0));
    };
    const auto with = [](row_major<float> M, index_t i, index_t j, float value) {
        M(i, j) = value;
        return M;
    };

    refused(start, row_major<float>(H.topRows(9)), {}, "shape: preprocess: H must be square, it is 9 x 10");
    refused(start, row_major<float>(H.topLeftCorner(9, 9)), {}, "shape: preprocess: H must be 10 x 10, it is 9 x 9");
    refused(row_major<float>(0, 10), H, {}, "shape: preprocess: W must not be empty, it is 0 x 10");
    refused(row_major<float>(6, 0), H, {}, "shape: preprocess: W must not be empty, it is 6 x 0");
    refused(start, row_major<float>(), {}, "shape: preprocess: H must not be empty, it is 0 x 0");
    refused(with(start, 4, 3, nan), H, {}, "value: preprocess: W must be finite, entry (row 4, column 3) is nan");
    refused(with(start, 0, 9, -inf), H, {}, "value: preprocess: W must be finite, entry (row 0, column 9) is -inf");
    refused(start, with(H, 2, 7, nan), {}, "value: preprocess: H must be finite, entry (row 2, column 7) is nan");
    refused(start, with(H, 9, 9, inf), {}, "value: preprocess: H must be finite, entry (row 9, column 9) is inf");
    refused(start, with(H, 3, 3, -2), {}, "value: preprocess: H must have no negative diagonal entry, entry (row 3, column 3) is -2");
    CHECK_THROWS_AS(magr::preprocess(row_major<float>(start), with(H, 2, 1, H(2, 1) + H.diagonal().maxCoeff())), magr::value_error);
    refused(start, H, {.alpha = -1.0}, "option: preprocess_options: alpha must be finite and at least 0, it is -1");
    refused(start, H, {.alpha = static_cast<double>(nan)}, "option: preprocess_options: alpha must be finite and at least 0, it is nan");
    refused(start, H, {.group_size = 0}, "option: preprocess_options: group_size must be at least 1, it is 0");
    refused(start, H, {.group_size = -4}, "option: preprocess_options: group_size must be at least 1, it is -4");
    refused(start, H, {.damping = static_cast<double>(inf)},
            "option: preprocess_options: damping must be finite and at least 0, it is inf");
    refused(start, H, {.max_iterations = 0}, "option: preprocess_options: max_iterations must be at least 1, it is 0");
    refused(start, H, {.tolerance = -1e-3}, "option: preprocess_options: tolerance must be finite and at least 0, it is -0.001");
    refused(start, H, {.rho = 0.0}, "option: preprocess_options: rho must be finite and above 0, it is 0");
    refused(start, H, {.relaxation = 2}, "option: preprocess_options: relaxation must be between 0 and 2 exclusively, it is 2");
}

// Layers of a real network, if available: MAGR_MODELS names a folder that holds `use-lite`, row-major float32 files NAME.W.f32 (out x in)
// and NAME.X_calib.f32 (2048 tokens x in). Without it, nothing is checked.
namespace {

using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

struct real_layer {
    const char* name;
    Eigen::Index out, in;
};
constexpr real_layer real_layers[] = {{"L0.ffn1", 1536, 512}, {"L1.ffn2", 512, 1536}, {"L1.attn_out", 512, 512}};

matrix read(const std::string& path, Eigen::Index rows, Eigen::Index cols) {
    matrix values(rows, cols);
    std::ifstream file(path, std::ios::binary);
    file.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(sizeof(float)) * values.size());
    REQUIRE(file.good());
    return values;
}

}  // namespace

TEST_CASE("preprocess: real layers reach a certified gap of 1e-3 within 10 products, with little damping 20", "[preprocess][real]") {
    const char* const folder = std::getenv("MAGR_MODELS");
    if (folder == nullptr) return;
    for (const auto& [name, out, in] : real_layers) {
        const std::string base = std::string(folder) + "/use-lite/" + name;
        const matrix W0 = read(base + ".W.f32", out, in);
        magr::gram_accumulator<> gram(in);
        gram.add(read(base + ".X_calib.f32", 2048, in));
        for (const double alpha : {1e-3, 1e-4})
            for (const double damping : {1e-2, 1e-3}) {
                matrix W = W0;
                const auto result = magr::preprocess(W, gram.gram(), {.alpha = alpha, .damping = damping});
                CAPTURE(name, alpha, damping, result.iterations, result.gap);
                CHECK(result.stopped == magr::stop_reason::converged);
                CHECK(result.gap <= 1e-3);
                CHECK(result.products <= (damping < 1e-2 ? 20 : 10));
            }
    }
}

TEST_CASE("preprocess: on real layers the gap of float weights bounds the distance to the optimum in double", "[preprocess][real]") {
    const char* const folder = std::getenv("MAGR_MODELS");
    if (folder == nullptr) return;
    const std::string base = std::string(folder) + "/use-lite/L0.ffn1";  // the worst conditioned one
    const matrix W0 = read(base + ".W.f32", 1536, 512).topRows(96);
    magr::gram_accumulator<> calibration(512);
    calibration.add(read(base + ".X_calib.f32", 2048, 512));
    row_major<double> H(512, 512);
    for (index_t i = 0; i < 512; ++i)
        for (index_t j = 0; j < 512; ++j) H(i, j) = static_cast<double>(calibration.gram()(i, j));
    for (const double damping : {1e-3, 1e-2, 1e-1}) {
        magr::preprocess_options options{.alpha = 1e-3, .damping = damping, .max_iterations = 1000, .tolerance = 1e-8};
        const row_major<double> start = W0.cast<double>();
        row_major<double> best = start;
        const auto optimum = magr::preprocess(best, H, options);
        CHECK(optimum.gap <= 1e-8);
        row_major<double> damped = H / optimum.lambda_max;
        damped.diagonal().array() += damping * damped.diagonal().mean();
        for (const double tolerance : {1e-3, 1e-5}) {
            matrix W = W0;
            options.tolerance = tolerance;
            const auto result = magr::preprocess(W, H, options);
            const row_major<double> d = W.cast<double>() - start;
            const double reached = (d * damped).cwiseProduct(d).sum() / 2 + 1e-3 * W.cast<double>().cwiseAbs().rowwise().maxCoeff().sum();
            CAPTURE(damping, tolerance, result.gap);
            CHECK(result.stopped == magr::stop_reason::converged);
            CHECK(result.gap <= tolerance);
            CHECK(result.objective == Approx(reached).epsilon(2e-6));
            CHECK(reached - optimum.objective <= (result.gap + 1e-6) * reached);
        }
    }
}

TEST_CASE("preprocess: without damping the fast solver goes far below what the authors' iteration ends at", "[preprocess][real]") {
    const char* const folder = std::getenv("MAGR_MODELS");
    if (folder == nullptr) return;
    const std::string base = std::string(folder) + "/use-lite/L1.ffn2";
    const matrix W0 = read(base + ".W.f32", 512, 1536);
    magr::gram_accumulator<> gram(1536);
    gram.add(read(base + ".X_calib.f32", 2048, 1536));
    matrix W = W0;
    CHECK(magr::preprocess(W, gram.gram(), {.alpha = 1e-3, .damping = 0.0}).objective <= 0.1205);
    W = W0;
    CHECK(magr::preprocess(W, gram.gram(), {.alpha = 1e-3, .solver = magr::preprocess_solver::proximal_gradient}).objective ==
          Approx(0.1762).epsilon(1e-3));
}
