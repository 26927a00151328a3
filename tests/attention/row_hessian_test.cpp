// SPDX-License-Identifier: MIT
#include <magr/attention/row_hessian.hpp>

#include <Eigen/Core>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include <magr/attention/rope_means.hpp>
#include <magr/attention/value_hessian.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/parallel/thread_pool.hpp>

#include "support/catch.hpp"
#include "support/names.hpp"
#include "support/random_matrix.hpp"

using Eigen::MatrixXd;
using magr::index_t;
using magr::rope_layout;
using tests::random_matrix;

namespace {

MatrixXd to_eigen(const magr::matrix<double>& m) {
    return Eigen::Map<const Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>(m.data(), m.rows(), m.cols());
}

bool is_close(const magr::matrix<double>& found, const MatrixXd& expected) {
    return found.rows() == expected.rows() && found.cols() == expected.cols() &&
           (to_eigen(found) - expected).norm() <= 1e-12 * expected.norm();
}

/// Angles of a rotary embedding: position times frequency.
MatrixXd angles(index_t positions, index_t pairs) {
    return MatrixXd::NullaryExpr(positions, pairs, [&](index_t t, index_t p) {
        return static_cast<double>(t) * std::pow(50.0, -static_cast<double>(p) / static_cast<double>(pairs));
    });
}

/// R_t, element by element.
MatrixXd rotation(const MatrixXd& angle, index_t t, index_t head_size, rope_layout layout) {
    MatrixXd R = MatrixXd::Identity(head_size, head_size);
    for (index_t p = 0; p < angle.cols(); ++p) {
        const index_t a = layout == rope_layout::halves ? p : 2 * p, b = layout == rope_layout::halves ? p + angle.cols() : 2 * p + 1;
        R(a, a) = R(b, b) = std::cos(angle(t, p));
        R(a, b) = -std::sin(angle(t, p));
        R(b, a) = std::sin(angle(t, p));
    }
    return R;
}

}  // namespace

TEST_CASE("rope_means: the mean over positions by its definition", "[attention][rope][oracle]") {
    const index_t positions = 11, pairs = 3;
    const MatrixXd angle = angles(positions, pairs), cosines = angle.array().cos(), sines = angle.array().sin();
    const std::vector<double> weights = {8, 8, 8, 7, 6, 6, 3, 2, 2, 0, 1};
    for (const auto layout : {rope_layout::halves, rope_layout::interleaved})
        for (const index_t head_size : {6, 7, 10})
            for (const bool weighted : {false, true}) {
                const MatrixXd K = random_matrix(30, head_size, 5), C = K.transpose() * K;
                MatrixXd expected = MatrixXd::Zero(head_size, head_size);
                double total = 0;
                for (index_t t = 0; t < positions; ++t) {
                    const double weight = weighted ? weights[static_cast<std::size_t>(t)] : 1;
                    const MatrixXd R = rotation(angle, t, head_size, layout);
                    expected += weight * R.transpose() * C * R;
                    total += weight;
                }
                expected /= total;
                const magr::rope_means rope(cosines, sines, layout,
                                            weighted ? std::span<const double>(weights) : std::span<const double>());
                CHECK(rope.rotated() == 2 * pairs);
                const auto found = rope.unrotated(C);
                CHECK(is_close(found, expected));
                CHECK(to_eigen(found) == to_eigen(found).transpose());
                CHECK(is_close(magr::row_hessian_from_keys(K, rope), expected));
                CHECK(is_close(magr::row_hessian_from_queries(K, 1, rope), expected));
            }
}

TEST_CASE("rope_means: one position is undone exactly, and a position of angle 0 changes nothing", "[attention][rope][property]") {
    const MatrixXd K = random_matrix(20, 8, 1), angle = random_matrix(1, 4, 2);
    const MatrixXd R = rotation(angle, 0, 8, rope_layout::halves);
    const MatrixXd cosines = angle.array().cos(), sines = angle.array().sin();
    const magr::rope_means rope(cosines, sines);
    CHECK(is_close(magr::row_hessian_from_keys(MatrixXd(K * R.transpose()), rope), K.transpose() * K));
    const magr::rope_means still(MatrixXd(MatrixXd::Ones(5, 4)), MatrixXd(MatrixXd::Zero(5, 4)));
    CHECK(is_close(magr::row_hessian_from_keys(K, still), K.transpose() * K));
}

TEST_CASE("row Hessians: the squared change of the scores", "[attention][row_hessian][property]") {
    const MatrixXd X = random_matrix(40, 12, 1), K = random_matrix(40, 6, 2), E = random_matrix(6, 12, 3);
    const MatrixXd H_row = to_eigen(magr::row_hessian_from_keys(K));
    CHECK((H_row * E * X.transpose() * X * E.transpose()).trace() == Approx((K * E * X.transpose()).squaredNorm()));
}

TEST_CASE("row_hessian_from_queries: heads that share a key head are summed", "[attention][row_hessian][oracle]") {
    const MatrixXd Q = random_matrix(30, 12, 1), angle = angles(9, 2), cosines = angle.array().cos(), sines = angle.array().sin();
    const magr::rope_means rope(cosines, sines);
    MatrixXd sum = MatrixXd::Zero(4, 4), rotated = MatrixXd::Zero(4, 4);
    for (index_t h = 0; h < 3; ++h) {
        const MatrixXd head = Q.middleCols(4 * h, 4);
        sum += head.transpose() * head;
        rotated += to_eigen(magr::row_hessian_from_keys(head, rope));
    }
    CHECK(is_close(magr::row_hessian_from_queries(Q, 3), sum));
    CHECK(is_close(magr::row_hessian_from_queries(Q, 3, rope), rotated));
    magr::thread_pool pool(3);
    CHECK(magr::row_hessian_from_queries(Q, 3, rope, pool) == magr::row_hessian_from_queries(Q, 3, rope));
    CHECK(magr::row_hessian_from_keys(Q, pool) == magr::row_hessian_from_keys(Q));
    const Eigen::MatrixXf narrow = Q.cast<float>();
    CHECK(is_close(magr::row_hessian_from_queries(narrow, 12),
                   MatrixXd::Constant(1, 1, narrow.cast<double>().squaredNorm())));  // twelve heads of one dimension
}

TEST_CASE("value_hessian: the Gram matrix of mixed inputs", "[attention][value_hessian][oracle]") {
    for (const index_t heads : {1, 3}) {
        const index_t tokens = 70, inputs = 9;
        const MatrixXd X = random_matrix(tokens, inputs, 1);
        const MatrixXd A = random_matrix(heads * tokens, tokens, 2).array().exp();
        MatrixXd expected = MatrixXd::Zero(inputs, inputs);
        for (index_t h = 0; h < heads; ++h) {
            const MatrixXd mixed = A.middleRows(h * tokens, tokens) * X;
            expected += mixed.transpose() * mixed;
        }
        CHECK(is_close(magr::value_hessian(X, A), expected));
        magr::thread_pool pool(3);
        CHECK(magr::value_hessian(X, A, pool) == magr::value_hessian(X, A));
        const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> by_rows = X.cast<float>();
        CHECK(magr::value_hessian(by_rows, A) == magr::value_hessian(MatrixXd(by_rows.cast<double>()), A));
    }
    CHECK(is_close(magr::value_hessian(MatrixXd(MatrixXd::Constant(1, 1, 3)), MatrixXd(MatrixXd::Constant(1, 1, 0.5))),
                   MatrixXd::Constant(1, 1, 2.25)));
}

TEST_CASE("row Hessians and value Hessians: what is refused", "[attention][row_hessian][value_hessian][errors]") {
    const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
    const MatrixXd K = random_matrix(10, 6, 1), cosines = MatrixXd::Ones(5, 2), sines = MatrixXd::Zero(5, 2);
    const magr::rope_means rope(cosines, sines);
    CHECK_THROWS_AS(magr::row_hessian_from_keys(MatrixXd(0, 6)), magr::shape_error);
    CHECK_THROWS_AS(magr::row_hessian_from_keys(MatrixXd(3, 0)), magr::shape_error);
    CHECK_THROWS_AS(magr::row_hessian_from_queries(K, 0), magr::option_error);
    CHECK_THROWS_AS(magr::row_hessian_from_queries(K, -1), magr::option_error);
    CHECK_THROWS_AS(magr::row_hessian_from_queries(K, 4), magr::shape_error);
    CHECK_THROWS_AS(magr::row_hessian_from_queries(K, 12), magr::shape_error);
    CHECK_THROWS_WITH(magr::row_hessian_from_queries(K, 2, rope),
                      "row_hessian_from_queries: a head must have the 4 dimensions that rope turns, it has 3");
    CHECK_THROWS_AS(rope.unrotated(MatrixXd(MatrixXd::Identity(3, 3))), magr::shape_error);
    CHECK_THROWS_AS(rope.unrotated(K), magr::shape_error);
    CHECK_THROWS_AS(rope.unrotated(MatrixXd(-MatrixXd::Identity(4, 4))), magr::value_error);
    MatrixXd bad = K;
    bad(3, 5) = nan;
    CHECK_THROWS_AS(magr::row_hessian_from_keys(bad), magr::value_error);
    CHECK_THROWS_AS(magr::row_hessian_from_queries(bad, 2), magr::value_error);
    CHECK_THROWS_AS(magr::row_hessian_from_keys(MatrixXd(1e200 * K)), magr::value_error);  // the sum overflows
    CHECK_THROWS_AS(magr::row_hessian_from_keys(MatrixXd(1e200 * K), rope), magr::value_error);

    CHECK_THROWS_AS(magr::rope_means(MatrixXd(0, 2), MatrixXd(0, 2)), magr::shape_error);
    CHECK_THROWS_AS(magr::rope_means(cosines, MatrixXd(MatrixXd::Zero(5, 3))), magr::shape_error);
    CHECK_THROWS_AS(magr::rope_means(cosines, sines, static_cast<rope_layout>(2)), magr::option_error);
    CHECK_THROWS_AS(magr::rope_means(MatrixXd(MatrixXd::Constant(5, 2, nan)), sines), magr::value_error);
    CHECK_THROWS_AS(magr::rope_means(cosines, MatrixXd(MatrixXd::Constant(5, 2, infinity))), magr::value_error);
    const auto weighted = [&](const std::vector<double>& weights) {
        return magr::rope_means(cosines, sines, rope_layout::halves, weights);
    };
    CHECK_THROWS_AS(weighted({1, 1, 1, 1}), magr::shape_error);
    CHECK_THROWS_AS(weighted({1, 1, 1, 1, -1}), magr::value_error);
    CHECK_THROWS_AS(weighted({1, 1, nan, 1, 1}), magr::value_error);
    CHECK_THROWS_AS(weighted({0, 0, 0, 0, 0}), magr::value_error);
    CHECK_THROWS_AS(weighted({1e308, 1e308, 0, 0, 0}), magr::value_error);

    const MatrixXd A = random_matrix(4, 10, 2);
    CHECK_THROWS_AS(magr::value_hessian(MatrixXd(0, 3), MatrixXd(4, 0)), magr::shape_error);
    CHECK_THROWS_AS(magr::value_hessian(K, MatrixXd(0, 10)), magr::shape_error);
    CHECK_THROWS_AS(magr::value_hessian(K, MatrixXd(A.leftCols(9))), magr::shape_error);
    CHECK_THROWS_AS(magr::value_hessian(bad, A), magr::value_error);
    MatrixXd bad_A = A;
    bad_A(0, 0) = -infinity;
    CHECK_THROWS_AS(magr::value_hessian(K, bad_A), magr::value_error);
    CHECK_THROWS_AS(magr::value_hessian(MatrixXd(1e200 * K), MatrixXd(1e200 * A)), magr::value_error);
    CHECK_THROWS_AS(magr::value_hessian(MatrixXd(1e200 * K), A), magr::value_error);
    check_names<rope_layout>({"halves", "interleaved"});
}
