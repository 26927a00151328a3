// SPDX-License-Identifier: MIT
#include <magr/feedback/feedback.hpp>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include <magr/feedback/gpfq.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/parallel/thread_pool.hpp>
#include <magr/quantize/optq.hpp>
#include <magr/quantize/round_onto.hpp>
#include <magr/quantize/rtn.hpp>

#include "support/catch.hpp"
#include "support/random_matrix.hpp"

using Eigen::MatrixXd;
using magr::column_order;
using magr::index_t;
using tests::random_matrix;

namespace {

/// Similar inputs, so that feedback matters.
MatrixXd correlated_inputs(index_t tokens, index_t inputs, unsigned seed) {
    const MatrixXd mixing = random_matrix(inputs, inputs, seed + 1) + 2 * MatrixXd::Identity(inputs, inputs);
    return random_matrix(tokens, inputs, seed) * mixing;
}

MatrixXd values_of(const magr::quantized_matrix<double>& q) {
    const magr::matrix<double> values = q.dequantize();
    return Eigen::Map<const Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>(values.data(), q.rows(), q.cols());
}

/// GPFQ by its definition, with the inputs of all tokens, in long double. `margin` returns the distance to the nearest tie, in steps.
std::vector<int> gpfq_by_tokens(const MatrixXd& X, const Eigen::VectorXd& w, const std::vector<index_t>& order, double scale, double zero,
                                int largest, double& margin) {
    Eigen::Matrix<long double, Eigen::Dynamic, 1> u = Eigen::Matrix<long double, Eigen::Dynamic, 1>::Zero(X.rows());
    std::vector<int> codes(order.size());
    for (const index_t j : order) {
        const Eigen::Matrix<long double, Eigen::Dynamic, 1> x = X.col(j).cast<long double>();
        const long double energy = x.squaredNorm();
        const long double wanted = static_cast<long double>(w(j)) + (energy > 0 ? u.dot(x) / energy : 0.0L);
        const double steps = static_cast<double>(wanted) / scale;
        margin = std::min(margin, std::abs(steps - std::floor(steps) - 0.5));
        const double code = std::clamp(std::nearbyint(steps) + zero, 0.0, static_cast<double>(largest));
        codes[static_cast<std::size_t>(j)] = static_cast<int>(code);
        u += (static_cast<long double>(w(j)) - static_cast<long double>(scale * (code - zero))) * x;
    }
    return codes;
}

}  // namespace

TEST_CASE("gpfq_feedback: the codes of the definition by tokens", "[quantize][feedback][gpfq][oracle]") {
    for (const auto order : {column_order::natural, column_order::act_order}) {
        const index_t rows = 9, n = 40;
        const MatrixXd X = correlated_inputs(70, n, 3), W = random_matrix(rows, n, 5), H = X.transpose() * X;
        const auto grids = magr::fit_grids(W, {.bits = 3});
        const auto q = magr::round_onto(grids, W, H, magr::gpfq_feedback{}, {}, {.order = order, .block_size = 7});
        REQUIRE(q);
        const std::vector<index_t> columns = magr::order_columns(magr::as_const_view(H), order, n);
        double margin = 1;
        index_t different = 0;
        for (index_t i = 0; i < rows; ++i) {
            const auto expected = gpfq_by_tokens(X, W.row(i), columns, grids.scales(i, 0), grids.zeros(i, 0), 7, margin);
            for (index_t j = 0; j < n; ++j) different += q->codes(i, j) != expected[static_cast<std::size_t>(j)];
        }
        CHECK(margin > 1e-9);  // no tie, so rounding errors do not decide
        CHECK(different == 0);
    }
}

TEST_CASE("gpfq_feedback: less output error than rounding to nearest, more than LDL", "[quantize][feedback][gpfq]") {
    double nearest = 0, gpfq = 0, ldl = 0;
    for (unsigned seed = 0; seed < 20; ++seed) {
        const MatrixXd X = correlated_inputs(100, 30, 10 * seed), W = random_matrix(8, 30, seed), H = X.transpose() * X;
        const auto grids = magr::fit_grids(W, {.bits = 3});
        const auto error = [&](const auto& q) {
            const MatrixXd E = values_of(q) - W;
            return (E * H * E.transpose()).trace();
        };
        nearest += error(magr::quantize_rtn(W, grids));
        gpfq += error(*magr::round_onto(grids, W, H, magr::gpfq_feedback{}));
        ldl += error(*magr::round_onto(grids, W, H, magr::ldl_feedback{.damping = 1e-4}));
    }
    CHECK(gpfq < 0.9 * nearest);
    CHECK(ldl < gpfq);
}

TEST_CASE("round_onto: with LDL the codes of OPTQ", "[quantize][feedback]") {
    const MatrixXd X = correlated_inputs(80, 50, 2), W = random_matrix(20, 50, 4), H = X.transpose() * X;
    const magr::grid_options grid{.bits = 4, .group_size = 10};
    const auto grids = magr::fit_grids(W, grid);
    magr::thread_pool pool(3);
    for (const auto order : {column_order::natural, column_order::act_order, column_order::group_aware, column_order::reversed}) {
        const auto optq = magr::quantize_optq(W, H, grids, {.damping = 1e-2, .order = order});
        const auto composed = magr::round_onto(grids, W, H, magr::ldl_feedback{}, {}, {.order = order});
        REQUIRE(composed);
        CHECK(composed->codes == optq.quantized.codes);
        CHECK(magr::round_onto(grids, W, H, magr::ldl_feedback{}, {}, {.order = order}, pool)->codes == composed->codes);
        CHECK(magr::round_onto(grids, W, magr::hessian(H), magr::ldl_feedback{}, {}, {.order = order})->codes == composed->codes);
        const auto random = magr::round_onto(grids, W, H, magr::ldl_feedback{}, magr::stochastic_rounding{7}, {.order = order});
        CHECK(random->codes ==
              magr::quantize_optq(W, H, grids, {.order = order, .rounding = magr::rounding_mode::stochastic, .seed = 7}).quantized.codes);
    }
}

TEST_CASE("round_onto: independent inputs take no feedback", "[quantize][feedback][property]") {
    const MatrixXd W = random_matrix(6, 24, 1);
    const Eigen::VectorXd energies = random_matrix(24, 1, 2).array().square();
    const MatrixXd H = energies.asDiagonal();
    const auto grids = magr::fit_grids(W, {.bits = 2});
    const auto nearest = magr::quantize_rtn(W, grids);
    CHECK(magr::round_onto(grids, W, H, magr::gpfq_feedback{})->codes == nearest.codes);
    CHECK(magr::round_onto(grids, W, H, magr::ldl_feedback{})->codes == nearest.codes);
}

TEST_CASE("round_onto: dead inputs hand on nothing and take nothing", "[quantize][feedback][dead]") {
    MatrixXd X = correlated_inputs(60, 20, 8);
    X.col(3).setZero();
    X.col(19).setZero();
    MatrixXd W = random_matrix(5, 20, 9);
    const MatrixXd H = X.transpose() * X;
    const auto grids = magr::fit_grids(W, H, {.bits = 3});
    const auto before = magr::round_onto(grids, W, H, magr::gpfq_feedback{});
    W.col(3).array() += 100;
    W.col(19).array() -= 100;
    const auto after = magr::round_onto(grids, W, H, magr::gpfq_feedback{});
    index_t different = 0;
    for (index_t i = 0; i < W.rows(); ++i)
        for (index_t j = 0; j < W.cols(); ++j) different += j != 3 && j != 19 && before->codes(i, j) != after->codes(i, j);
    CHECK(different == 0);
    CHECK(magr::round_onto(grids, W, MatrixXd(MatrixXd::Zero(20, 20)), magr::gpfq_feedback{})->codes == magr::quantize_rtn(W, grids).codes);
}

TEST_CASE("round_onto: every storage type and layout", "[quantize][feedback][types]") {
    const MatrixXd X = correlated_inputs(50, 16, 4), H = X.transpose() * X;
    const Eigen::MatrixXf W = random_matrix(7, 16, 6).cast<float>();
    const auto grids = magr::fit_grids(W, {.bits = 4});
    const auto expected = magr::round_onto(grids, W, H, magr::gpfq_feedback{});
    const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> by_rows = W;
    CHECK(magr::round_onto(grids, by_rows, H, magr::gpfq_feedback{})->codes == expected->codes);
    const Eigen::Matrix<Eigen::half, Eigen::Dynamic, Eigen::Dynamic> halves = W.cast<Eigen::half>();
    const Eigen::MatrixXf rounded = halves.cast<float>();
    CHECK(magr::round_onto(grids, halves, H, magr::gpfq_feedback{})->codes ==
          magr::round_onto(grids, rounded, H, magr::gpfq_feedback{})->codes);
}

TEST_CASE("round_onto: refuses what it cannot work with", "[quantize][feedback][errors]") {
    const MatrixXd W = random_matrix(4, 6, 1), H = MatrixXd::Identity(6, 6);
    const auto grids = magr::fit_grids(W, {.bits = 4});
    const magr::gpfq_feedback feedback;
    CHECK_THROWS_AS(magr::round_onto(grids, W, MatrixXd(MatrixXd::Identity(5, 5)), feedback), magr::shape_error);
    CHECK_THROWS_AS(magr::round_onto(grids, MatrixXd(random_matrix(3, 6, 1)), H, feedback), magr::shape_error);
    CHECK_THROWS_AS(magr::round_onto(grids, W, H, feedback, {}, {.block_size = 0}), magr::option_error);
    CHECK_THROWS_AS(magr::round_onto(grids, W, H, magr::ldl_feedback{.damping = -1}), magr::option_error);
    CHECK_THROWS_AS(magr::round_onto(grids, W, H, feedback, {}, {.order = static_cast<column_order>(9)}), magr::option_error);
    MatrixXd bad = W;
    bad(2, 3) = std::numeric_limits<double>::quiet_NaN();
    CHECK_THROWS_AS(magr::round_onto(grids, bad, H, feedback), magr::value_error);
    const MatrixXd too_different = (MatrixXd(2, 2) << 1e150, 1e100, 1e100, 1e60).finished();  // T_01 is 1e40
    const Eigen::MatrixXf two = W.leftCols(2).cast<float>();
    CHECK_FALSE(magr::round_onto(magr::fit_grids(two, {.bits = 4}), two, too_different, feedback));
    const MatrixXd indefinite = (MatrixXd(2, 2) << 1, 10, 10, 1).finished();
    const auto small = magr::fit_grids(MatrixXd(W.leftCols(2)), {.bits = 4});
    CHECK_FALSE(magr::round_onto(small, MatrixXd(W.leftCols(2)), indefinite, magr::ldl_feedback{.raise_damping = false}));
}
