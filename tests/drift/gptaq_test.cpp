// SPDX-License-Identifier: MIT
#include <magr/drift/gptaq.hpp>

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <Eigen/LU>
#include <cstddef>
#include <limits>
#include <vector>

#include <magr/drift/round_onto_drift.hpp>
#include <magr/fit/fit_grid.hpp>
#include <magr/quantize/optq.hpp>

#include "drift/drifted_layers.hpp"
#include "support/catch.hpp"

using Eigen::MatrixXd;
using magr::column_order;
using magr::gptaq;
using magr::gptaq_weights;
using magr::index_t;
using namespace tests;

namespace {

/// GPTAQ column by column, by the inverse of H and with H and C summed in long double. Dead inputs are no part of the inverse.
void gptaq_by_columns(const drifted_layer& layer, const std::vector<index_t>& order, const gptaq& options, textbook_grid& round) {
    const index_t n = layer.W.cols();
    const long_matrix X = layer.X.cast<long double>(), Y = layer.Y.cast<long double>();
    const long_matrix gram = Y.transpose() * Y, cross = (X - Y).transpose() * Y;
    long_matrix H(n, n), C(n, n), W(layer.W.rows(), n);
    long double sum = 0, live = 0;
    for (index_t j = 0; j < n; ++j)
        if (gram(j, j) > 0) sum += gram(j, j), live += 1;
    const auto column = [&](index_t k) { return order[static_cast<std::size_t>(k)]; };
    for (index_t a = 0; a < n; ++a) {
        for (index_t b = 0; b < n; ++b) {
            H(a, b) = gram(column(a), column(b));
            C(a, b) = cross(column(a), column(b));
        }
        W.col(a) = layer.W.col(column(a)).cast<long double>();
        H(a, a) = gram(column(a), column(a)) > 0 ? H(a, a) + static_cast<long double>(options.damping) * sum / live : 1;
    }
    const long_matrix U = long_matrix(H.inverse()).llt().matrixU();
    const long_matrix P =
        static_cast<long double>(options.alpha) * long_matrix((C * U.transpose()).triangularView<Eigen::StrictlyUpper>()) * U;
    const long_matrix original = W;
    for (index_t k = 0; k < n; ++k)
        for (index_t i = 0; i < W.rows(); ++i) {
            const bool is_dead = gram(column(k), column(k)) == 0;
            const long double w = W(i, k);
            const long double error = (w - round(is_dead ? 0 : w, i, column(k))) / U(k, k);
            const long double handed_on = options.weights == gptaq_weights::working ? w : original(i, k);
            for (index_t l = k + 1; l < n; ++l) W(i, l) -= error * U(k, l) - handed_on * P(k, l);
        }
}

}  // namespace

TEST_CASE("gptaq: the codes of the definition, column by column", "[quantize][drift][gptaq][oracle]") {
    for (const auto order : every_order)
        for (const auto weights : {gptaq_weights::working, gptaq_weights::original})
            for (const bool has_dead : {false, true})
                for (const double alpha : {0.25, 1.0}) {
                    drifted_layer layer = drifted(60, 6, 120, 0.3, 17);  // more than one block of columns
                    if (has_dead) kill(layer, {0, 6, 100});
                    const gptaq method{.alpha = alpha, .damping = 0.05, .weights = weights};
                    const auto grids = magr::fit_grids(layer.W, {.bits = 3, .group_size = 8});
                    textbook_grid round(grids);
                    gptaq_by_columns(layer, order_of(layer.H(), order, 8), method, round);
                    for (const index_t block_size : {7, 96}) {
                        const auto q = magr::round_onto_drift(grids, layer.W, layer.H(), layer.C(), method, {},
                                                              {.order = order, .block_size = block_size});
                        REQUIRE(q);
                        CHECK(round.margin > 1e-7);  // no tie, so rounding errors do not decide
                        CHECK(round.different(*q) == 0);
                    }
                }
}

TEMPLATE_TEST_CASE("gptaq: without drift, or with none of it handed on, it is OPTQ, bit by bit", "[quantize][drift][gptaq]", float, double,
                   Eigen::half) {
    for (const auto order : every_order)
        for (const auto weights : {gptaq_weights::working, gptaq_weights::original}) {
            drifted_layer layer = drifted(90, 37, 52, 0.2, 21);
            kill(layer, {0, 17});
            const Eigen::Matrix<TestType, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> W = layer.W.cast<TestType>();
            const MatrixXd H = layer.H();
            const auto grids = magr::fit_grids(W, {.bits = 3, .group_size = 16});
            const auto optq = magr::quantize_optq(W, H, grids, {.order = order, .dead = magr::dead_columns::zero});
            const magr::round_options options{.order = order, .block_size = 128};
            const auto without =
                magr::round_onto_drift(grids, W, H, MatrixXd(MatrixXd::Zero(52, 52)), gptaq{.weights = weights}, {}, options);
            const auto kept = magr::round_onto_drift(grids, W, H, layer.C(), gptaq{.alpha = 0, .weights = weights}, {}, options);
            REQUIRE((without && kept));
            CHECK(without->codes == optq.quantized.codes);
            CHECK(kept->codes == optq.quantized.codes);
        }
}

TEST_CASE("gptaq: its target for original weights depends on the order alone", "[quantize][drift][gptaq]") {
    const drifted_layer layer = drifted(60, 6, 24, 0.3, 4);
    const gptaq method{.alpha = 1, .weights = gptaq_weights::original};
    const auto natural = magr::drift_target(layer.W, layer.H(), layer.C(), method);
    const auto twice = magr::drift_target(MatrixXd(2 * layer.W), layer.H(), layer.C(), method);
    const auto sorted = magr::drift_target(layer.W, layer.H(), layer.C(), method, column_order::act_order);
    REQUIRE((natural && twice && sorted));
    CHECK(as_eigen(*twice).isApprox(2 * as_eigen(*natural), 1e-12));
    CHECK_FALSE(as_eigen(*sorted).isApprox(as_eigen(*natural), 1e-3));
    CHECK(as_eigen(*natural).col(0) == layer.W.col(0));  // nothing is handed on to the first column
    CHECK(layer.loss(as_eigen(*natural)) < 0.9 * layer.loss(layer.W));
}

TEST_CASE("gptaq: refuses options outside of their ranges", "[quantize][drift][gptaq][errors]") {
    const drifted_layer layer = drifted(20, 3, 6, 0.2, 3);
    const auto grids = magr::fit_grids(layer.W, {.bits = 4});
    const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
    const auto refuse = [&](const gptaq& method) {
        CHECK_THROWS_AS(magr::round_onto_drift(grids, layer.W, layer.H(), layer.C(), method), magr::option_error);
        CHECK_THROWS_AS(magr::drift_target(layer.W, layer.H(), layer.C(), method), magr::option_error);
    };
    for (const double alpha : {-0.1, 1.1, nan}) refuse({.alpha = alpha});
    for (const double damping : {-1e-3, nan, infinity}) refuse({.damping = damping});
    refuse({.weights = static_cast<gptaq_weights>(2)});
    CHECK(magr::problems(gptaq{}).empty());
    CHECK(magr::problems(gptaq{.alpha = 2, .damping = -1}).size() == 2);
}
