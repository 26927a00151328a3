// SPDX-License-Identifier: MIT
#include <magr/drift/gpfq_drift.hpp>

#include <Eigen/Core>
#include <vector>

#include <magr/drift/qronos.hpp>
#include <magr/drift/round_onto_drift.hpp>
#include <magr/feedback/gpfq.hpp>
#include <magr/fit/fit_grid.hpp>

#include "drift/drifted_layers.hpp"
#include "support/catch.hpp"

using Eigen::MatrixXd;
using magr::column_order;
using magr::gpfq_drift;
using magr::index_t;
using namespace tests;

namespace {

/// GPFQ by its definition, with the inputs of all tokens.
void gpfq_by_tokens(const drifted_layer& layer, const std::vector<index_t>& order, textbook_grid& round) {
    for (index_t i = 0; i < layer.W.rows(); ++i) {
        long_vector u = long_vector::Zero(layer.X.rows());
        for (const index_t j : order) {
            const long_vector x = layer.X.col(j).cast<long double>(), y = layer.Y.col(j).cast<long double>();
            u += static_cast<long double>(layer.W(i, j)) * x;
            const long double energy = y.squaredNorm();
            u -= round(energy > 0 ? u.dot(y) / energy : 0.0L, i, j) * y;
        }
    }
}

}  // namespace

TEST_CASE("gpfq_drift: the codes of the definition by tokens", "[quantize][drift][gpfq][oracle]") {
    for (const auto order : every_order)
        for (const bool has_dead : {false, true}) {
            drifted_layer layer = drifted(70, 9, 130, 0.3, 3);  // fewer tokens than inputs, more than one block of columns
            if (has_dead) kill(layer, {0, 5, 129});
            const auto grids = magr::fit_grids(layer.W, {.bits = 3, .group_size = 8});
            textbook_grid round(grids);
            gpfq_by_tokens(layer, order_of(layer.H(), order, 8), round);
            const auto q =
                magr::round_onto_drift(grids, layer.W, layer.H(), layer.C(), gpfq_drift{}, {}, {.order = order, .block_size = 7});
            REQUIRE(q);
            CHECK(round.margin > 1e-9);  // no tie, so rounding errors do not decide
            CHECK(round.different(*q) == 0);
        }
}

TEMPLATE_TEST_CASE("gpfq_drift: without drift it is GPFQ, bit by bit", "[quantize][drift][gpfq]", float, double, Eigen::bfloat16) {
    for (const auto order : every_order) {
        const drifted_layer layer = drifted(90, 37, 52, 0, 21);
        const Eigen::Matrix<TestType, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> W = layer.W.cast<TestType>();
        const auto grids = magr::fit_grids(W, {.bits = 3, .group_size = 16});
        const auto gpfq = magr::round_onto(grids, W, layer.H(), magr::gpfq_feedback{}, {}, {.order = order});
        const auto q = magr::round_onto_drift(grids, W, layer.H(), layer.C(), gpfq_drift{}, {}, {.order = order});
        REQUIRE((gpfq && q));
        CHECK(q->codes == gpfq->codes);
    }
}

TEST_CASE("gpfq_drift: less error than GPFQ, more than Qronos", "[quantize][drift][gpfq]") {
    double gpfq = 0, aware = 0, qronos = 0;
    for (unsigned seed = 0; seed < 20; ++seed) {
        const drifted_layer layer = drifted(60, 6, 24, 0.2, 300 + 10 * seed);
        const MatrixXd H = layer.H(), C = layer.C();
        const auto grids = magr::fit_grids(layer.W, {.bits = 4});
        const auto loss = [&](const auto& q) { return layer.loss(as_eigen(q.value().dequantize())); };
        gpfq += loss(magr::round_onto(grids, layer.W, H, magr::gpfq_feedback{}));
        aware += loss(magr::round_onto_drift(grids, layer.W, H, C, gpfq_drift{}));
        qronos += loss(magr::round_onto_drift(grids, layer.W, H, C, magr::qronos{}));
    }
    CHECK(aware < 0.98 * gpfq);
    CHECK(qronos < 0.98 * aware);
}
