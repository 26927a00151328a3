// SPDX-License-Identifier: MIT
#include <magr/feedback/feedback_factor.hpp>

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <Eigen/LU>
#include <cmath>
#include <numeric>
#include <vector>

#include <magr/calibration/column_order.hpp>
#include <magr/matrix/eigen.hpp>

#include "quantize/layers.hpp"
#include "support/catch.hpp"

using Eigen::MatrixXd;
using magr::column_order;
using magr::factor_feedback;
using magr::factor_status;
using magr::feedback_factor;
using magr::index_t;

namespace {

/// Runs the last task first, and each task as another worker than the one before.
struct backwards {
    [[nodiscard]] index_t concurrency() const { return 3; }
    template <class F>
    void parallel_for(index_t count, const F& f) const {
        for (index_t task = count - 1; task >= 0; --task) f(task, task % 3);
    }
};

template <class Scalar = double>
feedback_factor<Scalar> factor(const MatrixXd& H, double damping, column_order order = column_order::natural) {
    const auto view = magr::as_const_view(H);
    return factor_feedback<Scalar>(view, magr::order_columns(view, order, H.cols()), {.damping = damping});
}

template <class Scalar>
MatrixXd feedback_matrix(const feedback_factor<Scalar>& f) {  // T
    MatrixXd T(f.feedback.rows(), f.feedback.cols());
    for (index_t i = 0; i < T.rows(); ++i)
        for (index_t j = 0; j < T.cols(); ++j) T(j, i) = f.feedback(i, j);
    return T;
}

Eigen::VectorXd pivots(const auto& f) { return Eigen::Map<const Eigen::VectorXd>(f.pivots.data(), static_cast<index_t>(f.pivots.size())); }

}  // namespace

TEST_CASE("factor_feedback: T D T^T is the damped matrix in the order of processing", "[quantize][feedback_factor][property]") {
    for (const auto kind : layers::all_inputs)
        for (const index_t n : {1, 2, 31, 65, 200})
            for (const auto order : {column_order::natural, column_order::act_order}) {
                const MatrixXd H = layers::make_layer(1, n, kind, 7).H;
                const auto f = factor(H, 0.01, order);
                const MatrixXd T = feedback_matrix(f);
                const auto columns = magr::order_columns(magr::as_const_view(H), order, n);
                MatrixXd expected(n, n);
                for (index_t i = 0; i < n; ++i)
                    for (index_t j = 0; j < n; ++j)
                        expected(i, j) = H(columns[static_cast<std::size_t>(i)], columns[static_cast<std::size_t>(j)]);
                expected.diagonal().array() += 0.01 * H.diagonal().mean();
                CAPTURE(kind, n, order == column_order::act_order);
                CHECK(f.status == factor_status::as_requested);
                CHECK(f.attempts == 1);
                CHECK(f.damping == 0.01);
                CHECK(f.dead.empty());
                CHECK(f.diagonal_floor == 0);
                CHECK((T.diagonal().array() == 1).all());
                CHECK(T.triangularView<Eigen::StrictlyLower>().toDenseMatrix().isZero(0));
                CHECK((pivots(f).array() > 0).all());
                CHECK((T * pivots(f).asDiagonal() * T.transpose()).isApprox(expected, 1e-12));
            }
}

// H damped by 1 % as in the golden table of optq_test.cpp. U was computed once, in double, as the upper Cholesky factor of its inverse.
TEST_CASE("factor_feedback: is the Cholesky factor of the inverse in other words", "[quantize][feedback_factor][oracle]") {
    MatrixXd H(4, 4);
    H << 6.5, .6, -1.5, -1.1, .6, 5, 4.6, 2.9, -1.5, 4.6, 6.8, 2.5, -1.1, 2.9, 2.5, 4.4;
    MatrixXd golden(4, 4);
    golden << .4964518676, -.5759738756, .3943366465, .2761159314, 0, .8034874360, -.4379913111, -.2771381134, 0, 0, .4281808033,
        -.2401866850, 0, 0, 0, .4736863428;
    MatrixXd damped = H;
    damped.diagonal().array() += 0.01 * H.diagonal().mean();
    const MatrixXd U = MatrixXd(damped.inverse()).llt().matrixU();
    const auto f = factor(H, 0.01);
    const MatrixXd T = feedback_matrix(f);
    const MatrixXd from_factor = pivots(f).cwiseSqrt().cwiseInverse().asDiagonal() * T.inverse();
    CHECK(U.isApprox(golden, 1e-9));
    CHECK(from_factor.isApprox(U, 1e-12));
}

TEST_CASE("factor_feedback: known factors of small matrices", "[quantize][feedback_factor][oracle]") {
    MatrixXd two(2, 2);
    two << 1, .9, .9, 1;
    const auto a = factor(two, 0);
    CHECK(a.pivots[0] == Approx(0.19));
    CHECK(a.pivots[1] == Approx(1));
    CHECK(a.feedback(1, 0) == Approx(0.9));
    MatrixXd three(3, 3);
    three << 4, 2, 1, 2, 3, 1, 1, 1, 2;
    const auto b = factor(three, 0);
    CHECK(b.pivots[0] == Approx(2.6));
    CHECK(b.pivots[1] == Approx(2.5));
    CHECK(b.pivots[2] == Approx(2));
    CHECK(b.feedback(1, 0) == Approx(0.6));
    CHECK(b.feedback(2, 0) == Approx(0.5));
    CHECK(b.feedback(2, 1) == Approx(0.5));
}

TEST_CASE("factor_feedback: the trace of D is at most that of H, and their determinants agree", "[quantize][feedback_factor][property]") {
    for (const auto kind : layers::all_inputs) {
        const MatrixXd H = layers::make_layer(1, 24, kind, 3).H;
        for (const auto order : {column_order::natural, column_order::act_order}) {
            const auto f = factor(H, 0.05, order);
            CHECK(pivots(f).sum() <= H.trace() * 1.05 * (1 + 1e-12));
            MatrixXd damped = H;
            damped.diagonal().array() += f.added.front();
            const double log_determinant = 2 * MatrixXd(damped.llt().matrixL()).diagonal().array().log().sum();
            CHECK(pivots(f).array().log().sum() == Approx(log_determinant).epsilon(1e-9));
        }
    }
}

TEMPLATE_TEST_CASE("factor_feedback: a singular matrix takes more damping and says so", "[quantize][feedback_factor][edge]", float,
                   double) {
    std::mt19937 random(5);
    const Eigen::VectorXd x = layers::normal_matrix(40, 1, random).col(0);
    const MatrixXd rank_one = x * x.transpose();
    MatrixXd tiny_negative = rank_one;  // as rounding may leave it: the smallest eigenvalue is below zero
    tiny_negative.diagonal().array() -= 1e-9 * rank_one.diagonal().mean();
    tiny_negative.diagonal() = tiny_negative.diagonal().cwiseMax(0);
    for (const MatrixXd& H : {rank_one, tiny_negative, MatrixXd(MatrixXd::Ones(40, 40))}) {
        const auto f = factor<TestType>(H, 0);
        CHECK(f.status == factor_status::damped_more);
        CHECK(f.attempts > 1);
        CHECK(f.damping >= 1e-6);
        CHECK(f.damping <= 1e-5);
        for (const double added : f.added) CHECK(added == Approx(f.damping * H.diagonal().mean()).epsilon(1e-6));
        CHECK(feedback_matrix(f).allFinite());
        CHECK(factor<TestType>(H, 0.01).status == factor_status::as_requested);
    }
}

TEST_CASE("factor_feedback: the damping grows tenfold until it suffices", "[quantize][feedback_factor][edge]") {
    MatrixXd H = MatrixXd::Identity(2, 2);
    H(0, 1) = H(1, 0) = 1.05;  // needs a shift of more than 0.05
    const auto f = factor(H, 0.01);
    CHECK(f.status == factor_status::damped_more);
    CHECK(f.attempts == 2);
    CHECK(f.damping == Approx(0.1));
    const auto from_zero = factor(H, 0);  // 0, 1e-6, 1e-5, .. 1e-1
    CHECK(from_zero.attempts == 7);
    CHECK(from_zero.damping == Approx(0.1));
}

TEST_CASE("factor_feedback: what is far from a Gram matrix fails after the last attempt", "[quantize][feedback_factor][edge]") {
    MatrixXd H = MatrixXd::Identity(2, 2);
    H(0, 1) = H(1, 0) = 1e6;
    for (const double damping : {0.0, 0.01, 1.0, 100.0}) {
        const auto f = factor(H, damping);
        CHECK(f.status == factor_status::failed);
        CHECK(f.damping >= 1);
        CHECK(f.feedback.empty());
        CHECK(f.pivots.empty());
    }
    CHECK(factor(H, 100.0).attempts == 7);  // and six floors under the diagonal
    CHECK(factor(H, 0.01).attempts == 9);
}

TEST_CASE("factor_feedback: a pivot that rounding left over is not trusted", "[quantize][feedback_factor][edge]") {
    int accepted_by_cholesky = 0;
    for (unsigned seed = 0; seed < 200; ++seed) {
        std::mt19937 random(seed);
        const MatrixXd X = layers::normal_matrix(5, 6, random);  // one token too few: the last pivot would be exactly zero
        const MatrixXd H = X.transpose() * X;
        accepted_by_cholesky += H.reverse().eval().llt().info() == Eigen::Success ? 1 : 0;
        const auto f = factor(H, 0);
        CHECK(f.status == factor_status::damped_more);
        CHECK(f.damping == 1e-6);
    }
    CHECK(accepted_by_cholesky > 50);  // by the sign of a rounding error
}

TEST_CASE("factor_feedback: dead columns stand apart and leave the others alone", "[quantize][feedback_factor][edge]") {
    MatrixXd H = layers::make_layer(1, 10, layers::inputs::neighbours, 9).H;
    const std::vector<index_t> live{0, 1, 3, 4, 5, 6, 8};
    for (const index_t dead : {2, 7, 9}) {
        H.row(dead).setZero();
        H.col(dead).setZero();
    }
    MatrixXd small(7, 7);
    for (index_t i = 0; i < 7; ++i)
        for (index_t j = 0; j < 7; ++j) small(i, j) = H(live[static_cast<std::size_t>(i)], live[static_cast<std::size_t>(j)]);
    for (const double damping : {0.0, 0.01}) {
        const auto f = factor(H, damping);
        const auto g = factor(small, damping);
        CHECK(f.status == factor_status::as_requested);
        CHECK(f.dead == std::vector<index_t>{2, 7, 9});
        for (std::size_t i = 0; i < live.size(); ++i)
            CHECK(f.added[static_cast<std::size_t>(live[i])] == Approx(g.added[i]).margin(1e-300));
        const MatrixXd T = feedback_matrix(f);
        const MatrixXd expected = feedback_matrix(g);
        for (index_t i = 0; i < 7; ++i) {
            const index_t a = live[static_cast<std::size_t>(i)];
            CHECK(f.pivots[static_cast<std::size_t>(a)] == Approx(g.pivots[static_cast<std::size_t>(i)]));
            for (index_t j = 0; j < 7; ++j) CHECK(T(a, live[static_cast<std::size_t>(j)]) == Approx(expected(i, j)).margin(1e-14));
        }
        for (const index_t dead : {2, 7, 9}) {
            CHECK(f.pivots[static_cast<std::size_t>(dead)] == 0);
            CHECK(T.row(dead).sum() == 1);
            CHECK(T.col(dead).sum() == 1);
        }
    }
}

TEST_CASE("factor_feedback: the scale of the matrix does not matter, dead columns or not", "[quantize][feedback_factor][property]") {
    MatrixXd H = layers::make_layer(1, 20, layers::inputs::outliers, 2).H;
    H.row(4).setZero();
    H.col(4).setZero();
    const auto f = factor(H, 0.01);
    for (const double scale : {1e-30, 1e30}) {
        const auto g = factor(H * scale, 0.01);
        CHECK(g.status == factor_status::as_requested);
        CHECK(feedback_matrix(g).isApprox(feedback_matrix(f), 1e-12));
        CHECK(pivots(g).isApprox(scale * pivots(f), 1e-12));
    }
}

TEST_CASE("factor_feedback: feedback too large for float is an attempt that failed", "[quantize][feedback_factor][edge]") {
    MatrixXd H(2, 2);  // T_01 = 5e104, which only double can hold
    H << 1e200, 0, 0, 1e-10;
    H(0, 1) = H(1, 0) = 0.5 * std::sqrt(1e200 * 1e-10);
    CHECK(factor<double>(H, 0).status == factor_status::as_requested);
    const auto f = factor<float>(H, 0);
    CHECK(f.status == factor_status::damped_more);
    CHECK(feedback_matrix(f).allFinite());
}

TEST_CASE("factor_feedback: a floor under the diagonal saves what the mean cannot", "[quantize][feedback_factor][edge]") {
    // one input is a million times larger than all others, and its rounding errors are far above the mean of the diagonal
    const index_t n = 2000;
    MatrixXd H = MatrixXd::Identity(n, n) * 1e-6;
    H(0, 0) = 1;
    H(1, 2) = H(2, 1) = 2e-3;  // mean: 5e-4
    const auto f = factor(H, 0.01);
    CHECK(f.status == factor_status::damped_more);
    CHECK(f.damping == 1);
    CHECK(f.attempts == 8);  // 0.01, 0.1, 1, and floors of 1e-6, 1e-5, 1e-4, 1e-3, 1e-2
    CHECK(f.diagonal_floor == Approx(0.01));
    CHECK(f.added[0] == Approx(H.diagonal().mean()).epsilon(1e-6));
    CHECK(f.added[1] == Approx(0.01).epsilon(1e-3));
    MatrixXd raised = H;
    for (index_t j = 0; j < n; ++j) raised(j, j) += f.added[static_cast<std::size_t>(j)];
    const MatrixXd T = feedback_matrix(f).topLeftCorner(3, 3);  // all other columns are independent
    CHECK((T * pivots(f).head(3).asDiagonal() * T.transpose()).isApprox(raised.topLeftCorner(3, 3), 1e-12));
}

TEST_CASE("factor_feedback: only with leave does it damp more than asked", "[quantize][feedback_factor][edge]") {
    MatrixXd H = MatrixXd::Identity(2, 2);
    H(0, 1) = H(1, 0) = 1.05;
    const auto view = magr::as_const_view(H);
    const std::vector<index_t> order{0, 1};
    const auto f = factor_feedback<double>(view, order, {.damping = 0.01, .raise_damping = false});
    CHECK(f.status == factor_status::failed);
    CHECK(f.attempts == 1);
    CHECK(f.damping == 0.01);
    CHECK(f.feedback.empty());
}

TEST_CASE("factor_feedback: near-dead columns are those below the threshold", "[quantize][feedback_factor][edge]") {
    MatrixXd H = layers::make_layer(1, 12, layers::inputs::neighbours, 4).H;
    H.row(3) *= 1e-5;
    H.col(3) *= 1e-5;
    H.row(8).setZero();
    H.col(8).setZero();
    const auto view = magr::as_const_view(H);
    const auto order = magr::order_columns(view, column_order::natural, 12);
    CHECK(factor_feedback<double>(view, order, {}).dead == std::vector<index_t>{8});
    const auto f = factor_feedback<double>(view, order, {.dead_threshold = 1e-8});
    CHECK(f.dead == std::vector<index_t>{3, 8});
    CHECK(f.pivots[3] == 0);
    CHECK(feedback_matrix(f).row(3).sum() == 1);
    CHECK(feedback_matrix(f).col(3).sum() == 1);
}

TEST_CASE("factor_feedback: in float it comes close to what double gives", "[quantize][feedback_factor][property]") {
    for (const auto kind : {layers::inputs::independent, layers::inputs::neighbours, layers::inputs::low_rank}) {
        const MatrixXd H = layers::make_layer(1, 60, kind, 6).H;
        const auto view = magr::as_const_view(H);
        const auto order = magr::order_columns(view, column_order::act_order, 60);
        const auto expected = factor_feedback<float>(view, order, {.precision = magr::factor_precision::float64});
        const auto f = factor_feedback<float>(view, order, {.precision = magr::factor_precision::float32});
        CAPTURE(kind);
        CHECK(f.status == factor_status::as_requested);
        CHECK(feedback_matrix(f).isApprox(feedback_matrix(expected), 1e-4));
        CHECK(pivots(f).isApprox(pivots(expected), 1e-4));
        CHECK_FALSE(pivots(f) == pivots(expected));
        // a scale of H outside of the range of float
        const auto scaled =
            factor_feedback<float>(magr::as_const_view(MatrixXd(H * 1e60)), order, {.precision = magr::factor_precision::float32});
        CHECK(feedback_matrix(scaled).isApprox(feedback_matrix(expected), 1e-4));
    }
}

TEST_CASE("factor_feedback: automatic is float where that does, and else double with the same damping", "[quantize][feedback_factor]") {
    using magr::factor_precision;
    const auto same = [](const auto& a, const auto& b) {
        return a.feedback == b.feedback && a.pivots == b.pivots && a.added == b.added && a.damping == b.damping &&
               a.diagonal_floor == b.diagonal_floor && a.attempts == b.attempts && a.status == b.status && a.precision == b.precision;
    };
    const auto factors = [](const MatrixXd& H, double damping, factor_precision precision) {
        const auto view = magr::as_const_view(H);
        return factor_feedback<float>(view, magr::order_columns(view, column_order::act_order, H.cols()),
                                      {.damping = damping, .precision = precision});
    };
    const MatrixXd good = layers::make_layer(1, 60, layers::inputs::neighbours, 6).H;
    const auto in_float = factors(good, 0.01, factor_precision::automatic);
    CHECK(in_float.precision == factor_precision::float32);
    CHECK(same(in_float, factors(good, 0.01, factor_precision::float32)));

    const MatrixXd low_rank = layers::make_layer(1, 60, layers::inputs::low_rank, 6).H;
    REQUIRE(factors(low_rank, 1e-6, factor_precision::float32).status == factor_status::damped_more);
    const auto in_double = factors(low_rank, 1e-6, factor_precision::automatic);
    CHECK(in_double.status == factor_status::as_requested);
    CHECK(in_double.precision == factor_precision::float64);
    CHECK(same(in_double, factors(low_rank, 1e-6, factor_precision::float64)));

    MatrixXd indefinite = good;  // needs more damping in both precisions
    indefinite(40, 3) = indefinite(3, 40) = 2 * good.diagonal().maxCoeff();
    const auto damped = factors(indefinite, 0.01, factor_precision::automatic);
    CHECK(damped.status != factor_status::as_requested);
    CHECK(same(damped, factors(indefinite, 0.01, factor_precision::float64)));

    const auto view = magr::as_const_view(good);
    const auto order = magr::order_columns(view, column_order::natural, 60);
    CHECK(factor_feedback<double>(view, order, {}).precision == factor_precision::float64);
}

TEST_CASE("factor_feedback: the same bits for any executor", "[quantize][feedback_factor][determinism]") {
    for (const index_t n : {1, 33, 300}) {
        MatrixXd H = layers::make_layer(1, n, layers::inputs::neighbours, 5).H;
        H.row(n / 2) *= n > 1 ? 0 : 1;
        H.col(n / 2) *= n > 1 ? 0 : 1;
        const auto view = magr::as_const_view(H);
        const auto order = magr::order_columns(view, column_order::act_order, n);
        for (const auto precision : {magr::factor_precision::float64, magr::factor_precision::float32}) {
            const auto expected = factor_feedback<float>(view, order, {.precision = precision});
            const auto f = factor_feedback<float>(view, order, {.precision = precision}, backwards{});
            CAPTURE(n);
            CHECK(f.feedback == expected.feedback);
            CHECK(f.pivots == expected.pivots);
            CHECK(f.added == expected.added);
            CHECK(f.attempts == expected.attempts);
        }
    }
}

TEST_CASE("factor_feedback: refuses options and orders that make no sense", "[quantize][feedback_factor][errors]") {
    const MatrixXd H = MatrixXd::Identity(3, 3);
    const auto run = [&](std::vector<index_t> order, const magr::factor_options& options) {
        return factor_feedback<double>(magr::as_const_view(H), order, options);
    };
    CHECK(run({2, 0, 1}, {}).status == factor_status::as_requested);
    for (const double damping : {-1.0, HUGE_VAL, std::nan("")}) CHECK_THROWS_AS(run({0, 1, 2}, {.damping = damping}), magr::option_error);
    for (const double threshold : {-1.0, 1.0, std::nan("")})
        CHECK_THROWS_AS(run({0, 1, 2}, {.dead_threshold = threshold}), magr::option_error);
    CHECK_THROWS_AS(run({0, 1, 2}, {.precision = static_cast<magr::factor_precision>(9)}), magr::option_error);
    CHECK_THROWS_AS(run({0, 1}, {}), magr::shape_error);
    CHECK_THROWS_WITH(run({0, 1, 3}, {}), "factor_feedback: order must contain each of 0..2 once, one entry is 3");
    CHECK_THROWS_WITH(run({0, 1, 1}, {}), "factor_feedback: order must contain each of 0..2 once, one entry is 1");
    CHECK_THROWS_AS(run({0, 1, -1}, {}), magr::value_error);
    CHECK_THROWS_AS(factor_feedback<double>(magr::as_const_view(H).block(0, 0, 2, 3), std::vector<index_t>{0, 1, 2}, {}),
                    magr::shape_error);
}
