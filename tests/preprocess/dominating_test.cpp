// SPDX-License-Identifier: MIT
// Inputs like those of language models: a large common mean, a few common factors, massive channels. A few eigenvalues of their Gram
// matrices are 1e2 to 1e5 times the others.
#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <Eigen/QR>
#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "layers.hpp"
#include "support/catch.hpp"

using preprocess_layers::common_inputs;
using preprocess_layers::index_t;
using preprocess_layers::row_major;

namespace {

constexpr index_t channels = 128;

struct family_member {
    std::string name;
    row_major<double> X;
    index_t iterations;  ///< iterations that suffice with damping 1e-2
};

std::vector<family_member> family(unsigned seed) {
    std::vector<family_member> all;
    const auto add = [&](std::string name, const common_inputs& inputs, index_t tokens, index_t iterations = 12) {
        all.push_back({std::move(name), preprocess_layers::inputs_of(inputs, channels, tokens, seed), iterations});
    };
    add("mean 1", {.means = {1.0}}, 1024);
    add("mean 3", {.means = {3.0}}, 1024);
    add("mean 30", {.means = {30.0}}, 1024);
    add("mean 100", {.means = {100.0}}, 1024);
    add("two means", {.means = {30.0, 30.0}}, 1024);
    add("8 factors", {.factors = {30, 30, 30, 30, 30, 30, 30, 30}}, 1024);
    add("factors of different strength", {.factors = {3, 10, 30, 100, 300}}, 1024);
    add("a factor and a mean", {.means = {10.0}, .factors = {50}}, 1024);
    add("massive channels together", {.massive = 3, .massive_together = true}, 1024);
    add("massive channels apart", {.massive = 3}, 1024);
    add("graded", {.grading = 1e3}, 1024);
    add("graded with a mean", {.means = {10.0}, .grading = 1e3}, 1024);
    add("independent", {}, 1024);
    add("1 token", {}, 1);
    add("3 tokens", {}, 3);
    add("8 tokens", {}, 8);
    add("16 tokens", {}, 16, 40);
    add("half as many tokens as channels", {}, channels / 2, 40);
    const row_major<double> noise = preprocess_layers::inputs_of({}, channels, channels, seed);
    row_major<double> falling = Eigen::HouseholderQR<row_major<double>>(noise).householderQ();
    for (index_t j = 0; j < channels; ++j) falling.row(j) *= std::pow(10.0, -6.0 * static_cast<double>(j) / channels);
    all.push_back({"a spectrum that falls by 1e12", falling, 40});
    return all;
}

/// Gaussian rows whose sizes differ by 1e3.
row_major<float> graded_rows(index_t rows, unsigned seed) {
    row_major<double> W = preprocess_layers::inputs_of({}, channels, rows, seed);
    for (index_t i = 0; i < rows; ++i) W.row(i) *= 0.02 * std::pow(1e3, static_cast<double>(i) / static_cast<double>(rows - 1));
    return W.cast<float>();
}

/// The objective of each row by its definition, as sums of squares of outputs, in which nothing cancels.
struct outputs_problem {
    const row_major<double>& X;
    row_major<double> W0;
    double lambda_max, alpha, damping;

    [[nodiscard]] double objective(const row_major<double>& W, index_t i) const {
        const Eigen::VectorXd d = (W.row(i) - W0.row(i)).transpose();
        const double mean = X.squaredNorm() / static_cast<double>(X.cols());
        return ((X * d).squaredNorm() + damping * mean * d.squaredNorm()) / lambda_max / 2 + alpha * W.row(i).cwiseAbs().maxCoeff();
    }

    [[nodiscard]] Eigen::MatrixXd damped_gram() const {
        Eigen::MatrixXd H = X.transpose() * X;
        H.diagonal().array() += damping * H.diagonal().mean();
        return H / lambda_max;
    }

    /// A lower bound of the optimum of row i, from the dual vector of a point near it: the subgradient -H_d (w - w0) on the clipped
    /// elements, scaled to the penalty. It is computed by substitution, and shares nothing with the solver.
    [[nodiscard]] double lower_bound(const row_major<double>& near, index_t i, const Eigen::MatrixXd& H,
                                     const Eigen::LLT<Eigen::MatrixXd>& factor) const {
        const double linf = near.row(i).cwiseAbs().maxCoeff();
        Eigen::VectorXd s = H * (W0.row(i) - near.row(i)).transpose();
        for (index_t j = 0; j < s.size(); ++j)
            if (linf > 0 && (std::abs(near(i, j)) < (1 - 1e-9) * linf || s(j) * near(i, j) < 0)) s(j) = 0;
        const double norm = s.cwiseAbs().sum();
        if (linf > 0 || norm > alpha) s *= alpha / norm;
        return W0.row(i).dot(s) - s.dot(factor.solve(s)) / 2;
    }
};

}  // namespace

TEST_CASE("preprocess: float weights that are solved in double are measured as they are stored", "[preprocess][regression]") {
    const index_t n = 64;
    std::mt19937_64 random(1);
    std::normal_distribution<double> normal;
    row_major<double> X(200, n);
    for (index_t t = 0; t < 200; ++t) {
        const double common = 1000 * normal(random);  // of massive channels that move together
        for (index_t j = 0; j < n; ++j) X(t, j) = j < 3 ? common + 0.01 * normal(random) : normal(random);
    }
    const row_major<double> H = X.transpose() * X;
    for (const float size : {1e9F, 1e10F, 1e11F, 1e12F}) {
        row_major<float> W0(1, n);
        for (index_t j = 0; j < n; ++j) W0(0, j) = size * static_cast<float>(normal(random));
        row_major<float> W = W0;
        const auto report = magr::preprocess(W, H, {.alpha = 1e-2, .damping = 0});
        const auto objective = [&](const row_major<float>& w) {
            long double sum = 0, largest = 0;
            for (index_t i = 0; i < n; ++i) {
                largest = std::max(largest, std::abs(static_cast<long double>(w(0, i))));
                for (index_t j = 0; j < n; ++j)
                    sum += (static_cast<long double>(w(0, i)) - W0(0, i)) * H(i, j) * (static_cast<long double>(w(0, j)) - W0(0, j));
            }
            return static_cast<double>(sum / 2 / report.lambda_max + report.alpha * largest);
        };
        CAPTURE(size);
        CHECK(report.objective == Approx(objective(W)).epsilon(1e-9));
        CHECK(objective(W) <= objective(W0) * (1 + 1e-12));
    }
}

TEST_CASE("preprocess: every row reaches its optimum where directions dominate", "[preprocess][certificate]") {
    for (const family_member& member : family(51)) {
        const row_major<double> H = member.X.transpose() * member.X;
        const row_major<float> W0 = graded_rows(10, 52);
        for (const double alpha : {1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0})
            for (const double damping : {1e-2, 1e-4}) {
                row_major<float> W = W0;
                const auto result = magr::preprocess(W, H, {.alpha = alpha, .damping = damping});
                // The optimum is bounded from both sides: from above by a solution in double, from below by a dual vector made from it.
                row_major<double> best = W0.cast<double>();
                const auto optimum =
                    magr::preprocess(best, H, {.alpha = alpha, .damping = damping, .max_iterations = 1000, .tolerance = 1e-11});
                const outputs_problem problem{member.X, W0.cast<double>(), optimum.lambda_max, alpha, damping};
                CAPTURE(member.name, alpha, damping, result.iterations, result.gap, result.largest_gap, result.rho, result.directions);
                if (damping == 1e-2) {
                    CHECK(result.iterations <= member.iterations);
                    CHECK(result.stopped == magr::stop_reason::converged);
                }
                const Eigen::MatrixXd damped = problem.damped_gram();
                const Eigen::LLT<Eigen::MatrixXd> factor(damped);
                double total = 0, total_best = 0;
                for (index_t i = 0; i < W.rows(); ++i) {
                    const double reached = problem.objective(W.cast<double>(), i);
                    const double least = std::min(reached, problem.objective(best, i));
                    CHECK(reached <= problem.objective(problem.W0, i) * (1 + 1e-6));
                    const double lower = problem.lower_bound(best, i, damped, factor);
                    CHECK(lower <= least * (1 + 1e-9));
                    if (optimum.stopped == magr::stop_reason::converged) CHECK(lower >= least * (1 - 1e-4));
                    CHECK((reached - least) / reached <= result.largest_gap + 2e-6);
                    total += reached;
                    total_best += least;
                }
                CHECK(result.objective == Approx(total).epsilon(1e-5));
                CHECK((total - total_best) / total <= result.gap + 2e-6);
                if (result.stopped != magr::stop_reason::converged) continue;
                CHECK(result.gap <= 1e-3);
                CHECK(result.largest_gap <= 1e-3);
            }
    }
}

TEST_CASE("preprocess: a row ends with the same bits whatever the other rows are", "[preprocess][property]") {
    const row_major<double> H = preprocess_layers::gram_of({.means = {3.0}}, channels, 512, 53);
    const row_major<float> W0 = graded_rows(110, 54);  // more than one tile, and several classes of rows
    row_major<float> together = W0;
    magr::preprocess(together, H, {.alpha = 1e-2});
    for (const index_t i : {0, 1, 50, 95, 96, 109}) {
        row_major<float> alone = W0.row(i);
        magr::preprocess(alone, H, {.alpha = 1e-2});
        CAPTURE(i);
        CHECK(alone == together.row(i));
    }
}

TEST_CASE("preprocess: what float cannot tell apart is solved in double, and says so", "[preprocess][certificate]") {
    row_major<float> W = graded_rows(6, 55);
    const auto dominated = magr::preprocess(W, preprocess_layers::gram_of({.means = {100.0}}, channels, 512, 56));
    CHECK(dominated.rows_in_double == 6);
    CHECK(dominated.directions == 1);
    W = graded_rows(6, 55);
    const auto ordinary = magr::preprocess(W, preprocess_layers::random_layer(1, channels, 57).H);
    CHECK(ordinary.rows_in_double == 0);
    row_major<double> wide = graded_rows(6, 55).cast<double>();
    CHECK(magr::preprocess(wide, preprocess_layers::gram_of({.means = {100.0}}, channels, 512, 56)).rows_in_double == 0);
    // A penalty that is lost beside the weights: float differences cannot resolve a subgradient of that size.
    W = graded_rows(6, 55);
    const auto small = magr::preprocess(W, preprocess_layers::gram_of({}, channels, 512, 58), {.alpha = 1e-7});
    CHECK(small.rows_in_double > 0);
    CHECK(small.stopped == magr::stop_reason::converged);
}

TEST_CASE("preprocess: weights that meet dead inputs decide nothing", "[preprocess][property]") {
    row_major<double> H = preprocess_layers::random_layer(1, 40, 59).H;
    const std::vector<index_t> dead{0, 17, 18, 39};
    for (const index_t j : dead) H.row(j).setZero(), H.col(j).setZero();
    for (const auto solver : {magr::preprocess_solver::admm, magr::preprocess_solver::proximal_gradient})
        for (const index_t group : {40, 10}) {
            const row_major<double> W0 = preprocess_layers::random_layer(5, 40, 60).W;
            row_major<double> expected = W0, huge = W0;
            for (const index_t j : dead) expected.col(j).setZero(), huge.col(j).setConstant(1e3);
            const magr::preprocess_options options{.alpha = 1e-2, .group_size = group, .solver = solver};
            const auto report = magr::preprocess(expected, H, options);
            const auto result = magr::preprocess(huge, H, options);
            CHECK(result.objective == report.objective);
            CHECK(result.linf_before == report.linf_before);
            CHECK(result.mean_linf_after == report.mean_linf_after);
            for (index_t i = 0; i < 5; ++i)
                for (index_t j = 0; j < 40; ++j) {
                    if (std::find(dead.begin(), dead.end(), j) == dead.end())
                        CHECK(huge(i, j) == expected(i, j));
                    else  // clipped to the others of the group
                        CHECK(huge(i, j) == expected.row(i).segment(j / group * group, group).cwiseAbs().maxCoeff());
                }
        }
}

TEST_CASE("preprocess: dead inputs change neither the damping nor the solution of the others", "[preprocess][property]") {
    constexpr index_t live = 24, all = 40;
    const auto [W0, H0] = preprocess_layers::random_layer(5, live, 62);
    for (const auto solver : {magr::preprocess_solver::admm, magr::preprocess_solver::proximal_gradient}) {
        const magr::preprocess_options options{.alpha = 1e-2, .solver = solver, .damping = 1.0, .max_iterations = 2000, .tolerance = 1e-9};
        row_major<double> alone = W0, W = row_major<double>::Zero(5, all), H = row_major<double>::Zero(all, all);
        W.leftCols(live) = W0;
        H.topLeftCorner(live, live) = H0;
        const auto expected = magr::preprocess(alone, H0, options);
        const auto result = magr::preprocess(W, H, options);
        CHECK(result.objective == Approx(expected.objective).epsilon(1e-6));
        CHECK((W.leftCols(live) - alone).cwiseAbs().maxCoeff() < 1e-4 * W0.cwiseAbs().maxCoeff());
    }
}

TEMPLATE_TEST_CASE("preprocess: the report is that of the weights as they are stored", "[preprocess][certificate]", Eigen::half,
                   Eigen::bfloat16) {
    const row_major<double> H = preprocess_layers::random_layer(1, 64, 61).H;
    bool limited = false;
    for (const double alpha : {1e-2, 1e-3, 1e-4, 1e-5}) {
        const row_major<TestType> W0 = preprocess_layers::random_layer(12, 64, 62).W.cast<TestType>();
        row_major<TestType> W = W0;
        const auto result = magr::preprocess(W, H, {.alpha = alpha});
        const preprocess_layers::exact_problem oracle(W0.template cast<double>(), H, alpha, 64, 1e-2);
        const preprocess_layers::exact stored = W.template cast<double>().template cast<long double>();
        CAPTURE(alpha, result.gap, result.largest_gap);
        CHECK(result.objective == Approx(static_cast<double>(oracle.objective(stored))).epsilon(1e-5));
        for (index_t i = 0; i < W.rows(); ++i)
            CHECK(static_cast<double>(oracle.row_objective(stored, i)) <=
                  static_cast<double>(oracle.row_objective(oracle.W0, i)) * (1 + 1e-6));
        CHECK((result.stopped == magr::stop_reason::converged) == (result.largest_gap <= 1e-3));
        limited = limited || result.stopped == magr::stop_reason::rounding_limit;
    }
    if (std::is_same_v<TestType, Eigen::bfloat16>) CHECK(limited);  // it has 8 bits of precision
}

TEST_CASE("preprocess: a Gram matrix of inputs that are all zero leaves W as it is", "[preprocess][edge]") {
    const row_major<double> W0 = preprocess_layers::random_layer(5, 12, 63).W;
    for (const auto solver : {magr::preprocess_solver::admm, magr::preprocess_solver::proximal_gradient}) {
        row_major<double> W = W0;
        const auto result = magr::preprocess(W, row_major<double>(row_major<double>::Zero(12, 12)), {.solver = solver});
        CHECK(W == W0);
        CHECK(result.stopped == magr::stop_reason::converged);
        CHECK(result.output_error == 0);
        CHECK(result.lambda_max == 0);
    }
}

TEST_CASE("preprocess: weights whose squares no number holds are left alone, and the result says so", "[preprocess][edge]") {
    const auto [W0, H] = preprocess_layers::random_layer(3, 16, 64);
    for (const auto solver : {magr::preprocess_solver::admm, magr::preprocess_solver::proximal_gradient}) {
        row_major<double> W = W0;
        W.row(1) *= 1e200;
        const row_major<double> before = W;
        const auto result = magr::preprocess(W, H, {.solver = solver});
        CHECK(result.stopped == magr::stop_reason::overflowed);
        CHECK(std::isfinite(result.objective));
        CHECK(W.row(1) == before.row(1));
        CHECK(W.row(0) != before.row(0));
    }
}
