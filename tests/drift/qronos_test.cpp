// SPDX-License-Identifier: MIT
#include <magr/drift/qronos.hpp>

#include <Eigen/Core>
#include <Eigen/Eigenvalues>
#include <Eigen/QR>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include <magr/compensate_drift.hpp>
#include <magr/drift/gpfq_drift.hpp>
#include <magr/drift/gptaq.hpp>
#include <magr/drift/round_onto_drift.hpp>
#include <magr/feedback/gpfq.hpp>
#include <magr/fit/fit_grid.hpp>
#include <magr/parallel/thread_pool.hpp>
#include <magr/quantize/optq.hpp>

#include "drift/drifted_layers.hpp"
#include "support/catch.hpp"

using Eigen::MatrixXd;
using magr::column_order;
using magr::index_t;
using magr::qronos;
using magr::qronos_damping_unit;
using magr::qronos_first_step;
using namespace tests;

namespace {

/// argmin_v ||b - A v||
long_vector least_squares(const long_matrix& A, const long_vector& b) { return A.colPivHouseholderQr().solve(b); }

/// Qronos by its definition, with the inputs of all tokens. Damping lengthens X and Y by sqrt(lambda) I, but not for the exact first step.
void qronos_by_tokens(const drifted_layer& layer, const std::vector<index_t>& order, qronos_first_step first_step, double lambda,
                      textbook_grid& round) {
    const index_t n = layer.W.cols(), tokens = layer.X.rows();
    std::vector<index_t> live;
    for (const index_t j : order)
        if (layer.Y.col(j).squaredNorm() > 0) live.push_back(j);
    const index_t count = static_cast<index_t>(live.size());
    long_matrix Y = long_matrix::Zero(tokens + count, count);
    for (index_t k = 0; k < count; ++k) {
        Y.col(k).head(tokens) = layer.Y.col(live[static_cast<std::size_t>(k)]).cast<long double>();
        Y(tokens + k, k) = std::sqrt(static_cast<long double>(lambda));
    }
    for (index_t i = 0; i < layer.W.rows(); ++i) {
        const long_vector w = layer.W.row(i).transpose().cast<long double>();
        for (index_t j = 0; j < n; ++j) round(0, i, j);  // what dead inputs get
        long_vector wanted(tokens + count), v(count);
        wanted.head(tokens) = layer.X.cast<long double>() * w;
        for (index_t k = 0; k < count; ++k) v(k) = w(live[static_cast<std::size_t>(k)]);
        wanted.tail(count) = std::sqrt(static_cast<long double>(lambda)) * v;
        if (first_step == qronos_first_step::projection) v = least_squares(Y, wanted);
        for (index_t k = 0; k < count; ++k) {
            const index_t used = k == 0 && first_step == qronos_first_step::exact ? tokens : tokens + count;
            const long_vector rest = (wanted - Y.rightCols(count - k - 1) * v.tail(count - k - 1)).head(used);
            const long_vector y = Y.col(k).head(used);
            const long double q = round(y.dot(rest) / y.squaredNorm(), i, live[static_cast<std::size_t>(k)]);
            wanted -= q * Y.col(k);
            if (k + 1 < count) v.tail(count - k - 1) = least_squares(Y.rightCols(count - k - 1), wanted);
        }
    }
}

qronos undamped(qronos_first_step first_step) { return {.damping = 0, .first_step = first_step, .raise_damping = false}; }

constexpr auto every_first_step = {qronos_first_step::exact, qronos_first_step::projection};

}  // namespace

TEST_CASE("qronos: the codes of the definition by tokens", "[quantize][drift][qronos][oracle]") {
    for (const auto order : every_order)
        for (const auto first_step : every_first_step)
            for (const bool has_dead : {false, true})
                for (const double damping : {0.0, 0.05}) {
                    drifted_layer layer = drifted(40, 5, 13, 0.3, 11);
                    if (has_dead) kill(layer, {0, 6, 12});
                    const MatrixXd H = layer.H();
                    const auto grids = magr::fit_grids(layer.W, {.bits = 3, .group_size = 4});
                    const double lambda = damping * Eigen::SelfAdjointEigenSolver<MatrixXd>(H).eigenvalues().maxCoeff();
                    textbook_grid round(grids);
                    qronos_by_tokens(layer, order_of(H, order, 4), first_step, lambda, round);
                    const auto q =
                        magr::round_onto_drift(grids, layer.W, H, layer.C(), qronos{.damping = damping, .first_step = first_step}, {},
                                               {.order = order, .block_size = 5});
                    REQUIRE(q);
                    CHECK(round.margin > 1e-7);  // no tie, so rounding errors do not decide
                    CHECK(round.different(*q) == 0);
                }
}

TEST_CASE("qronos: more inputs than tokens need damping", "[quantize][drift][qronos][oracle]") {
    const drifted_layer layer = drifted(6, 4, 10, 0.3, 5);
    const MatrixXd H = layer.H();
    const auto grids = magr::fit_grids(layer.W, {.bits = 3});
    for (const auto first_step : every_first_step) {
        textbook_grid round(grids);
        qronos_by_tokens(layer, order_of(H, column_order::natural, 10), first_step, 0.01 * H.diagonal().mean(), round);
        const auto q = magr::round_onto_drift(grids, layer.W, H, layer.C(),
                                              qronos{.damping = 0.01, .unit = qronos_damping_unit::mean, .first_step = first_step});
        REQUIRE(q);
        CHECK(round.margin > 1e-7);
        CHECK(round.different(*q) == 0);
        CHECK_FALSE(magr::round_onto_drift(grids, layer.W, MatrixXd(MatrixXd::Ones(10, 10)), layer.C(), undamped(first_step)));
    }
}

TEST_CASE("qronos: a small instance, computed by an independent program", "[quantize][drift][qronos][golden]") {
    drifted_layer layer{MatrixXd(8, 5), MatrixXd(8, 5), MatrixXd(2, 5)};
    layer.X << 3, -3, 1, 0, -3, -1, 3, 3, 3, 1, 1, -1, -1, -1, 2, 3, 1, -2, -2, 3, 1, 0, -1, -1, 2, -2, 3, -1, 0, 2, 3, 0, 1, -3, 0, 3, 2,
        3, 3, 3;
    layer.Y << 3.7, -2.3, .3, 0, -3.6, -1.7, 3.5, 3.4, 3.7, .6, 1.6, -.6, -.7, -.4, 1.7, 3.2, 1.5, -1.8, -1.5, 3.7, 1.4, -.6, -.7, -1.4, 2,
        -1.5, 3, -1.3, -.1, 1.4, 2.7, .6, .9, -3.3, -.7, 2.7, 2.4, 3, 3.5, 3.3;
    layer.W << .11, .48, .07, -.26, -.17, 1.03, -.19, -.6, -.11, -.29;
    auto grids = magr::fit_grids(layer.W, {.bits = 4});
    for (index_t i = 0; i < 2; ++i) {
        grids.scales(i, 0) = i == 0 ? 0.15 : 0.2;
        grids.zeros(i, 0) = i == 0 ? 8 : 7;
    }
    const MatrixXd H = layer.H(), C = layer.C();
    const auto expect = [&](const auto& q, const std::vector<int>& codes, double loss) {
        REQUIRE(q);
        std::vector<int> found;
        for (index_t i = 0; i < 10; ++i) found.push_back(q->codes(i / 5, i % 5));
        CHECK(found == codes);
        CHECK(layer.loss(as_eigen(q->dequantize())) == Approx(loss).epsilon(1e-6));
    };
    expect(magr::round_onto(grids, layer.W, H, magr::ldl_feedback{.damping = 0}), {9, 11, 8, 7, 7, 12, 6, 4, 6, 6}, 5.003625);
    expect(magr::round_onto_drift(grids, layer.W, H, C, magr::gpfq_drift{}), {9, 11, 8, 7, 7, 12, 7, 5, 6, 6}, 3.108825);
    expect(magr::round_onto_drift(grids, layer.W, H, C, undamped(qronos_first_step::exact)), {8, 10, 9, 6, 8, 12, 6, 5, 6, 6}, 2.401025);
    expect(magr::round_onto_drift(grids, layer.W, H, C, undamped(qronos_first_step::projection)), {8, 10, 9, 6, 8, 11, 5, 6, 6, 7},
           1.937025);
    const auto target = magr::drift_target(layer.W, H, C, undamped(qronos_first_step::exact));
    REQUIRE(target);
    CHECK(layer.loss(as_eigen(*target)) == Approx(1.4061298609).epsilon(1e-9));

    const std::vector<index_t> natural = {0, 1, 2, 3, 4};
    const auto terms = undamped(qronos_first_step::exact)
                           .make<double>(magr::as_const_view(layer.W), magr::hessian(H), magr::as_const_view(C), natural, {});
    REQUIRE(terms);
    CHECK(terms->target(0, 0) + terms->offsets(0, 0) == Approx(.0541436579).epsilon(1e-8));
    CHECK(terms->target(1, 0) + terms->offsets(0, 1) == Approx(.9610587503).epsilon(1e-8));

    const auto turned =  // G = C^T + H transposed
        magr::round_onto_drift(grids, layer.W, H, MatrixXd(C.transpose()), undamped(qronos_first_step::exact));
    REQUIRE(turned);
    CHECK(layer.loss(as_eigen(turned->dequantize())) == Approx(6.2534).epsilon(1e-4));
}

TEMPLATE_TEST_CASE("qronos: without drift it is OPTQ, bit by bit", "[quantize][drift][qronos]", float, double, Eigen::half,
                   Eigen::bfloat16) {
    for (const auto order : every_order)
        for (const auto first_step : every_first_step)
            for (const bool has_dead : {false, true}) {
                drifted_layer layer = drifted(90, 37, 52, 0, 21);
                if (has_dead) kill(layer, {0, 17, 51});
                const Eigen::Matrix<TestType, Eigen::Dynamic, Eigen::Dynamic> W = layer.W.cast<TestType>();
                const MatrixXd H = layer.H(), C = MatrixXd::Zero(52, 52);
                const auto grids = magr::fit_grids(W, {.bits = 3, .group_size = 16});
                const magr::optq_options options{.damping = 0.01, .order = order, .dead = magr::dead_columns::zero};
                const auto optq = magr::quantize_optq(W, H, grids, options);
                const auto q = magr::round_onto_drift(grids, W, H, C,
                                                      qronos{.damping = 0.01, .unit = qronos_damping_unit::mean, .first_step = first_step},
                                                      {}, {.order = order, .block_size = 96});
                REQUIRE(q);
                CHECK(q->codes == optq.quantized.codes);
            }
}

TEST_CASE("qronos: its error is that of the least-squares fit and that of rounding the fit", "[quantize][drift][qronos][certificate]") {
    for (unsigned seed = 0; seed < 10; ++seed)
        for (const auto order : every_order) {
            drifted_layer layer = drifted(60, 7, 24, 0.2, 100 + seed);
            kill(layer, {3});
            const MatrixXd H = layer.H(), C = layer.C();
            const qronos method = undamped(qronos_first_step::projection);
            const auto target = magr::drift_target(layer.W, H, C, method);
            REQUIRE(target);
            const MatrixXd fit = as_eigen(*target);
            CHECK(fit.col(3).isZero(0));
            auto grids = magr::fit_grids(fit, {.bits = 8});
            for (index_t i = 0; i < grids.rows(); ++i) {
                grids.scales(i, 0) = 0.05 + 0.01 * static_cast<double>(i);  // wide enough that nothing is clipped
                grids.zeros(i, 0) = 128;
            }
            const auto q = magr::round_onto_drift(grids, layer.W, H, C, method, {}, {.order = order});
            REQUIRE(q);
            const MatrixXd E = as_eigen(q->dequantize()) - fit;
            const double rounding = (E * H * E.transpose()).trace();
            CHECK(layer.loss(as_eigen(q->dequantize())) == Approx(layer.loss(fit) + rounding).epsilon(1e-9));

            const auto factor = magr::factor_feedback<double>(magr::as_const_view(H), order_of(H, order, 24), {.damping = 0});
            double pivots = 0, squares = 0;
            for (const double pivot : factor.pivots) pivots += pivot;
            for (index_t i = 0; i < grids.rows(); ++i) squares += grids.scales(i, 0) * grids.scales(i, 0);
            CHECK(rounding <= squares / 4 * pivots * (1 + 1e-9));
            CHECK(rounding >= squares / 40 * pivots);  // so the bound says something
        }
}

TEST_CASE("qronos: the projection is compensate_drift in full", "[quantize][drift][qronos]") {
    drifted_layer layer = drifted(60, 7, 24, 0.2, 3);
    kill(layer, {0, 9});
    const MatrixXd H = layer.H(), C = layer.C();
    MatrixXd compensated = layer.W;
    REQUIRE(magr::compensate_drift(compensated, H, C, {.fraction = 1, .damping = 0.03}).compensated);
    for (const auto order : every_order) {
        const auto target = magr::drift_target(layer.W, H, C, qronos{.damping = 0.03, .unit = qronos_damping_unit::mean}, order, 8);
        REQUIRE(target);
        for (const index_t j : {0, 9}) compensated.col(j).setZero();
        CHECK(as_eigen(*target).isApprox(compensated, 1e-12));
    }
}

TEST_CASE("qronos: live columns make up for an input that is gone", "[quantize][drift][qronos][edge]") {
    drifted_layer layer = drifted(60, 7, 24, 0, 9);
    kill(layer, {0, 5});  // the only drift; the natural order begins with a dead column
    drifted_layer forgetful = layer;
    for (const index_t j : {0, 5}) forgetful.W.col(j).setZero();
    const auto grids = magr::fit_grids(layer.W, {.bits = 4});
    for (const auto order : every_order)
        for (const auto first_step : every_first_step) {
            const qronos method{.first_step = first_step};
            const auto q = magr::round_onto_drift(grids, layer.W, layer.H(), layer.C(), method, {}, {.order = order});
            const auto forgotten = magr::round_onto_drift(grids, forgetful.W, layer.H(), layer.C(), method, {}, {.order = order});
            REQUIRE((q && forgotten));
            CHECK(layer.loss(as_eigen(q->dequantize())) < 0.8 * layer.loss(as_eigen(forgotten->dequantize())));
            for (const index_t j : {0, 5}) CHECK(as_eigen(q->dequantize()).col(j).isZero(0));
        }
}

TEST_CASE("qronos: less error than OPTQ, GPTAQ in between", "[quantize][drift][qronos][gptaq]") {
    double optq = 0, gptaq = 0, exact = 0, projection = 0;
    for (unsigned seed = 0; seed < 20; ++seed) {
        const drifted_layer layer = drifted(60, 6, 24, 0.2, 300 + 10 * seed);
        const MatrixXd H = layer.H(), C = layer.C();
        const auto grids = magr::fit_grids(layer.W, {.bits = 4});
        const auto loss = [&](const auto& q) { return layer.loss(as_eigen(q.value().dequantize())); };
        optq += loss(magr::round_onto(grids, layer.W, H, magr::ldl_feedback{}));
        gptaq += loss(magr::round_onto_drift(grids, layer.W, H, C, magr::gptaq{.alpha = 1}));
        exact += loss(magr::round_onto_drift(grids, layer.W, H, C, qronos{}));
        projection += loss(magr::round_onto_drift(grids, layer.W, H, C, qronos{.first_step = qronos_first_step::projection}));
    }
    CHECK(gptaq < 0.98 * optq);
    CHECK(exact < 0.98 * gptaq);
    CHECK(projection < 0.98 * gptaq);
}

TEST_CASE("qronos: a hessian that layers share finds its largest eigenvalue once", "[quantize][drift][qronos]") {
    const drifted_layer layer = drifted(60, 6, 24, 0.2, 3);
    const magr::hessian H(layer.H());
    CHECK(magr::drift_target(layer.W, H, layer.C(), qronos{}));
    const index_t made = H.made();
    CHECK(made == 1);
    CHECK(magr::drift_target(MatrixXd(2 * layer.W), H, layer.C(), qronos{.damping = 1e-3}));
    CHECK(H.made() == made);
}

TEST_CASE("qronos: refuses options outside of their ranges", "[quantize][drift][qronos][errors]") {
    const drifted_layer layer = drifted(20, 3, 6, 0.2, 3);
    const auto grids = magr::fit_grids(layer.W, {.bits = 4});
    const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
    const auto refuse = [&](const qronos& method) {
        CHECK_THROWS_AS(magr::round_onto_drift(grids, layer.W, layer.H(), layer.C(), method), magr::option_error);
        CHECK_THROWS_AS(magr::drift_target(layer.W, layer.H(), layer.C(), method), magr::option_error);
    };
    for (const double damping : {-1e-3, nan, infinity}) refuse({.damping = damping});
    refuse({.unit = static_cast<qronos_damping_unit>(2)});
    refuse({.first_step = static_cast<qronos_first_step>(7)});
    CHECK(magr::problems(qronos{}).empty());
    CHECK(magr::problems(qronos{.damping = -1, .first_step = static_cast<qronos_first_step>(7)}).size() == 2);
}
