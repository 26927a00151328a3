// SPDX-License-Identifier: MIT
#include <magr/transform/incoherence.hpp>

#include <Eigen/Core>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include <magr/error.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/parallel/thread_pool.hpp>
#include <magr/transform/transform.hpp>
#include <magr/transform/transformed_matrix.hpp>

#include "support/catch.hpp"
#include "support/random_matrix.hpp"

using Eigen::MatrixXd;
using magr::fit_incoherence;
using magr::incoherence;
using magr::incoherence_recipe;
using magr::index_t;
using magr::rotation_kind;
using tests::random_matrix;

static_assert(magr::layer_transform<incoherence>);

namespace {

struct layer {
    MatrixXd W, H;
};

/// Columns and inputs of very different size.
layer uneven_layer(index_t rows, index_t cols, unsigned seed) {
    MatrixXd W = random_matrix(rows, cols, seed), X = random_matrix(2 * cols, cols, seed + 1);
    for (index_t j = 0; j < cols; ++j) {
        W.col(j) *= std::pow(10, static_cast<double>(j % 4) / 2);
        X.col(j) *= std::pow(10, static_cast<double>(j % 3));
    }
    return {W, X.transpose() * X};
}

std::span<double> as_span(Eigen::VectorXd& x) { return {x.data(), static_cast<std::size_t>(x.size())}; }

}  // namespace

TEST_CASE("incoherence: the diagonals of H and W^T W become proportional", "[transform][incoherence][property]") {
    const auto [W, H] = uneven_layer(12, 20, 1);
    const std::vector<double> D = fit_incoherence(W, H).recipe().diagonal;
    REQUIRE(D.size() == 20);
    const MatrixXd scaled = W * Eigen::Map<const Eigen::VectorXd>(D.data(), 20).asDiagonal();
    double ratio = 0;
    for (index_t j = 0; j < 20; ++j) {
        const double d = D[static_cast<std::size_t>(j)], here = H(j, j) / (d * d) / scaled.col(j).squaredNorm();
        if (j == 0) ratio = here;
        CHECK(here == Approx(ratio).epsilon(1e-12));
    }
    // neither the size of W nor that of H matters
    const auto of_others = fit_incoherence(MatrixXd(W * 0x1p600), MatrixXd(H * 0x1p-600)).recipe().diagonal;
    CHECK(of_others == D);
    CHECK(fit_incoherence(W, H, {.rescale = false}).recipe().diagonal.empty());
}

TEST_CASE("incoherence: keeps outputs and the cost of errors, and is undone", "[transform][incoherence][property]") {
    for (const auto kind : {rotation_kind::orthogonal, rotation_kind::hadamard})
        for (const bool rescale : {true, false}) {
            const auto [W, H] = uneven_layer(18, 28, 3);
            const MatrixXd E = random_matrix(18, 28, 5), X = random_matrix(4, 28, 6);
            const incoherence transform = fit_incoherence(W, H, {.kind = kind, .seed = 77, .rescale = rescale});
            MatrixXd w = W, e = E, h = H;
            transform.weights(magr::as_view(w));
            transform.weights(magr::as_view(e));
            transform.gram(magr::as_view(h));
            CAPTURE(to_string(kind), rescale);
            CHECK((e * h * e.transpose()).trace() == Approx((E * H * E.transpose()).trace()).epsilon(1e-9));
            for (index_t t = 0; t < 4; ++t) {
                Eigen::VectorXd x = X.row(t);
                transform.input(as_span(x));
                Eigen::VectorXd y = w * x;
                transform.output(as_span(y));
                CHECK((y - W * X.row(t).transpose()).norm() <= 1e-11 * y.norm());
            }
            // an engine that rotates its inputs and outputs, and one that loads undo(W')
            MatrixXd undone = w + e;
            transform.undo(magr::as_view(undone));
            Eigen::VectorXd x = X.row(0), y;
            transform.input(as_span(x));
            y = (w + e) * x;
            transform.output(as_span(y));
            CHECK((y - undone * X.row(0).transpose()).norm() <= 1e-11 * y.norm());
            transform.undo(magr::as_view(w));
            CHECK((w - W).norm() <= 1e-12 * W.norm());
        }
}

TEST_CASE("incoherence: the recipe alone makes the same object again", "[transform][incoherence]") {
    const auto [W, H] = uneven_layer(30, 44, 8);
    magr::thread_pool pool(3);
    for (const auto kind : {rotation_kind::orthogonal, rotation_kind::hadamard}) {
        const incoherence first = fit_incoherence(W, H, {.kind = kind, .seed = 0xfedcba9876543210});
        const incoherence shared = fit_incoherence(W, magr::hessian(H), {.kind = kind, .seed = 0xfedcba9876543210}, pool);
        CHECK(first.recipe() == shared.recipe());
        const incoherence_recipe copy{kind, 0xfedcba9876543210, 30, 44, first.recipe().diagonal};
        const incoherence second(copy);
        MatrixXd a = W, b = W, c = W, h = H, k = H;
        first.weights(magr::as_view(a));
        second.weights(magr::as_view(b));
        shared.weights(magr::as_view(c), pool);
        CHECK(a == b);
        CHECK(a == c);
        first.gram(magr::as_view(h));
        shared.gram(magr::as_view(k), pool);
        CHECK(h == k);
    }
}

TEST_CASE("incoherence: dead inputs and zero weights keep the scales in bounds", "[transform][incoherence][dead]") {
    auto [W, H] = uneven_layer(6, 10, 2);
    H.row(3).setZero();
    H.col(3).setZero();
    W.col(3).setConstant(1e200);
    W.col(5).setZero();
    const auto D = fit_incoherence(W, H).recipe().diagonal;
    CHECK(D[3] == 1);
    for (const double d : D) CHECK((d > 1e-4 && d < 1e4));
    CHECK(fit_incoherence(MatrixXd(MatrixXd::Zero(6, 10)), H).recipe().diagonal == std::vector<double>(10, 1.0));
    CHECK(fit_incoherence(W, MatrixXd(MatrixXd::Zero(10, 10))).recipe().diagonal == std::vector<double>(10, 1.0));
}

TEST_CASE("incoherence: bad arguments are refused before any write", "[transform][incoherence]") {
    const auto [W, H] = uneven_layer(6, 10, 2);
    const auto bad = static_cast<rotation_kind>(5);
    CHECK_THROWS_WITH(fit_incoherence(W, H, {.kind = bad}), "fit_incoherence: kind must be orthogonal or hadamard, it is 5");
    CHECK_THROWS_AS(fit_incoherence(MatrixXd(W.leftCols(9)), H), magr::shape_error);
    MatrixXd broken = W;
    broken(2, 3) = std::numeric_limits<double>::infinity();
    CHECK_THROWS_AS(fit_incoherence(broken, H), magr::value_error);
    broken = -H;
    CHECK_THROWS_AS(fit_incoherence(W, broken), magr::value_error);
    CHECK_THROWS_AS(fit_incoherence(MatrixXd(W.topRows(5)), H, {.kind = rotation_kind::hadamard}), magr::option_error);
    CHECK_THROWS_AS(incoherence({rotation_kind::orthogonal, 1, 0, 4, {}}), magr::shape_error);
    CHECK_THROWS_AS(incoherence({bad, 1, 4, 4, {}}), magr::option_error);
    CHECK_THROWS_WITH(incoherence({rotation_kind::orthogonal, 1, 4, 4, {1, 2, 3}}),
                      "incoherence: diagonal must be empty or have 4 numbers, it has 3");
    for (const double value : {0.0, -1.0, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()})
        CHECK_THROWS_AS(incoherence({rotation_kind::orthogonal, 1, 4, 2, {1, value}}), magr::value_error);
    const incoherence transform = fit_incoherence(W, H);
    MatrixXd other = random_matrix(5, 10, 1), gram = random_matrix(9, 9, 1);
    const MatrixXd before = other, gram_before = gram;
    Eigen::VectorXd token = random_matrix(9, 1, 1);
    const Eigen::VectorXd token_before = token;
    CHECK_THROWS_AS(transform.weights(magr::as_view(other)), magr::shape_error);
    CHECK_THROWS_AS(transform.undo(magr::as_view(other)), magr::shape_error);
    CHECK_THROWS_AS(transform.gram(magr::as_view(gram)), magr::shape_error);
    CHECK_THROWS_AS(transform.input(as_span(token)), magr::shape_error);
    CHECK_THROWS_AS(transform.output(as_span(token)), magr::shape_error);
    CHECK(other == before);
    CHECK(gram == gram_before);
    CHECK(token == token_before);
}
