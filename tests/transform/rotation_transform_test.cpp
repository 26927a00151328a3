// SPDX-License-Identifier: MIT
#include <magr/transform/rotation_transform.hpp>

#include <Eigen/Core>
#include <Eigen/LU>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <magr/error.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/parallel/thread_pool.hpp>
#include <magr/transform/transform.hpp>

#include "support/catch.hpp"
#include "support/names.hpp"
#include "support/random_matrix.hpp"

using Eigen::MatrixXd;
using Eigen::MatrixXf;
using magr::index_t;
using magr::rotation_kind;
using magr::rotation_transform;
using tests::random_matrix;

static_assert(magr::layer_transform<rotation_transform>);

namespace {

constexpr rotation_kind kinds[] = {rotation_kind::orthogonal, rotation_kind::hadamard};

bool takes(rotation_kind kind, index_t n) { return kind == rotation_kind::orthogonal || n == 1 || n % 2 == 0; }

/// V, whose columns are the images of the unit vectors.
MatrixXd inputs_rotation(const rotation_transform& transform) {
    MatrixXd rotated = MatrixXd::Identity(transform.inputs(), transform.inputs());
    for (Eigen::Index j = 0; j < rotated.cols(); ++j)
        transform.input(std::span<double>(rotated.data() + j * rotated.rows(), static_cast<std::size_t>(rotated.rows())));
    return rotated;
}

MatrixXd outputs_rotation(const rotation_transform& transform) {  // U, because output(y) = U^T y
    MatrixXd rotated = MatrixXd::Identity(transform.outputs(), transform.outputs());
    for (Eigen::Index j = 0; j < rotated.cols(); ++j)
        transform.output(std::span<double>(rotated.data() + j * rotated.rows(), static_cast<std::size_t>(rotated.rows())));
    return rotated.transpose();
}

double distance_from_identity(const MatrixXd& m) { return (m - MatrixXd::Identity(m.rows(), m.cols())).norm(); }

}  // namespace

TEST_CASE("rotation_kind: names", "[transform]") { check_names<rotation_kind>({"orthogonal", "hadamard"}); }

TEST_CASE("rotation_transform: U and V are orthogonal, of every size", "[transform][rotation][property]") {
    for (const auto kind : kinds)
        // powers of two, prime, square of a prime, Paley of either kind (12, 20, 28, 36), an odd part without Paley's matrix (86 = 2 43)
        for (const index_t n : {1, 2, 3, 4, 5, 6, 8, 9, 12, 13, 15, 20, 28, 30, 36, 40, 43, 56, 64, 86, 97, 100, 105, 120, 172, 210, 256}) {
            if (!takes(kind, n)) continue;
            const rotation_transform transform(kind, n, n, 7);
            const MatrixXd U = outputs_rotation(transform), V = inputs_rotation(transform);
            CAPTURE(to_string(kind), n);
            CHECK(distance_from_identity(V * V.transpose()) <= 1e-13 * std::sqrt(static_cast<double>(n)));
            CHECK(distance_from_identity(U * U.transpose()) <= 1e-13 * std::sqrt(static_cast<double>(n)));
            if (n > 2) CHECK((U - V).norm() > 0.1);  // independent of each other
        }
}

TEST_CASE("rotation_transform: a prime number of inputs has a dense rotation, others two factors", "[transform][rotation]") {
    const MatrixXd dense = inputs_rotation({rotation_kind::orthogonal, 1, 13, 1});
    CHECK((dense.array() != 0).all());
    CHECK(dense.determinant() * dense.determinant() == Approx(1));
    const MatrixXd V = inputs_rotation({rotation_kind::orthogonal, 1, 30, 1});  // factors 2, 3, 5: p = 2 * 5, q = 3
    CHECK((V.array() != 0).all());
    // the Givens rotations of two inputs
    const MatrixXd two = inputs_rotation({rotation_kind::orthogonal, 1, 2, 3});
    CHECK(std::abs(two.determinant()) == Approx(1));
}

TEST_CASE("rotation_transform: hadamard spreads a unit vector evenly where there is a Hadamard matrix", "[transform][rotation]") {
    for (const index_t n : {1, 2, 4, 12, 20, 24, 28, 36, 44, 60, 64, 80, 140, 148, 256, 320}) {
        const MatrixXd V = inputs_rotation({rotation_kind::hadamard, 1, n, 11});
        CAPTURE(n);
        CHECK((V.cwiseAbs().array() - 1 / std::sqrt(static_cast<double>(n))).abs().maxCoeff() <= 1e-14);
    }
    // 52 would need a field of 25 or 51 elements: its odd part, 13, gets a rotation
    const MatrixXd V = inputs_rotation({rotation_kind::hadamard, 1, 52, 11});
    CHECK((V.cwiseAbs().array() - 1 / std::sqrt(52.0)).abs().maxCoeff() > 0.01);
}

TEST_CASE("rotation_transform: the cost of errors does not change, and outputs are kept", "[transform][rotation][property]") {
    for (const auto kind : kinds)
        for (const auto& [rows, cols] : std::vector<std::pair<index_t, index_t>>{{1, 1}, {1, 24}, {24, 1}, {6, 40}, {40, 12}, {70, 86}}) {
            const MatrixXd W = random_matrix(rows, cols, 1), E = random_matrix(rows, cols, 2), X = random_matrix(50, cols, 3);
            const MatrixXd H = X.transpose() * X;
            const rotation_transform transform(kind, rows, cols, 5);
            MatrixXd rotated = W, error = E, gram = H;
            transform.weights(magr::as_view(rotated));
            transform.weights(magr::as_view(error));
            transform.gram(magr::as_view(gram));
            CAPTURE(to_string(kind), rows, cols);
            const MatrixXd U = outputs_rotation(transform), V = inputs_rotation(transform);
            CHECK((rotated - U * W * V.transpose()).norm() <= 1e-12 * W.norm());
            CHECK((gram - V * H * V.transpose()).norm() <= 1e-12 * H.norm());
            CHECK((error * gram * error.transpose()).trace() == Approx((E * H * E.transpose()).trace()).epsilon(1e-11));
            for (Eigen::Index t = 0; t < 3; ++t) {
                Eigen::VectorXd x = X.row(t);
                transform.input(std::span<double>(x.data(), static_cast<std::size_t>(cols)));
                Eigen::VectorXd y = rotated * x;
                transform.output(std::span<double>(y.data(), static_cast<std::size_t>(rows)));
                CHECK((y - W * X.row(t).transpose()).norm() <= 1e-12 * W.norm() * X.row(t).norm());
            }
            transform.undo(magr::as_view(rotated));
            CHECK((rotated - W).norm() <= 1e-12 * W.norm());
        }
}

TEST_CASE("rotation_transform: float is rounded after each side, and any layout gives the same numbers", "[transform][rotation]") {
    for (const auto kind : kinds) {
        const rotation_transform transform(kind, 20, 36, 9);
        const MatrixXd W = random_matrix(20, 36, 4);
        MatrixXd exact = W;
        transform.weights(magr::as_view(exact));
        MatrixXf by_columns = W.cast<float>();
        Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> by_rows = by_columns;
        transform.weights(magr::as_view(by_columns));
        transform.weights(magr::as_view(by_rows));
        CHECK(by_columns == by_rows);
        CHECK((by_rows.cast<double>() - exact).norm() <= 1e-6 * exact.norm());
        transform.undo(magr::as_view(by_rows));
        CHECK((by_rows.cast<double>() - W).norm() <= 1e-6 * W.norm());
    }
}

TEST_CASE("rotation_transform: the same bits for every number of workers and rows, and other bits for other seeds",
          "[transform][rotation]") {
    magr::thread_pool pool(3);
    for (const auto kind : kinds) {
        const index_t rows = 70, cols = 172;
        const MatrixXd W = random_matrix(rows, cols, 6), X = random_matrix(80, cols, 7), H = X.transpose() * X;
        const rotation_transform alone(kind, rows, cols, 21), shared(kind, rows, cols, 21, pool), other(kind, rows, cols, 22);
        MatrixXd a = W, b = W, c = W, h = H, k = H;
        alone.weights(magr::as_view(a));
        shared.weights(magr::as_view(b), pool);
        other.weights(magr::as_view(c));
        CHECK(a == b);
        CHECK((a - c).norm() > 0.1 * a.norm());
        alone.gram(magr::as_view(h));
        shared.gram(magr::as_view(k), pool);
        CHECK(h == k);
        alone.undo(magr::as_view(a));
        shared.undo(magr::as_view(b), pool);
        CHECK(a == b);
        // V is the same for all layers with these inputs
        CHECK(inputs_rotation(alone) == inputs_rotation({kind, 2, cols, 21}));
        // a token alone, or as one of many
        MatrixXd tokens = X;
        magr::detail::rotate_rows(*magr::detail::make_rotation("", "", kind, cols, 21, 1, {}), magr::as_view(tokens), false, pool);
        Eigen::VectorXd x = X.row(45);
        alone.input(std::span<double>(x.data(), static_cast<std::size_t>(cols)));
        CHECK(x == tokens.row(45).transpose());
    }
}

TEST_CASE("rotation_transform: weights and inputs become incoherent", "[transform][rotation][property]") {
    const index_t rows = 64, cols = 96;
    MatrixXd W = 0.01 * random_matrix(rows, cols, 8);
    W(3, 5) = 10;
    W(40, 80) = -7;
    MatrixXd h = MatrixXd::Identity(cols, cols) * 0.01;
    h(17, 17) = 1000;
    const auto mu = [&](const MatrixXd& m) { return m.cwiseAbs().maxCoeff() * std::sqrt(static_cast<double>(m.size())) / m.norm(); };
    for (const auto kind : kinds) {
        const rotation_transform transform(kind, rows, cols, 1);
        MatrixXd rotated = W, gram = h;
        transform.weights(magr::as_view(rotated));
        transform.gram(magr::as_view(gram));
        CAPTURE(to_string(kind), mu(W), mu(rotated));
        CHECK(mu(W) > 60);
        CHECK(mu(rotated) < 12);
        // the eigenvector of the outlier was a unit vector, mu sqrt(96); its square spreads over the diagonal
        CHECK(std::sqrt(gram.diagonal().maxCoeff() * static_cast<double>(cols) / gram.trace()) < 6);
        CHECK(std::sqrt(h.diagonal().maxCoeff() * static_cast<double>(cols) / h.trace()) > 9);
    }
}

TEST_CASE("rotation_transform: rotations are reproduced on every platform", "[transform][rotation]") {
    // numbers of this library's first version: seeds are stored in files
    const auto sum = [](const MatrixXd& V) {
        double value = 0;
        for (Eigen::Index i = 0; i < V.size(); ++i) value += V.data()[i] * static_cast<double>(i % 7 - 3);
        return value;
    };
    CHECK(sum(inputs_rotation({rotation_kind::orthogonal, 1, 30, 42})) == Approx(-6.4391269268).margin(1e-9));
    CHECK(sum(inputs_rotation({rotation_kind::hadamard, 1, 24, 42})) == Approx(7.1443450831).margin(1e-9));
}

TEST_CASE("rotation_transform: bad kinds and sizes are refused before any write", "[transform][rotation]") {
    const auto make = [](rotation_kind kind, index_t rows, index_t cols) { rotation_transform(kind, rows, cols, 1); };
    CHECK_THROWS_AS(make(static_cast<rotation_kind>(7), 4, 4), magr::option_error);
    CHECK_THROWS_AS(make(rotation_kind::orthogonal, 0, 4), magr::shape_error);
    CHECK_THROWS_AS(make(rotation_kind::orthogonal, 4, -1), magr::shape_error);
    CHECK_THROWS_AS(make(rotation_kind::hadamard, 4, (index_t{1} << 24) + 2), magr::shape_error);
    CHECK_THROWS_WITH(make(rotation_kind::hadamard, 4, 15),
                      "rotation_transform: kind hadamard needs an even number of cols, there are 15; orthogonal takes any number");
    for (const auto kind : kinds) {
        const rotation_transform transform(kind, 4, 6, 1);
        MatrixXd W = random_matrix(6, 4, 1), H = random_matrix(4, 4, 2);
        const MatrixXd before = W, before_H = H;
        CHECK_THROWS_AS(transform.weights(magr::as_view(W)), magr::shape_error);
        CHECK_THROWS_AS(transform.undo(magr::as_view(W)), magr::shape_error);
        CHECK_THROWS_AS(transform.gram(magr::as_view(H)), magr::shape_error);
        CHECK_THROWS_AS(transform.input(std::span<double>(W.data(), 4)), magr::shape_error);
        CHECK_THROWS_AS(transform.output(std::span<double>(W.data(), 6)), magr::shape_error);
        CHECK(W == before);
        CHECK(H == before_H);
    }
}
