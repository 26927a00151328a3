// SPDX-License-Identifier: MIT
// LDLQ of QuIP (arXiv 2307.13304): the same decisions as OPTQ, in either direction, its bounds, and its greedy passes.
#include <magr/quantize/round_onto.hpp>

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include <magr/calibration/output_error.hpp>
#include <magr/feedback/feedback.hpp>
#include <magr/fit/fit_grid.hpp>
#include <magr/fit/quip_grids.hpp>
#include <magr/quantize/optq.hpp>
#include <magr/refine/refine_codes.hpp>

#include "layers.hpp"
#include "support/catch.hpp"
#include "support/random_matrix.hpp"
#include "support/values_of.hpp"

using Eigen::MatrixXd;
using magr::column_order;
using magr::index_t;
using tests::random_matrix;
using tests::values_of;

namespace {

/// Step 1 on 0..largest, counted from `zero`.
magr::weight_grids<double> unit_grids(index_t rows, index_t cols, int bits, double zero) {
    auto grids = magr::fit_grids(MatrixXd(MatrixXd::Ones(rows, cols)), {.bits = bits});
    for (index_t i = 0; i < rows; ++i) {
        grids.scales(i, 0) = 1;
        grids.zeros(i, 0) = zero;
    }
    return grids;
}

double proxy_loss(const MatrixXd& Q, const MatrixXd& W, const MatrixXd& H) { return ((Q - W) * H * (Q - W).transpose()).trace(); }

MatrixXd ldlq(const magr::weight_grids<double>& grids, const MatrixXd& W, const MatrixXd& H, column_order order = column_order::natural) {
    const auto q = magr::round_onto(grids, W, H, magr::ldl_feedback{.damping = 0, .raise_damping = false}, {}, {.order = order});
    REQUIRE(q);
    return values_of(*q);
}

/// D of H = T D T^T, T unit upper triangular.
Eigen::VectorXd pivots(const MatrixXd& H) {
    const MatrixXd flipped = H.reverse();
    const MatrixXd L = flipped.llt().matrixL();
    return L.diagonal().array().square().reverse();
}

}  // namespace

TEST_CASE("LDLQ: last to first is QuIP's own H = L D L^T, and the natural order of a mirrored layer", "[quantize][ldlq][oracle]") {
    for (const auto kind : {layers::inputs::neighbours, layers::inputs::outliers}) {
        const auto [W, H] = layers::make_layer(7, 30, kind, 3);
        const auto grids = magr::fit_grids(W, {.bits = 3});
        MatrixXd damped = H;
        damped.diagonal().array() += 0.01 * H.diagonal().mean();
        const MatrixXd Q = ldlq(grids, W, damped, column_order::reversed);
        // w_i + sum_{k > i} (w_k - q_k) L_ki from the last column on, with half to even
        MatrixXd L = damped.llt().matrixL();
        L = (L * L.diagonal().cwiseInverse().asDiagonal()).eval();
        MatrixXd q = W;
        for (index_t i = 29; i >= 0; --i)
            for (index_t r = 0; r < 7; ++r) {
                double target = W(r, i);
                for (index_t k = i + 1; k < 30; ++k) target += (W(r, k) - q(r, k)) * L(k, i);
                const double s = grids.scales(r, 0), z = grids.zeros(r, 0);
                q(r, i) = s * (std::clamp(std::nearbyint(target / s) + z, 0.0, 7.0) - z);
            }
        CHECK((Q - q).cwiseAbs().maxCoeff() <= 1e-14);
        const MatrixXd mirrored = W.rowwise().reverse(), mirrored_gram = H.reverse();
        const auto forward = magr::quantize_optq(mirrored, mirrored_gram, grids);
        const auto backward = magr::quantize_optq(W, H, grids, {.order = column_order::reversed});
        for (index_t r = 0; r < 7; ++r)
            for (index_t j = 0; j < 30; ++j) CHECK(backward.quantized.codes(r, j) == forward.quantized.codes(r, 29 - j));
        CHECK(*backward.loss == Approx(*forward.loss).epsilon(1e-12));
    }
}

TEST_CASE("LDLQ: last to first keeps groups of neighbouring columns, however they are fitted", "[quantize][ldlq]") {
    const auto [W, H] = layers::make_layer(5, 40, layers::inputs::neighbours, 4);
    for (const auto update : {magr::group_update::fixed, magr::group_update::live, magr::group_update::stale}) {
        const auto result =
            magr::quantize_optq(W, H, {.bits = 3, .group_size = 16}, {.block_size = 12, .order = column_order::reversed, .groups = update});
        for (index_t j = 0; j < 40; ++j) CHECK(result.quantized.group_of_column[static_cast<std::size_t>(j)] == j / 16);
        CHECK(result.output_error == Approx(magr::output_error(W, result.quantized.dequantize(), H)).epsilon(1e-9));
    }
}

TEST_CASE("LDLQ: on a finite grid it can lose to plain rounding", "[quantize][ldlq][golden]") {
    // The authors' counterexample (optq_counter.py), with numbers of an independent program in double.
    const struct {
        index_t n;
        double clamped, unclamped, nearest;
    } cases[] = {{16, 39.6247, 3.6845, 3.7404}, {64, 915.1469, 15.4463, 15.6936}};
    for (const auto& [n, clamped, unclamped, nearest] : cases) {
        const auto [W, H] = layers::clamping_counterexample(n);
        const auto narrow = unit_grids(1, n, 2, 0), wide = unit_grids(1, n, 8, 128);
        const double found = proxy_loss(ldlq(narrow, W, H), W, H), free = proxy_loss(ldlq(wide, W, H), W, H);
        const double plain = proxy_loss(W.unaryExpr([](double w) { return std::nearbyint(w); }), W, H);
        CHECK(found == Approx(clamped).margin(1e-4));
        CHECK(free == Approx(unclamped).margin(1e-4));
        CHECK(plain == Approx(nearest).margin(1e-4));
        const double backward = proxy_loss(ldlq(narrow, W, H, column_order::reversed), W, H);  // no counterexample
        CHECK(backward == Approx(n == 16 ? 3.738417 : 15.691669).margin(1e-6));
        const double bound = pivots(H).sum() / 4;
        CHECK(free <= bound);  // nothing was clipped
        CHECK(found > bound);  // and here something was
        CHECK(magr::quantize_optq(W, H, narrow, {.damping = 0}).clipped > 0);
        CHECK(magr::quantize_optq(W, H, wide, {.damping = 0}).clipped == 0);
    }
}

TEST_CASE("LDLQ: the trace of D bounds the loss where nothing is clipped, and incoherence bounds the trace", "[quantize][ldlq][property]") {
    for (const auto kind : {layers::inputs::independent, layers::inputs::neighbours, layers::inputs::low_rank, layers::inputs::outliers}) {
        const index_t n = 24, rows = 40;
        const auto [W, H] = layers::make_layer(rows, n, kind, 9);
        const auto wide = unit_grids(rows, n, 8, 128);
        REQUIRE(magr::quantize_optq(W, H, wide, {.damping = 0}).clipped == 0);
        const double trace = pivots(H).sum(), loss = proxy_loss(ldlq(wide, W, H), W, H);
        CHECK(loss <= static_cast<double>(rows) / 4 * trace);
        CHECK(loss == Approx(static_cast<double>(rows) / 12 * trace).epsilon(0.3));  // on average
        CHECK(trace <= H.trace());
        // Lemma 2: tr D <= mu^2 / n tr(H^1/2)^2 if no entry of an eigenvector exceeds mu / sqrt(n)
        const Eigen::SelfAdjointEigenSolver<MatrixXd> spectrum(H);
        const double mu_squared = spectrum.eigenvectors().cwiseAbs2().maxCoeff() * static_cast<double>(n);
        const double root = spectrum.eigenvalues().cwiseMax(0).cwiseSqrt().sum();
        CHECK(trace <= mu_squared / static_cast<double>(n) * root * root);
    }
}

TEST_CASE("LDLQ: refine_codes without damping is the greedy pass of QuIP", "[quantize][ldlq][refine][oracle]") {
    index_t lowered = 0;
    for (const auto order : {column_order::reversed, column_order::natural, column_order::act_order}) {
        const auto [W, H] = layers::make_layer(9, 32, layers::inputs::neighbours, 12);
        const auto grids = magr::quip_grids(W, 2);
        auto quantized = magr::round_onto(grids, W, H, magr::ldl_feedback{}, {}, {.order = order}).value();
        MatrixXd c(9, 32);
        const double s = grids.scales(0, 0), z = grids.zeros(0, 0);
        for (index_t r = 0; r < 9; ++r)
            for (index_t j = 0; j < 32; ++j) c(r, j) = quantized.codes(r, j);
        const MatrixXd target = W.array() / s + z;
        const auto columns = magr::order_columns(magr::as_const_view(H), order, 32);
        double last = proxy_loss(values_of(quantized), W, H);
        for (int pass = 0; pass < 4; ++pass) {
            // c_i <- round(c_i - ((c - w) H_i) / H_ii), limited to the grid at once
            bool changed = false;
            for (const index_t i : columns)
                for (index_t r = 0; r < 9; ++r) {
                    const double step = (c.row(r) - target.row(r)).dot(H.col(i)) / H(i, i);
                    const double code = std::clamp(std::nearbyint(c(r, i) - step), 0.0, 3.0);
                    changed = changed || code != c(r, i);
                    c(r, i) = code;
                }
            const auto report = magr::refine_codes(quantized, W, H, {.max_passes = 1, .damping = 0, .order = order});
            CAPTURE(to_string(order), pass);
            index_t different = 0;
            for (index_t r = 0; r < 9; ++r)
                for (index_t j = 0; j < 32; ++j) different += quantized.codes(r, j) != static_cast<std::uint8_t>(c(r, j));
            CHECK(different == 0);
            const double now = proxy_loss(values_of(quantized), W, H);
            CHECK(now <= last * (1 + 1e-12));
            CHECK((report.changes > 0) == changed);
            CHECK(2 * report.loss_after == Approx(now).epsilon(1e-9));
            lowered += now < last;
            last = now;
        }
    }
    CHECK(lowered > 0);
}
