// SPDX-License-Identifier: MIT
#include <magr/layer/coupled_rows.hpp>

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <cmath>
#include <limits>
#include <vector>

#include <magr/error.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/parallel/thread_pool.hpp>
#include <magr/quantize_layer.hpp>

#include "support/catch.hpp"
#include "support/random_matrix.hpp"
#include "support/values_of.hpp"

using Eigen::MatrixXd;
using magr::index_t;
using tests::random_matrix;
using tests::values_of;

namespace {

MatrixXd correlated_gram(index_t n, index_t tokens, unsigned seed) {
    const MatrixXd X = random_matrix(tokens, n, seed) * (random_matrix(n, n, seed + 1) + 2 * MatrixXd::Identity(n, n));
    return X.transpose() * X;
}

MatrixXd damped(MatrixXd H, double damping) {
    H.diagonal().array() += damping * H.diagonal().mean();
    return H;
}

/// Only the fitted ranges are tried.
magr::coupled_options one_range(const magr::layer_options& layer, index_t passes, index_t rows_per_step) {
    magr::coupled_options options;
    options.layer = layer;
    options.range_factors.assign(1, 1.0);
    options.passes = passes;
    options.rows_per_step = rows_per_step;
    return options;
}

double cost(const MatrixXd& A, const MatrixXd& E, const MatrixXd& H) { return (A * E * H * E.transpose()).trace(); }

/// One row after the other, in the given order, each rounded from where it makes up best for those before it; by the definition.
MatrixXd by_definition(const MatrixXd& W, const MatrixXd& H, const MatrixXd& A, const magr::layer_options& options) {
    MatrixXd Q = W;
    const index_t m = W.rows();
    for (index_t r = 0; r < m; ++r) {
        Eigen::RowVectorXd target = W.row(r);
        if (r > 0) {
            const MatrixXd rest = A.bottomRightCorner(m - r, m - r), cross = A.bottomLeftCorner(m - r, r);
            target -= (rest.ldlt().solve(cross * (Q - W).topRows(r))).row(0);
        }
        Q.row(r) = values_of(magr::quantize_layer(MatrixXd(target), H, options).quantized);
    }
    return Q;
}

}  // namespace

TEST_CASE("quantize_coupled_rows: each row makes up for those before it as well as it can", "[layer][coupled_rows][oracle]") {
    const index_t m = 9, n = 20;
    const MatrixXd W = random_matrix(m, n, 1), H = correlated_gram(n, 60, 2), A = correlated_gram(m, 30, 4);
    for (const index_t rounds : {0, 2}) {
        const magr::coupled_options options = one_range({.grid = {.bits = 3}, .refinement = {.rounds = rounds}}, 0, 1);
        const auto found = magr::quantize_coupled_rows(W, H, A, options);
        REQUIRE(found);
        CHECK(found.status == magr::quantization_status::as_requested);
        const MatrixXd expected = by_definition(W, H, damped(A, options.damping), options.layer);
        CHECK((values_of(found.quantized) - expected).cwiseAbs().maxCoeff() < 1e-9);
    }
}

TEST_CASE("quantize_coupled_rows: losses are those of the result, and never rise", "[layer][coupled_rows]") {
    const index_t m = 40, n = 24;
    for (unsigned seed = 0; seed < 5; ++seed) {
        const MatrixXd W = random_matrix(m, n, 10 * seed), H = correlated_gram(n, 60, 10 * seed + 1),
                       A = correlated_gram(m, 90, 10 * seed + 3);
        magr::coupled_options options{.layer = {.grid = {.bits = 2}}, .passes = 4, .rows_per_step = 8};
        for (const bool from_scratch : {false, true})
            for (const std::optional<index_t> group_size : {std::optional<index_t>(), std::optional<index_t>(10)}) {
                options.from_scratch = from_scratch;
                options.layer.grid.group_size = group_size;
                const auto found = magr::quantize_coupled_rows(W, H, A, options);
                REQUIRE(found);
                REQUIRE(found.losses.size() >= 2);
                for (std::size_t k = 1; k < found.losses.size(); ++k) CHECK(found.losses[k] <= found.losses[k - 1]);
                CHECK(found.losses.back() < found.losses.front());
                const MatrixXd E = values_of(found.quantized) - W;
                const double expected = 0.5 * cost(damped(A, 0.1), E, damped(H, 0.01));
                CHECK(found.losses.back() == Approx(expected).epsilon(1e-9));
                CHECK(found.output_error ==
                      Approx(cost(MatrixXd::Identity(m, m), E, H) / cost(MatrixXd::Identity(m, m), W, H)).epsilon(1e-9));
            }
    }
}

TEST_CASE("quantize_coupled_rows: losses of float weights are those of the result where outputs move together",
          "[layer][coupled_rows][regression]") {
    const index_t m = 4, n = 4;
    for (unsigned seed = 0; seed < 60; ++seed) {
        MatrixXd g = random_matrix(50, m, 3 * seed);
        const MatrixXd common = random_matrix(50, 1, 3 * seed + 1);
        for (index_t i = 0; i < 3; ++i) g.col(i) = 1000 * common + 0.01 * g.col(i);
        const MatrixXd A = g.transpose() * g, H = MatrixXd::Identity(n, n);
        const Eigen::Vector4d sizes(2, 8, 0.02, 2e-4);
        const Eigen::MatrixXf W = (sizes.asDiagonal() * random_matrix(m, n, 3 * seed + 2)).cast<float>();
        magr::coupled_options options{.layer = {.grid = {.bits = 8, .group_size = 2}}, .rows_per_step = 1};
        const auto found = magr::quantize_coupled_rows(W, H, A, options);
        REQUIRE(found);
        const auto Q = found.quantized.dequantize();
        const MatrixXd E =
            Eigen::Map<const Eigen::Matrix<float, -1, -1, Eigen::RowMajor>>(Q.data(), m, n).cast<double>() - W.cast<double>();
        CHECK(found.losses.back() == Approx(0.5 * cost(damped(A, options.damping), E, damped(H, 0.01))).epsilon(1e-9));
    }
}

TEST_CASE("quantize_coupled_rows: with the identity each row is that of quantize_layer", "[layer][coupled_rows]") {
    const index_t m = 35, n = 24;
    const Eigen::MatrixXf W = random_matrix(m, n, 5).cast<float>();
    const MatrixXd H = correlated_gram(n, 60, 6);
    const magr::coupled_options options = one_range({.grid = {.bits = 3, .group_size = 8}}, 2, 32);
    const auto found = magr::quantize_coupled_rows(W, H, MatrixXd(3 * MatrixXd::Identity(m, m)), options);
    const auto expected = magr::quantize_layer(W, H, options.layer);
    REQUIRE(found);
    // later passes refine once more, which can only lower the loss of a row
    const MatrixXd E = values_of(found.quantized) - W.cast<double>(), F = values_of(expected.quantized) - W.cast<double>();
    const auto row_costs = [&](const MatrixXd& errors) {
        return Eigen::VectorXd((errors * damped(H, 0.01)).cwiseProduct(errors).rowwise().sum());
    };
    for (index_t i = 0; i < m; ++i) CHECK(row_costs(E)(i) <= row_costs(F)(i) * (1 + 1e-6));
    const auto once = magr::quantize_coupled_rows(W, H, MatrixXd(MatrixXd::Identity(m, m)), one_range(options.layer, 0, 32));
    CHECK(values_of(once.quantized) == values_of(expected.quantized));
}

TEST_CASE("quantize_coupled_rows: costs less in its own metric than rows by themselves", "[layer][coupled_rows]") {
    double coupled = 0, alone = 0;
    for (unsigned seed = 0; seed < 6; ++seed) {
        const index_t m = 40, n = 24;
        const MatrixXd W = random_matrix(m, n, 10 * seed), H = correlated_gram(n, 60, 10 * seed + 1),
                       A = correlated_gram(m, 90, 10 * seed + 3);
        const magr::coupled_options options{.layer = {.grid = {.bits = 2}}};
        const auto found = magr::quantize_coupled_rows(W, H, A, options);
        const auto plain = magr::quantize_coupled_rows(W, H, MatrixXd(MatrixXd::Identity(m, m)), options);
        coupled += std::log(cost(A, values_of(found.quantized) - W, H));
        alone += std::log(cost(A, values_of(plain.quantized) - W, H));
    }
    CHECK(coupled < alone - 6 * 0.3);
}

TEST_CASE("quantize_coupled_rows: outputs that do not matter change nothing for the others", "[layer][coupled_rows]") {
    const index_t m = 20, n = 16;
    MatrixXd W = random_matrix(m, n, 1), A = correlated_gram(m, 50, 2);
    const MatrixXd H = correlated_gram(n, 40, 4);
    A.row(7).setZero();
    A.col(7).setZero();
    const magr::coupled_options options{.layer = {.grid = {.bits = 2}}, .rows_per_step = 4};
    const MatrixXd first = values_of(magr::quantize_coupled_rows(W, H, A, options).quantized);
    W.row(7) *= 1e6;
    const MatrixXd second = values_of(magr::quantize_coupled_rows(W, H, A, options).quantized);
    for (index_t i = 0; i < m; ++i)
        if (i != 7) CHECK(first.row(i) == second.row(i));
    CHECK(second.row(7).allFinite());
    CHECK(magr::quantize_coupled_rows(W, H, MatrixXd(MatrixXd::Zero(m, m)), options));
}

TEST_CASE("quantize_coupled_rows: the same bits for any number of workers, and for a multiple of A", "[layer][coupled_rows]") {
    const index_t m = 70, n = 48;
    const Eigen::MatrixXf W = random_matrix(m, n, 1).cast<float>();
    const MatrixXd H = correlated_gram(n, 90, 2), A = correlated_gram(m, 150, 4);
    magr::coupled_options options{.layer = {.grid = {.bits = 2, .group_size = 16}}, .passes = 2};
    const auto serial = magr::quantize_coupled_rows(W, H, A, options);
    for (const int workers : {2, 5}) {
        magr::thread_pool pool(workers);
        const auto parallel = magr::quantize_coupled_rows(W, H, A, options, pool);
        CHECK(values_of(parallel.quantized) == values_of(serial.quantized));
        CHECK(parallel.losses == serial.losses);
    }
    CHECK(values_of(magr::quantize_coupled_rows(W, H, MatrixXd(1024 * A), options).quantized) == values_of(serial.quantized));
    const magr::hessian shared(H);
    CHECK(values_of(magr::quantize_coupled_rows(W, shared, A, options).quantized) == values_of(serial.quantized));
}

TEST_CASE("quantize_coupled_rows: a loss beyond the largest number is reported, not returned", "[layer][coupled_rows][edge]") {
    const MatrixXd W = random_matrix(6, 10, 91), H = correlated_gram(10, 30, 92), A = correlated_gram(6, 20, 93);
    for (const index_t passes : {0, 2})
        for (const double size : {1.0, 1e100, 1e140, 1e156, 1e250}) {
            magr::coupled_options options;
            options.passes = passes;
            const auto result = magr::quantize_coupled_rows(W, MatrixXd(size * H), MatrixXd(size * A), options);
            CAPTURE(passes, size);
            if (result) {
                for (const double loss : result.losses) CHECK(std::isfinite(loss));
                CHECK(values_of(result.quantized).allFinite());
            } else {
                CHECK(result.status == magr::quantization_status::overflowed);
                CHECK(result.losses.empty());
            }
            CHECK(static_cast<bool>(result) == (size < 1e150));
        }
}

TEST_CASE("quantize_coupled_rows: bad input is refused before any work", "[layer][coupled_rows]") {
    const MatrixXd W = random_matrix(4, 6, 1), H = correlated_gram(6, 20, 2), A = correlated_gram(4, 20, 3);
    CHECK_THROWS_AS(magr::quantize_coupled_rows(W, H, H), magr::shape_error);
    CHECK_THROWS_AS(magr::quantize_coupled_rows(W, A, A), magr::shape_error);
    MatrixXd bad = A;
    bad(1, 2) = std::numeric_limits<double>::quiet_NaN();
    CHECK_THROWS_AS(magr::quantize_coupled_rows(W, H, bad), magr::value_error);
    bad = A;
    bad(1, 2) += 1;
    CHECK_THROWS_AS(magr::quantize_coupled_rows(W, H, bad), magr::value_error);
    const auto refused = [&](const auto& spoil) {
        magr::coupled_options options;
        spoil(options);
        CHECK_THROWS_AS(magr::quantize_coupled_rows(W, H, A, options), magr::option_error);
    };
    refused([](magr::coupled_options& o) { o.range_factors.assign(2, 0); });
    refused([](magr::coupled_options& o) { o.passes = -1; });
    refused([](magr::coupled_options& o) { o.rows_per_step = 0; });
    refused([](magr::coupled_options& o) { o.damping = -1; });
    refused([](magr::coupled_options& o) { o.layer.preprocess.emplace(); });
    refused([](magr::coupled_options& o) { o.layer.quantizer = magr::layer_quantizer::rtn; });
    refused([](magr::coupled_options& o) { o.layer.optq.groups = magr::group_update::live; });
}
