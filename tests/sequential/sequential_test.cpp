// SPDX-License-Identifier: MIT
#include <magr/sequential/sequential.hpp>

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <Eigen/LU>
#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include <magr/calibration/column_order.hpp>
#include <magr/feedback/feedback_factor.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/parallel/thread_pool.hpp>
#include <magr/sequential/sequential_window.hpp>

#include "quantize/layers.hpp"
#include "support/catch.hpp"

using Eigen::MatrixXd;
using magr::index_t;
using magr::sequential_window;

namespace {

/// Rounds to the integers low..high.
struct integer_quantizer {
    double low = -HUGE_VAL;
    double high = HUGE_VAL;

    void operator()(index_t, index_t, std::span<const double> weights, std::span<double> rounded) const {
        for (std::size_t i = 0; i < weights.size(); ++i) rounded[i] = std::clamp(std::nearbyint(weights[i]), low, high);
    }
};

struct outcome {
    MatrixXd Q;
    std::vector<double> pivots;
    std::vector<double> squared_errors;
    double shift;

    [[nodiscard]] double energy() const {
        double sum = 0;
        for (std::size_t k = 0; k < pivots.size(); ++k) sum += pivots[k] * squared_errors[k];
        return sum;
    }
};

template <class Quantizer>
outcome quantize(const MatrixXd& W, const MatrixXd& H, double damping, index_t block_size, Quantizer&& quantizer) {
    const auto view = magr::as_const_view(H);
    const auto order = magr::order_columns(view, magr::column_order::natural, H.cols());
    const auto factor = magr::factor_feedback<double>(view, order, {.damping = damping});
    REQUIRE(factor.status == magr::factor_status::as_requested);
    MatrixXd residual = W;
    const auto errors = magr::quantize_sequentially(magr::as_mutable_view(residual), factor.feedback.view(), block_size, quantizer);
    return {W - residual, factor.pivots, errors, factor.added.front()};
}

double proxy(const MatrixXd& W, const MatrixXd& Q, const MatrixXd& H) { return ((Q - W) * H * (Q - W).transpose()).trace(); }

MatrixXd nearest(const MatrixXd& W) { return W.array().rint(); }

}  // namespace

// Both examples were worked by hand: with step 1 and no limits, OPTQ uses the later columns to correct the errors of the earlier ones.
TEST_CASE("quantize_sequentially: worked examples on the integers", "[quantize][sequential][oracle]") {
    MatrixXd W(1, 2);
    MatrixXd H(2, 2);
    W << 0.4, 0.4;
    H << 1, .9, .9, 1;
    const auto two = quantize(W, H, 0, 128, integer_quantizer{});
    CHECK(two.Q == (MatrixXd(1, 2) << 0, 1).finished());
    CHECK(proxy(W, two.Q, H) == Approx(0.088));
    CHECK(two.energy() == Approx(0.19 * 0.4 * 0.4 + 0.24 * 0.24));
    CHECK(proxy(W, nearest(W), H) == Approx(0.608));

    W.resize(1, 3);
    H.resize(3, 3);
    W << 1.3, -0.6, 0.45;
    H << 4, 2, 1, 2, 3, 1, 1, 1, 2;
    const auto three = quantize(W, H, 0, 128, integer_quantizer{});
    CHECK(three.Q == (MatrixXd(1, 3) << 1, 0, 0).finished());
    CHECK(proxy(W, three.Q, H) == Approx(0.855));
    CHECK(three.energy() == Approx(0.855));
    CHECK(nearest(W) == (MatrixXd(1, 3) << 1, -1, 0).finished());
    CHECK(proxy(W, nearest(W), H) == Approx(2.355));
}

TEST_CASE("quantize_sequentially: on unlimited integers the error is the sum of the rounding errors, and bounded by tr(D) / 4",
          "[quantize][sequential][property]") {
    for (const auto kind : layers::all_inputs)
        for (const double step : {1.0, 0.05})
            for (unsigned seed = 0; seed < 5; ++seed) {
                const auto [weights, H] = layers::make_layer(9, 40, kind, seed);
                const MatrixXd W = weights / step;
                const auto result = quantize(W, H, 0.01, 16, integer_quantizer{});
                MatrixXd damped = H;
                damped.diagonal().array() += result.shift;
                double trace = 0;
                for (const double pivot : result.pivots) trace += pivot;
                CAPTURE(kind, step, seed);
                CHECK(proxy(W, result.Q, damped) == Approx(result.energy()).epsilon(1e-9));
                CHECK(result.energy() <= 9 * trace / 4);
                CHECK(result.energy() <= proxy(W, nearest(W), damped) * 1.2);
            }
}

TEST_CASE("quantize_sequentially: the rounding errors are uniform, a twelfth of tr(D) on average", "[quantize][sequential][property]") {
    const auto [weights, H] = layers::make_layer(4000, 16, layers::inputs::neighbours, 1);
    const auto result = quantize(10 * weights, H, 0.01, 128, integer_quantizer{});
    double trace = 0;
    for (const double pivot : result.pivots) trace += pivot;
    CHECK(result.energy() / (4000 * trace / 12) == Approx(1).epsilon(0.02));
}

TEST_CASE("quantize_sequentially: the block size changes nothing", "[quantize][sequential][property]") {
    for (const index_t n : {1, 2, 33, 100}) {
        const auto [weights, H] = layers::make_layer(150, n, layers::inputs::neighbours, 6);
        const auto expected = quantize(3 * weights, H, 0.01, n, integer_quantizer{});
        for (const index_t block : {1, 2, 7, 32, 99, 1000})
            CHECK(quantize(3 * weights, H, 0.01, block, integer_quantizer{}).Q == expected.Q);
    }
}

TEST_CASE("quantize_sequentially: rows do not see each other", "[quantize][sequential][property]") {
    const auto [weights, H] = layers::make_layer(131, 30, layers::inputs::low_rank, 8);
    const MatrixXd W = 3 * weights;
    const auto together = quantize(W, H, 0.01, 8, integer_quantizer{});
    for (const index_t i : {0, 63, 64, 130}) CHECK(quantize(W.row(i), H, 0.01, 8, integer_quantizer{}).Q == together.Q.row(i));
}

namespace {

/// The definition, one weight at a time.
MatrixXd one_weight_at_a_time(const MatrixXd& W, const magr::matrix<double>& feedback) {
    MatrixXd Q(W.rows(), W.cols());
    for (index_t i = 0; i < W.rows(); ++i)
        for (index_t k = 0; k < W.cols(); ++k) {
            double wanted = W(i, k);
            for (index_t j = 0; j < k; ++j) wanted += (W(i, j) - Q(i, j)) * feedback(k, j);
            Q(i, k) = std::nearbyint(wanted);
        }
    return Q;
}

}  // namespace

TEST_CASE("quantize_sequentially: any number of rows, columns and columns per block", "[quantize][sequential][oracle]") {
    for (const index_t n : {1, 11, 12, 13, 130, 400}) {
        const auto [weights, H] = layers::make_layer(300, n, layers::inputs::neighbours, 9);
        const MatrixXd all = 3 * weights;
        const auto view = magr::as_const_view(H);
        const auto order = magr::order_columns(view, magr::column_order::natural, n);
        const auto factor = magr::factor_feedback<double>(view, order, {.damping = 0.01});
        for (const index_t rows : {1, 15, 16, 17, 257, 300}) {
            const MatrixXd W = all.topRows(rows);
            const MatrixXd expected = one_weight_at_a_time(W, factor.feedback);
            for (const index_t block : {5, 24, 128}) {
                CAPTURE(n, rows, block);
                CHECK(nearest(quantize(W, H, 0.01, block, integer_quantizer{}).Q) == expected);  // W - (W - Q), up to rounding
            }
        }
    }
}

TEST_CASE("quantize_sequentially: the same bits with every executor", "[quantize][sequential][determinism]") {
    const auto [weights, H] = layers::make_layer(900, 150, layers::inputs::neighbours, 10);
    const MatrixXd W = 3 * weights;
    const auto serial = quantize(W, H, 0.01, 64, integer_quantizer{});
    const auto view = magr::as_const_view(H);
    const auto order = magr::order_columns(view, magr::column_order::natural, 150);
    const auto factor = magr::factor_feedback<double>(view, order, {.damping = 0.01});
    for (const index_t workers : {1, 2, 7}) {
        CAPTURE(workers);
        magr::thread_pool pool(workers);
        MatrixXd residual = W;
        const auto errors =
            magr::quantize_sequentially(magr::as_mutable_view(residual), factor.feedback.view(), 64, integer_quantizer{}, pool);
        CHECK(W - residual == serial.Q);
        CHECK(errors == serial.squared_errors);
    }
}

TEST_CASE("quantize_sequentially: a column that is not rounded costs nothing and makes up for the others",
          "[quantize][sequential][property]") {
    struct keep_last_columns : integer_quantizer {
        void operator()(index_t column, index_t first_row, std::span<const double> weights, std::span<double> rounded) const {
            if (column < 12)
                integer_quantizer::operator()(column, first_row, weights, rounded);
            else
                std::copy(weights.begin(), weights.end(), rounded.begin());
        }
    };
    const auto [weights, H] = layers::make_layer(6, 16, layers::inputs::neighbours, 8);
    const MatrixXd W = 3 * weights;
    const auto result = quantize(W, H, 0.01, 5, keep_last_columns{});
    MatrixXd damped = H;
    damped.diagonal().array() += result.shift;
    // least squares given the first 12 columns: W_R - (Q - W)_F H_FR inv(H_RR)
    const MatrixXd expected =
        W.rightCols(4) - ((result.Q - W).leftCols(12) * damped.topRightCorner(12, 4)) * damped.bottomRightCorner(4, 4).inverse();
    CHECK(result.Q.rightCols(4).isApprox(expected, 1e-9));
    for (std::size_t k = 12; k < 16; ++k) CHECK(result.squared_errors[k] == 0);
}

namespace {

/// Checks in every step that its weights are the least-squares optimum given the columns finished before.
struct least_squares_witness : integer_quantizer {
    const MatrixXd& W;
    const MatrixXd& H;
    MatrixXd Q;
    double worst = 0;

    least_squares_witness(const MatrixXd& weights, const MatrixXd& gram) : W(weights), H(gram), Q(weights.rows(), weights.cols()) {}

    MatrixXd optimum(index_t given, index_t first_row, index_t rows) const {
        const index_t rest = W.cols() - given;
        const MatrixXd error = (Q - W).block(first_row, 0, rows, given);
        return W.block(first_row, given, rows, rest) -
               H.bottomRightCorner(rest, rest).llt().solve((error * H.topRightCorner(given, rest)).transpose()).transpose();
    }

    void prepare(index_t column, const sequential_window<double>& window) {
        for (const index_t given : {window.block_begin(), column}) {
            const MatrixXd expected = optimum(given, window.first_row(), window.rows());
            for (const index_t last : {column + 1, column + 3, W.cols()}) {
                if (last > W.cols()) continue;
                const MatrixXd shown = window.least_squares_weights(given, column, last);
                const MatrixXd difference = shown - expected.middleCols(column - given, last - column);
                worst = std::max(worst, difference.cwiseAbs().maxCoeff());
            }
        }
        Eigen::VectorXd next(window.rows());
        window.compensate(column, next);
        worst = std::max(worst, (next - optimum(column, window.first_row(), window.rows()).col(0)).cwiseAbs().maxCoeff());
    }

    void operator()(index_t column, index_t first_row, std::span<const double> weights, std::span<double> rounded) {
        integer_quantizer::operator()(column, first_row, weights, rounded);
        for (std::size_t i = 0; i < rounded.size(); ++i) Q(first_row + static_cast<index_t>(i), column) = rounded[i];
    }
};

}  // namespace

TEST_CASE("sequential_window: the weights to come are the least-squares optimum given those finished", "[quantize][sequential][oracle]") {
    for (const auto kind : layers::all_inputs) {
        const auto [weights, H] = layers::make_layer(70, 23, kind, 4);
        const MatrixXd W = 3 * weights;
        MatrixXd damped = H;
        damped.diagonal().array() += 0.01 * H.diagonal().mean();
        least_squares_witness witness(W, damped);
        const auto result = quantize(W, H, 0.01, 8, witness);
        CHECK(result.Q.isApprox(witness.Q));
        CHECK(witness.worst < 1e-9);
    }
}

// The matrix of the QuIP authors' counterexample (arXiv 2307.13304): on a finite grid feedback can do harm, because an error that a clamped
// column cannot absorb is passed on. Hence the bound by tr(D) holds only for unlimited grids.
TEST_CASE("quantize_sequentially: on a finite grid feedback can be worse than none", "[quantize][sequential][oracle]") {
    struct expected_errors {
        index_t n;
        double clamped, unclamped, nearest;
    };
    // computed once in double from the definition below
    for (const auto& expected : {expected_errors{16, 39.6247, 3.6845, 3.7404}, expected_errors{64, 915.1469, 15.4463, 15.6936}}) {
        const index_t n = expected.n;
        const auto [W, H] = layers::clamping_counterexample(n);

        const double clamped = proxy(W, quantize(W, H, 0, 128, integer_quantizer{0, 3}).Q, H);
        const double unclamped = proxy(W, quantize(W, H, 0, 128, integer_quantizer{}).Q, H);
        CHECK(clamped == Approx(expected.clamped).epsilon(1e-4));
        CHECK(unclamped == Approx(expected.unclamped).epsilon(1e-4));
        CHECK(proxy(W, nearest(W), H) == Approx(expected.nearest).epsilon(1e-4));
        CHECK(clamped > proxy(W, nearest(W), H));
        CHECK(unclamped < proxy(W, nearest(W), H));
    }
}
