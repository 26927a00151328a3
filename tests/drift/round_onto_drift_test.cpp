// SPDX-License-Identifier: MIT
#include <magr/drift/round_onto_drift.hpp>

#include <Eigen/Core>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>

#include <magr/calibration/gram.hpp>
#include <magr/drift/drift.hpp>
#include <magr/drift/gpfq_drift.hpp>
#include <magr/drift/gptaq.hpp>
#include <magr/drift/qronos.hpp>
#include <magr/fit/fit_grid.hpp>
#include <magr/parallel/thread_pool.hpp>

#include "drift/drifted_layers.hpp"
#include "support/catch.hpp"

using Eigen::MatrixXd;
using magr::column_order;
using magr::gpfq_drift;
using magr::gptaq;
using magr::index_t;
using magr::qronos;
using magr::round_onto_drift;
using namespace tests;

namespace {

template <class F>
void for_each_method(const F& f) {
    f(gpfq_drift{});
    f(gptaq{});
    f(gptaq{.alpha = 1, .weights = magr::gptaq_weights::original});
    f(qronos{});
    f(qronos{.first_step = magr::qronos_first_step::projection});
}

/// Offsets alone, as a method of the user: column k is rounded from k + row / 4.
struct count_up {
    template <magr::compute_scalar Scalar>
    [[nodiscard]] std::optional<magr::drift_terms<Scalar>> make(const magr::detail::matrix_ref& W, const magr::hessian&,
                                                                const magr::detail::matrix_ref&, std::span<const index_t> order,
                                                                magr::executor_ref) const {
        const auto n = static_cast<index_t>(order.size());
        magr::drift_terms<Scalar> terms{{W.rows(), n}, {n - 1, W.rows()}, {n, n}};
        for (index_t k = 0; k < n; ++k) terms.feedback(k, k) = 1;
        for (index_t k = 0; k < n - 1; ++k)
            for (index_t i = 0; i < W.rows(); ++i) terms.offsets(k, i) = static_cast<Scalar>(k) + static_cast<Scalar>(i % 2) / 4;
        return terms;
    }
};

/// Throws when it has run a few loops.
struct failing_executor {
    [[nodiscard]] index_t concurrency() const { return 1; }
    template <class F>
    void parallel_for(index_t, const F&) const {
        throw std::runtime_error("stopped");
    }
};

}  // namespace

TEST_CASE("round_onto_drift: offsets of all rows and columns, the last columns without", "[quantize][drift]") {
    const index_t rows = 300, n = 9;  // more than one task of rows, more than one chunk in each
    const MatrixXd W = MatrixXd::Ones(rows, n), H = MatrixXd::Identity(n, n), C = MatrixXd::Zero(n, n);
    auto grids = magr::fit_grids(W, {.bits = 4});
    for (index_t i = 0; i < rows; ++i) grids.scales(i, 0) = 1, grids.zeros(i, 0) = 0;
    const auto q = round_onto_drift(grids, W, H, C, count_up{}, {}, {.block_size = 4});
    REQUIRE(q);
    index_t different = 0;
    for (index_t i = 0; i < rows; ++i)
        for (index_t k = 0; k < n; ++k) different += q->codes(i, k) != (k == n - 1 ? 0 : k);
    CHECK(different == 0);
}

TEST_CASE("round_onto_drift: accumulators and matrices, of any layout, give the same codes", "[quantize][drift]") {
    drifted_layer layer = drifted(60, 11, 24, 0.2, 3);
    kill(layer, {4});
    magr::gram_accumulator<double> gram(24);
    magr::drift_accumulator<double> drift(24);
    gram.add(layer.Y);
    drift.add(layer.X, layer.Y);
    const magr::hessian H(gram);
    const auto grids = magr::fit_grids(layer.W, {.bits = 4});
    const Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> W_by_rows = layer.W;
    const MatrixXd C_by_columns = as_eigen(drift.drift()), H_by_columns = as_eigen(gram.gram());
    for_each_method([&](const auto& method) {
        for (const auto order : every_order) {
            const auto expected = round_onto_drift(grids, layer.W, H, drift, method, {}, {.order = order});
            REQUIRE(expected);
            CHECK(round_onto_drift(grids, W_by_rows, H_by_columns, drift, method, {}, {.order = order})->codes == expected->codes);
            CHECK(round_onto_drift(grids, W_by_rows, H, C_by_columns, method, {}, {.order = order})->codes == expected->codes);
        }
    });
}

TEMPLATE_TEST_CASE("round_onto_drift: the same bits for every executor", "[quantize][drift]", float, double, Eigen::half) {
    const drifted_layer layer = drifted(150, 300, 110, 0.2, 3);  // more than one task of rows and of panels
    const Eigen::Matrix<TestType, Eigen::Dynamic, Eigen::Dynamic> W = layer.W.cast<TestType>();
    const Eigen::MatrixXf H = layer.H().cast<float>(), C = layer.C().cast<float>();
    const auto grids = magr::fit_grids(W, {.bits = 3, .group_size = 32});
    magr::thread_pool three(3);
    for_each_method([&](const auto& method) {
        const auto alone = round_onto_drift(grids, W, H, C, method, magr::stochastic_rounding{7});
        const auto together = round_onto_drift(grids, W, H, C, method, magr::stochastic_rounding{7}, {}, three);
        REQUIRE((alone && together));
        CHECK(alone->codes == together->codes);
        CHECK(magr::drift_target(W, H, C, method) == magr::drift_target(W, H, C, method, column_order::natural, {}, three));
    });
}

TEST_CASE("round_onto_drift: a common factor of H and C cancels, however large", "[quantize][drift]") {
    const drifted_layer layer = drifted(60, 7, 24, 0.2, 3);
    const auto grids = magr::fit_grids(layer.W, {.bits = 4});
    for_each_method([&](const auto& method) {
        const auto expected = round_onto_drift(grids, layer.W, layer.H(), layer.C(), method);
        REQUIRE(expected);
        for (const double factor : {0x1p-900, 0x1p-3, 0x1p900}) {
            const auto q = round_onto_drift(grids, layer.W, MatrixXd(factor * layer.H()), MatrixXd(factor * layer.C()), method);
            REQUIRE(q);
            CHECK(q->codes == expected->codes);
        }
    });
}

TEST_CASE("round_onto_drift: one row, one column, only dead inputs", "[quantize][drift][edge]") {
    for_each_method([&](const auto& method) {
        for (const index_t rows : {1, 3})
            for (const index_t n : {1, 5})
                for (const bool is_dead : {false, true}) {
                    drifted_layer layer = drifted(9, rows, n, 0.2, 3);
                    if (is_dead) layer.Y.setZero();
                    const auto grids = magr::fit_grids(layer.W, {.bits = 4});
                    const auto q = round_onto_drift(grids, layer.W, layer.H(), layer.C(), method);
                    REQUIRE(q);
                    if (is_dead) CHECK(as_eigen(q->dequantize()).isZero(0));
                    if (n == 1 && !is_dead) CHECK(layer.loss(as_eigen(q->dequantize())) < layer.loss(MatrixXd::Zero(rows, 1)));
                }
    });
}

TEST_CASE("round_onto_drift: inputs that are dead by the threshold of a hessian", "[quantize][drift][edge]") {
    drifted_layer layer = drifted(60, 7, 24, 0.2, 3);
    layer.Y.col(7) *= 1e-4;
    const MatrixXd matrix = layer.H();
    const magr::hessian H(matrix, 1e-3);
    REQUIRE(H.dead_inputs() == 1);
    const auto grids = magr::fit_grids(layer.W, {.bits = 4});
    drifted_layer gone = layer;
    gone.Y.col(7).setZero();
    MatrixXd C = layer.C();
    C.row(7) = gone.C().row(7);
    for_each_method([&](const auto& method) {
        const auto q = round_onto_drift(grids, layer.W, H, C, method);
        const auto expected = round_onto_drift(grids, layer.W, gone.H(), gone.C(), method);
        REQUIRE((q && expected));
        CHECK(q->codes == expected->codes);
    });
}

TEST_CASE("round_onto_drift: grids may be fitted to the target", "[quantize][drift]") {
    const drifted_layer layer = drifted(60, 7, 24, 0.5, 3);
    const auto target = magr::drift_target(layer.W, layer.H(), layer.C(), qronos{});
    REQUIRE(target);
    const auto grids = magr::fit_grids(*target, {.bits = 4});
    CHECK(grids.scales != magr::fit_grids(layer.W, {.bits = 4}).scales);
    const auto q = round_onto_drift(grids, layer.W, layer.H(), layer.C(), qronos{});
    REQUIRE(q);
    CHECK(q->scales == grids.scales);
    CHECK(layer.loss(as_eigen(q->dequantize())) < layer.loss(layer.W));
}

TEST_CASE("round_onto_drift: numbers that overflow give nothing", "[quantize][drift][edge]") {
    const drifted_layer layer = drifted(60, 7, 24, 0.2, 3);
    const auto grids = magr::fit_grids(layer.W, {.bits = 4});
    const Eigen::MatrixXf narrow = layer.W.cast<float>();
    const auto narrow_grids = magr::fit_grids(narrow, {.bits = 4});
    for_each_method([&](const auto& method) {
        const MatrixXd huge = 1e305 * layer.C(), large = 1e45 * layer.C();
        CHECK_FALSE(round_onto_drift(grids, layer.W, MatrixXd(1e-10 * layer.H()), huge, method));
        CHECK_FALSE(magr::drift_target(layer.W, MatrixXd(1e-10 * layer.H()), huge, qronos{}));
        CHECK_FALSE(round_onto_drift(narrow_grids, narrow, layer.H(), large, method));
    });
}

TEST_CASE("round_onto_drift: refuses what does not fit", "[quantize][drift][errors]") {
    const drifted_layer layer = drifted(20, 3, 6, 0.2, 3);
    const MatrixXd H = layer.H(), C = layer.C();
    const auto grids = magr::fit_grids(layer.W, {.bits = 4});
    const auto target = [](const auto& W, const auto& H_, const auto& C_) { return magr::drift_target(W, H_, C_, qronos{}); };
    const auto refused = [&](const auto& W, const auto& H_, const auto& C_, const std::string& message, auto kind) {
        using error = decltype(kind);
        CHECK_THROWS_MATCHES(round_onto_drift(grids, W, H_, C_, qronos{}), error, Catch::Matchers::Message("round_onto_drift: " + message));
        CHECK_THROWS_MATCHES(target(W, H_, C_), error, Catch::Matchers::Message("drift_target: " + message));
    };
    refused(layer.W, H, MatrixXd(C.leftCols(5)), "C must be 6 x 6, it is 6 x 5", magr::shape_error(""));
    refused(layer.W, H, MatrixXd(MatrixXd::Zero(7, 7)), "C must be 6 x 6, it is 7 x 7", magr::shape_error(""));
    for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
        MatrixXd broken = C;
        broken(2, 4) = bad;
        const char* const message =
            bad > 0 ? "C must be finite, entry (row 2, column 4) is inf" : "C must be finite, entry (row 2, column 4) is nan";
        refused(layer.W, H, broken, message, magr::value_error(""));
        MatrixXd weights = layer.W;
        weights(1, 5) = bad;
        CHECK_THROWS_AS(target(weights, H, C), magr::value_error);
        CHECK_THROWS_AS(round_onto_drift(grids, weights, H, C, qronos{}), magr::value_error);
    }
    CHECK_THROWS_AS(target(layer.W, MatrixXd(H.topRows(5)), C), magr::shape_error);
    CHECK_THROWS_AS(target(layer.W, MatrixXd(-H), C), magr::value_error);
    CHECK_THROWS_AS(round_onto_drift(magr::fit_grids(MatrixXd(layer.W.topRows(2)), {.bits = 4}), layer.W, H, C, qronos{}),
                    magr::shape_error);
    CHECK_THROWS_AS(round_onto_drift(grids, layer.W, H, C, qronos{}, {}, {.order = static_cast<column_order>(9)}), magr::option_error);
    CHECK_THROWS_AS(round_onto_drift(grids, layer.W, H, C, qronos{}, {}, {.block_size = 0}), magr::option_error);
    CHECK_THROWS_AS(magr::drift_target(layer.W, H, C, qronos{}, static_cast<column_order>(9)), magr::option_error);
    CHECK_THROWS_AS(magr::drift_target(layer.W, H, C, qronos{}, column_order::natural, 0), magr::option_error);
}

TEST_CASE("round_onto_drift: C and H are of the same tokens", "[quantize][drift][errors]") {
    const drifted_layer layer = drifted(20, 3, 6, 0.2, 3);
    const auto grids = magr::fit_grids(layer.W, {.bits = 4});
    magr::gram_accumulator<double> gram(6);
    gram.add(layer.Y);
    const magr::hessian H(gram);
    magr::drift_accumulator<float> drift(6);
    const auto refuse = [&](const auto& H_, const std::string& message) {
        CHECK_THROWS_MATCHES(round_onto_drift(grids, layer.W, H_, drift, qronos{}), magr::value_error,
                             Catch::Matchers::Message("round_onto_drift: " + message));
        CHECK_THROWS_MATCHES(magr::drift_target(layer.W, H_, drift, qronos{}), magr::value_error,
                             Catch::Matchers::Message("drift_target: " + message));
    };
    refuse(layer.H(), "C must be of at least 1 token, its accumulator has seen none");
    drift.add(layer.X.topRows(19), layer.Y.topRows(19));
    refuse(H, "C must be of the same tokens as H, it is of 19 and H of 20");
    CHECK(round_onto_drift(grids, layer.W, layer.H(), drift, qronos{}));  // a matrix does not tell
    drift.add(layer.X.bottomRows(1), layer.Y.bottomRows(1));
    CHECK(round_onto_drift(grids, layer.W, H, drift, qronos{}));
    CHECK_THROWS_AS(drift.add(layer.X, layer.Y, failing_executor{}), std::runtime_error);
    CHECK_THROWS_AS(round_onto_drift(grids, layer.W, H, drift, qronos{}), magr::value_error);
    const magr::drift_accumulator<double> narrow(MatrixXd::Zero(5, 5).eval(), 20);
    CHECK_THROWS_AS(round_onto_drift(grids, layer.W, H, narrow, qronos{}), magr::shape_error);
}
