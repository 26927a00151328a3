// SPDX-License-Identifier: MIT
#include <magr/calibration/gram.hpp>
#include <magr/compensate_drift.hpp>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <magr/parallel/thread_pool.hpp>

#include "support/catch.hpp"

namespace {

using Eigen::MatrixXd;
using magr::index_t;

struct inputs {
    MatrixXd X, Y;  // X in full precision, Y of the quantized network
};

inputs drifting(index_t tokens, index_t width, double drift, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<double> normal;
    inputs made{MatrixXd(tokens, width), MatrixXd(tokens, width)};
    for (index_t t = 0; t < tokens; ++t)
        for (index_t j = 0; j < width; ++j) {
            made.X(t, j) = normal(random) + (j > 0 ? 0.7 * made.X(t, j - 1) : 0.0);
            made.Y(t, j) = made.X(t, j) + drift * normal(random) - drift * made.X(t, (j + 3) % (j + 1));
        }
    return made;
}

MatrixXd weights(index_t rows, index_t cols, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<double> normal;
    MatrixXd W(rows, cols);
    for (index_t i = 0; i < W.size(); ++i) W.data()[i] = normal(random);
    return W;
}

MatrixXd as_matrix(const magr::matrix<double>& m) {
    return Eigen::Map<const Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>(m.data(), m.rows(), m.cols());
}

}  // namespace

TEMPLATE_TEST_CASE("drift_accumulator: sums (x - y) y^T of every storage type and layout", "[calibration][drift][oracle]", float, double,
                   Eigen::half, Eigen::bfloat16) {
    for (const index_t width : {1, 5, 33, 400}) {
        const index_t tokens = width == 400 ? 3 : 500;  // more than one block of tokens; more than one task of rows
        const inputs data = drifting(tokens, width, 0.1, 7);
        const Eigen::Matrix<TestType, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> X = data.X.cast<TestType>();
        const Eigen::Matrix<TestType, Eigen::Dynamic, Eigen::Dynamic> Y = data.Y.cast<TestType>();
        magr::drift_accumulator<> sum(width);
        sum.add(X, Y);
        CHECK(sum.tokens() == tokens);
        const MatrixXd x = X.template cast<double>(), y = Y.template cast<double>();
        const MatrixXd expected = (x - y).transpose() * y;
        const double scale = std::sqrt((x - y).squaredNorm() * y.squaredNorm());
        CHECK((as_matrix(sum.drift()) - expected).cwiseAbs().maxCoeff() <= 1e-15 * static_cast<double>(tokens) * scale);
    }
}

TEST_CASE("drift_accumulator: a drift far below the precision of the inputs' products keeps its digits", "[calibration][drift]") {
    const inputs data = drifting(64, 8, 0, 3);
    const MatrixXd Y = data.X.array() + 1e-13;  // X^T Y and Y^T Y differ only in their last digits
    magr::drift_accumulator<> sum(8);
    sum.add(data.X, Y);
    const MatrixXd expected = (data.X - Y).transpose() * Y;
    CHECK((as_matrix(sum.drift()) - expected).norm() <= 1e-12 * expected.norm());
}

TEST_CASE("drift_accumulator: batches and merged accumulators add up, and every executor gives the same bits", "[calibration][drift]") {
    const inputs data = drifting(700, 450, 0.3, 5);
    magr::drift_accumulator<float> whole(450), parts(450), first(450), rest(450);
    whole.add(data.X, data.Y);
    first.add(data.X.topRows(256), data.Y.topRows(256));
    rest.add(data.X.bottomRows(444), data.Y.bottomRows(444));
    parts.merge(first);
    parts.merge(rest);
    CHECK(parts.tokens() == 700);
    const Eigen::Map<const Eigen::ArrayXf> a(whole.drift().data(), 450 * 450), b(parts.drift().data(), 450 * 450);
    CHECK((a - b).abs().maxCoeff() <= 1e-4f * a.abs().maxCoeff());
    for (const int workers : {2, 7}) {
        magr::thread_pool pool(workers);
        magr::drift_accumulator<float> parallel(450);
        parallel.add(data.X, data.Y, pool);
        CHECK(parallel.drift() == whole.drift());
    }
}

TEST_CASE("drift_accumulator: refuses what does not fit, and stays as it was", "[calibration][drift][errors]") {
    CHECK_THROWS_AS(magr::drift_accumulator<>(0), magr::shape_error);
    inputs data = drifting(4, 6, 0.1, 1);
    magr::drift_accumulator<> sum(6);
    sum.add(data.X, data.Y);
    const magr::matrix<double> before = sum.drift();
    CHECK_THROWS_AS(sum.add(data.X, data.Y.topRows(3)), magr::shape_error);
    CHECK_THROWS_AS(sum.add(data.X.leftCols(5), data.Y.leftCols(5)), magr::shape_error);
    CHECK_THROWS_AS(sum.merge(magr::drift_accumulator<>(5)), magr::shape_error);
    data.Y(2, 4) = std::nan("");
    CHECK_THROWS_WITH(sum.add(data.X, data.Y), Catch::Matchers::Contains("row 2") && Catch::Matchers::Contains("column 4"));
    CHECK_THROWS_AS(sum.add(data.Y, data.X), magr::value_error);
    CHECK(sum.drift() == before);
    CHECK(sum.tokens() == 4);
}

TEST_CASE("drift_accumulator: goes on from a sum that was saved, and refuses one that cannot be right", "[calibration][drift]") {
    const inputs data = drifting(500, 20, 0.3, 6);
    magr::drift_accumulator<> whole(20), early(20);
    for (auto* sum : {&whole, &early}) sum->add(data.X.topRows(200), data.Y.topRows(200));
    whole.add(data.X.bottomRows(300), data.Y.bottomRows(300));
    magr::drift_accumulator<> restored(early.drift(), early.tokens());
    CHECK(restored.drift() == early.drift());
    restored.add(data.X.bottomRows(300), data.Y.bottomRows(300));
    CHECK(restored.tokens() == 500);
    CHECK(restored.drift() == whole.drift());

    const MatrixXd D = MatrixXd::Ones(3, 3);
    CHECK_THROWS_AS(magr::drift_accumulator<>(MatrixXd(0, 0), 1), magr::shape_error);
    CHECK_THROWS_AS(magr::drift_accumulator<>(MatrixXd(MatrixXd::Ones(3, 4)), 1), magr::shape_error);
    CHECK_THROWS_AS(magr::drift_accumulator<>(D, 0), magr::value_error);
    CHECK_THROWS_AS(magr::drift_accumulator<>(MatrixXd(D * std::nan("")), 1), magr::value_error);
    CHECK_THROWS_AS(magr::drift_accumulator<float>(MatrixXd(D * -1e39), 1), magr::value_error);
    magr::drift_accumulator<> full(D, std::numeric_limits<index_t>::max());
    CHECK_THROWS_AS(full.add(D, D), magr::value_error);
    CHECK_THROWS_AS(full.merge(full), magr::value_error);
    CHECK(as_matrix(full.drift()) == D);
}

TEST_CASE("compensate_drift: the change is that of the weights as they are stored", "[drift][edge][regression]") {
    for (const double strength : {1e-5, 1e-3}) {
        const inputs made = drifting(32, 32, 0.1, 1);
        const MatrixXd H = 100 * MatrixXd::Identity(32, 32), D = strength * made.X;
        const Eigen::Matrix<Eigen::bfloat16, Eigen::Dynamic, Eigen::Dynamic> before = (0.05 * made.Y).topRows(8).cast<Eigen::bfloat16>();
        auto W = before;
        const auto result = magr::compensate_drift(W, H, D);
        REQUIRE(result.compensated);
        const MatrixXd was = before.cast<double>(), is = W.cast<double>();
        CHECK(result.change == Approx((is - was).norm() / was.norm()).margin(1e-15));
    }
}

TEST_CASE("compensate_drift: in full it is the least-squares fit to the original outputs", "[calibration][drift][certificate]") {
    const inputs data = drifting(200, 24, 0.2, 11);
    const MatrixXd W = weights(10, 24, 12);
    magr::gram_accumulator<> gram(24);
    magr::drift_accumulator<> drift(24);
    gram.add(data.Y);
    drift.add(data.X, data.Y);
    const auto residual = [&](const MatrixXd& V) { return MatrixXd(data.Y * V.transpose() - data.X * W.transpose()); };

    MatrixXd full = W;
    const auto result = magr::compensate_drift(full, gram.gram(), drift.drift(), {.fraction = 1, .damping = 0});
    CHECK(result.compensated);
    CHECK(result.change == Approx((full - W).norm() / W.norm()));
    // the residual of a least-squares fit is orthogonal to the inputs
    CHECK((data.Y.transpose() * residual(full)).norm() <= 1e-11 * data.Y.squaredNorm() * W.norm());
    CHECK(residual(full).norm() < 0.9 * residual(W).norm());

    // the change is proportional to the strength, so every step on the way goes downhill
    for (const double strength : {0.0, 0.25, 0.5}) {
        MatrixXd part = W;
        REQUIRE(magr::compensate_drift(part, gram.gram(), drift.drift(), {.fraction = strength, .damping = 0}).compensated);
        CHECK((part - W - strength * (full - W)).norm() <= 1e-12 * W.norm());
    }

    // with damping the same holds for (H + damping mean I)
    MatrixXd damped = W;
    REQUIRE(magr::compensate_drift(damped, gram.gram(), drift.drift(), {.fraction = 1, .damping = 0.3}).compensated);
    MatrixXd H = as_matrix(gram.gram());
    H.diagonal().array() += 0.3 * H.diagonal().mean();
    CHECK(((damped - W) * H - W * as_matrix(drift.drift())).norm() <= 1e-11 * H.norm() * W.norm());
}

TEMPLATE_TEST_CASE("compensate_drift: every storage type, a common factor cancels, every executor gives the same bits",
                   "[calibration][drift]", float, double, Eigen::half) {
    const inputs data = drifting(300, 40, 0.2, 21);
    const Eigen::Matrix<TestType, Eigen::Dynamic, Eigen::Dynamic> W = weights(200, 40, 22).cast<TestType>();
    magr::gram_accumulator<> gram(40);
    magr::drift_accumulator<> drift(40);
    gram.add(data.Y);
    drift.add(data.X, data.Y);
    auto plain = W;
    REQUIRE(magr::compensate_drift(plain, gram.gram(), drift.drift()).compensated);
    CHECK(plain != W);
    const MatrixXd H = as_matrix(gram.gram()), D = as_matrix(drift.drift());
    auto scaled = W;
    REQUIRE(magr::compensate_drift(scaled, (0x1p-900 * H).eval(), (0x1p-900 * D).eval()).compensated);
    CHECK(scaled == plain);
    magr::thread_pool pool(7);
    auto parallel = W;
    REQUIRE(magr::compensate_drift(parallel, H, D, {}, pool).compensated);
    CHECK(parallel == plain);
}

TEST_CASE("compensate_drift: dead inputs decide nothing, and a layer of them stays as it is", "[calibration][drift][edge]") {
    MatrixXd X = weights(20, 6, 3), Y = X + 0.1 * weights(20, 6, 4);
    X.col(2).setZero();
    Y.col(2).setZero();
    const MatrixXd H = Y.transpose() * Y, D = (X - Y).transpose() * Y;
    MatrixXd W = weights(3, 6, 5);
    W.col(2).setZero();
    MatrixXd large = W;
    large.col(2).setConstant(1e200);
    for (const double damping : {0.0, 0.1}) {
        MatrixXd a = W, b = large;
        const auto of_a = magr::compensate_drift(a, H, D, {.damping = damping});
        const auto of_b = magr::compensate_drift(b, H, D, {.damping = damping});
        CHECK(of_a.compensated);
        CHECK(of_b.compensated);
        CHECK(of_a.change > 0);
        CHECK(of_a.change == of_b.change);
        CHECK(b.col(2) == large.col(2));
        b.col(2).setZero();
        CHECK(a == b);
    }
    MatrixXd unchanged = W;
    CHECK_FALSE(magr::compensate_drift(unchanged, MatrixXd::Zero(6, 6).eval(), D).compensated);
    CHECK(unchanged == W);
}

TEST_CASE("compensate_drift: what cannot be done is said, and leaves the weights alone", "[calibration][drift][errors]") {
    const MatrixXd W = weights(3, 4, 1);
    MatrixXd H = MatrixXd::Identity(4, 4);
    const MatrixXd D = MatrixXd::Constant(4, 4, 0.5);
    MatrixXd V = W;
    H = MatrixXd::Ones(4, 4);  // singular
    CHECK_FALSE(magr::compensate_drift(V, H, D, {.damping = 0}).compensated);
    CHECK(V == W);
    CHECK(magr::compensate_drift(V, H, MatrixXd::Zero(4, 4).eval()).compensated);
    CHECK(V == W);
    Eigen::MatrixXf narrow = W.cast<float>();
    CHECK_FALSE(magr::compensate_drift(narrow, H, (1e60 * D).eval()).compensated);  // overflows a float
    CHECK(narrow == W.cast<float>());

    CHECK_THROWS_AS(magr::compensate_drift(V, H, MatrixXd::Zero(4, 3).eval()), magr::shape_error);
    CHECK_THROWS_AS(magr::compensate_drift(V, H.topLeftCorner(3, 3), D), magr::shape_error);
    CHECK_THROWS_AS(magr::compensate_drift(V, H, D, {.fraction = 1.5}), magr::option_error);
    CHECK_THROWS_AS(magr::compensate_drift(V, H, D, {.damping = -1}), magr::option_error);
    MatrixXd bad = D;
    bad(1, 3) = std::numeric_limits<double>::infinity();
    CHECK_THROWS_AS(magr::compensate_drift(V, H, bad), magr::value_error);
    CHECK(V == W);
}

TEST_CASE("compensate_drift: no bit depends on where memory was allocated", "[calibration][drift][determinism]") {
    const inputs data = drifting(200, 33, 0.1, 3);
    const MatrixXd H = data.Y.transpose() * data.Y, D = (data.X - data.Y).transpose() * data.Y;
    std::vector<std::vector<char>> kept;  // what is allocated afterwards lies at other distances from a multiple of 64
    std::vector<double> changes;
    for (std::size_t k = 0; k < 40; ++k) {
        MatrixXd W = weights(7, 33, 5);
        changes.push_back(magr::compensate_drift(W, H, D).change);
        for (std::size_t size = 16; size < 4096; size *= 2) kept.emplace_back(size + 16 * (k % 5));
    }
    for (const double change : changes) CHECK(change == changes.front());
}
