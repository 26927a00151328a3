// SPDX-License-Identifier: MIT
#include <magr/quantize_quip.hpp>

#include <Eigen/Core>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include <magr/calibration/output_error.hpp>
#include <magr/error.hpp>
#include <magr/fit/quip_grids.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/pack.hpp>
#include <magr/parallel/thread_pool.hpp>
#include <magr/preprocess.hpp>
#include <magr/quantize/optq.hpp>
#include <magr/quantize/rtn.hpp>
#include <magr/refine/refine_codes.hpp>
#include <magr/validate.hpp>

#include "support/catch.hpp"
#include "support/random_matrix.hpp"

using Eigen::MatrixXd;
using Eigen::MatrixXf;
using magr::index_t;
using magr::quantization_status;
using magr::quantize_quip;
using magr::quip_options;
using magr::rotation_kind;
using tests::random_matrix;

namespace {

struct weights_and_gram {
    MatrixXd W, H;
};

/// A few large weights and inputs among many small ones, and correlated inputs.
weights_and_gram spiked_layer(index_t rows, index_t cols, unsigned seed) {
    MatrixXd W = random_matrix(rows, cols, seed), X = random_matrix(3 * cols, cols, seed + 1);
    for (index_t j = 1; j < cols; ++j) X.col(j) += 0.8 * X.col(j - 1);
    X.col(cols / 3) *= 20;
    for (index_t i = 0; i < rows; i += 3) W(i, (7 * i) % cols) *= 15;
    return {W, X.transpose() * X};
}

template <class T>
MatrixXd to_eigen(const magr::matrix<T>& m) {
    MatrixXd out(m.rows(), m.cols());
    for (index_t i = 0; i < m.rows(); ++i)
        for (index_t j = 0; j < m.cols(); ++j) out(i, j) = static_cast<double>(m(i, j));
    return out;
}

constexpr rotation_kind kinds[] = {rotation_kind::orthogonal, rotation_kind::hadamard};

}  // namespace

TEST_CASE("quantize_quip: is its steps, one after another", "[quip][property]") {
    const auto [W, H] = spiked_layer(20, 36, 1);
    for (const auto kind : kinds)
        for (const bool clamp : {true, false}) {
            const quip_options options{.bits = 3, .incoherence = {.kind = kind, .seed = 5}, .clamp = clamp, .greedy_passes = 3};
            const auto result = quantize_quip(W, H, options);
            REQUIRE(result);
            const auto transform = magr::fit_incoherence(W, H, options.incoherence);
            MatrixXd w = W, h = H;
            transform.weights(magr::as_view(w));
            transform.gram(magr::as_view(h));
            const auto grids = magr::quip_grids(w, 3);
            const double end = grids.scales(0, 0) * 3.5;
            if (clamp) w = w.cwiseMin(end).cwiseMax(-end);
            auto expected = magr::quantize_optq(w, h, grids);
            const auto greedy = magr::refine_codes(expected.quantized, w, h, {.max_passes = 3, .damping = 0});
            CAPTURE(to_string(kind), clamp);
            CHECK(result.quantized.quantized.codes == expected.quantized.codes);
            CHECK(result.quantized.quantized.scales == grids.scales);
            CHECK(result.quantized.recipe == transform.recipe());
            CHECK(*result.loss == Approx(*expected.loss).epsilon(1e-9));
            CHECK(result.greedy.changes == greedy.changes);
            CHECK(result.greedy.loss_after <= result.greedy.loss_before);
            CHECK(result.status == quantization_status::as_requested);
            CHECK(result.output_error == Approx(magr::output_error(W, result.weights, H)).epsilon(1e-12));
        }
}

TEST_CASE("quantize_quip: the weights are those of the codes, and those of an engine that rotates", "[quip][property]") {
    const auto [W, H] = spiked_layer(12, 40, 2);
    for (const auto kind : kinds) {
        const auto result = quantize_quip(W, H, {.bits = 4, .incoherence = {.kind = kind, .seed = 9}});
        CHECK(magr::dequantize(result.quantized) == result.weights);
        const magr::incoherence transform(result.quantized.recipe);
        const MatrixXd rotated = to_eigen(result.quantized.quantized.dequantize()), Q = to_eigen(result.weights);
        const Eigen::VectorXd token = random_matrix(40, 1, 3);
        Eigen::VectorXd x = token;
        transform.input(std::span<double>(x.data(), 40));
        Eigen::VectorXd y = rotated * x;
        transform.output(std::span<double>(y.data(), 12));
        CHECK((y - Q * token).norm() <= 1e-12 * y.norm());
        CHECK((Q - W).norm() < 0.3 * W.norm());
    }
}

TEST_CASE("quantize_quip: beats OPTQ on weights and inputs with outliers", "[quip][property]") {
    const auto [W, H] = spiked_layer(48, 64, 4);
    const double optq = magr::quantize_optq(W, H, {.bits = 2}).output_error.value();
    for (const auto kind : kinds) {
        const double plain = quantize_quip(W, H, {.incoherence = {.kind = kind}}).output_error.value();
        const double greedy = quantize_quip(W, H, {.incoherence = {.kind = kind}, .greedy_passes = 5}).output_error.value();
        CAPTURE(to_string(kind), optq, plain, greedy);
        CHECK(plain < 0.7 * optq);
        CHECK(greedy < plain);
    }
}

TEST_CASE("quantize_quip: composes with MagR", "[quip][magr]") {
    const auto [W, H] = spiked_layer(24, 32, 6);
    MatrixXd smooth = W;
    REQUIRE(magr::preprocess(smooth, H, {.alpha = 1e-3}).stopped != magr::stop_reason::not_factored);
    const auto result = quantize_quip(smooth, H, {.bits = 3});
    REQUIRE(result);
    CHECK(magr::output_error(W, result.weights, H) < 0.1);
    CHECK(result.output_error == Approx(magr::output_error(smooth, result.weights, H)).epsilon(1e-12));
}

TEST_CASE("quantize_quip: float, 16-bit weights, a hessian and any layout", "[quip]") {
    const auto [W, H] = spiked_layer(10, 24, 7);
    const magr::hessian shared(H);
    const auto in_double = quantize_quip(W, H, {.bits = 4});
    const MatrixXf w = W.cast<float>();
    const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> by_rows = w;
    const auto in_float = quantize_quip(w, shared, {.bits = 4});
    CHECK(in_float.output_error.value() == Approx(in_double.output_error.value()).epsilon(0.1));
    CHECK(quantize_quip(by_rows, H, {.bits = 4}).weights == in_float.weights);
    CHECK(quantize_quip(W, shared, {.bits = 4}).weights == in_double.weights);
    const Eigen::Matrix<Eigen::half, Eigen::Dynamic, Eigen::Dynamic> half = W.cast<Eigen::half>();
    CHECK(quantize_quip(half, H, {.bits = 4}).weights == quantize_quip(MatrixXf(half.cast<float>()), H, {.bits = 4}).weights);
}

TEST_CASE("quantize_quip: layers with the same inputs share the rotated H if they are not scaled", "[quip]") {
    const auto [W, H] = spiked_layer(10, 24, 7);
    const MatrixXd other = random_matrix(6, 24, 8);
    const magr::hessian shared(H);
    const quip_options options{.bits = 3, .incoherence = {.seed = 1, .rescale = false}};
    const auto first = quantize_quip(W, shared, options);
    const index_t made = shared.made();
    const auto second = quantize_quip(other, shared, options);
    CHECK(shared.made() == made);
    CHECK(second.weights == quantize_quip(other, H, options).weights);
    CHECK(first.weights == quantize_quip(W, H, options).weights);
    quip_options seed = options;
    seed.incoherence.seed = std::uint64_t{1} << 32 | 1;
    CHECK(quantize_quip(other, shared, seed).weights == quantize_quip(other, H, seed).weights);
    CHECK(quantize_quip(other, shared, seed).weights != second.weights);
}

TEST_CASE("quantize_quip: the same bits for every number of workers", "[quip]") {
    const auto [W, H] = spiked_layer(70, 86, 9);
    magr::thread_pool pool(3);
    for (const auto kind : kinds) {
        const quip_options options{.bits = 2, .incoherence = {.kind = kind}, .greedy_passes = 2};
        const auto alone = quantize_quip(W, H, options), shared = quantize_quip(W, H, options, pool);
        CHECK(alone.weights == shared.weights);
        CHECK(alone.quantized.quantized.codes == shared.quantized.quantized.codes);
        CHECK(alone.loss == shared.loss);
        CHECK(alone.output_error == shared.output_error);
        CHECK(alone.greedy.loss_after == shared.greedy.loss_after);
    }
}

TEST_CASE("quantize_quip: dead inputs", "[quip][dead]") {
    auto [W, H] = spiked_layer(10, 24, 11);
    for (const index_t j : {2, 13}) {
        H.row(j).setZero();
        H.col(j).setZero();
    }
    const auto before = quantize_quip(W, H, {.bits = 3});
    W.col(2).array() += 50;
    W.col(13).setConstant(std::numeric_limits<double>::max());
    const auto after = quantize_quip(W, H, {.bits = 3});
    CHECK(before.dead_inputs == 2);
    CHECK(before.weights == after.weights);
    W.col(13).setConstant(30);
    const auto widened = quantize_quip(W, H, {.bits = 3, .optq = {.dead = magr::dead_columns::round}});
    CHECK(widened.quantized.quantized.scales(0, 0) > 2 * after.quantized.quantized.scales(0, 0));
    const auto refused = quantize_quip(W, H, {.optq = {.dead = magr::dead_columns::refuse}});
    CHECK(refused.status == quantization_status::dead_columns_refused);
    CHECK(!refused);
    // dead by a threshold
    MatrixXd weak = H;
    weak(2, 2) = 1e-9;
    CHECK(quantize_quip(W, weak, {.optq = {.dead = magr::dead_columns::zero, .dead_threshold = 1e-6}}).dead_inputs == 2);
    // all inputs dead
    const auto none = quantize_quip(W, MatrixXd(MatrixXd::Zero(24, 24)), {.bits = 3});
    REQUIRE(none);
    CHECK(none.dead_inputs == 24);
    CHECK(none.output_error == 0);
}

TEST_CASE("quantize_quip: small layers, and H of low rank", "[quip]") {
    for (const auto& [rows, cols] : std::vector<std::pair<index_t, index_t>>{{1, 1}, {1, 8}, {8, 1}, {2, 2}, {3, 7}}) {
        const MatrixXd W = random_matrix(rows, cols, 12), x = random_matrix(1, cols, 13), H = x.transpose() * x;
        for (const auto kind : kinds) {
            if (kind == rotation_kind::hadamard && (rows == 3 || cols == 7)) continue;
            const auto result = quantize_quip(W, H, {.bits = 8, .incoherence = {.kind = kind}, .greedy_passes = 1});
            CAPTURE(rows, cols, to_string(kind));
            REQUIRE(result);
            CHECK(result.output_error.value() < 0.05);
        }
    }
    const auto zero = quantize_quip(MatrixXd(MatrixXd::Zero(4, 6)), MatrixXd(MatrixXd::Identity(6, 6)));
    CHECK(to_eigen(zero.weights).cwiseAbs().maxCoeff() < 1e-15);
}

TEST_CASE("quantize_quip: weights and H of any size, or a status that says so", "[quip]") {
    const auto [W, H] = spiked_layer(6, 12, 14);
    const auto usual = quantize_quip(W, H, {.bits = 3});
    CHECK(quantize_quip(MatrixXd(W * 0x1p300), MatrixXd(H * 0x1p-300), {.bits = 3}).quantized.quantized.codes ==
          usual.quantized.quantized.codes);
    const double largest = std::numeric_limits<double>::max();
    const auto beyond = quantize_quip(MatrixXd(MatrixXd::Constant(6, 12, largest)), H);
    CHECK(beyond.status == quantization_status::overflowed);
    CHECK(!beyond);
    CHECK(beyond.weights.empty());
    const auto wide = quantize_quip(W, MatrixXd(MatrixXd::Constant(12, 12, largest)));
    CHECK(wide.status == quantization_status::overflowed);
}

TEST_CASE("quantize_quip: H that cannot be factored is reported", "[quip]") {
    const MatrixXd W = random_matrix(4, 6, 1), x = random_matrix(1, 6, 2), H = x.transpose() * x;
    const auto failed = quantize_quip(W, H, {.optq = {.damping = 0, .on_failure = magr::factor_fallback::none}});
    CHECK(failed.status == quantization_status::failed);
    CHECK(!failed);
    CHECK(failed.weights.empty());
    CHECK(quantize_quip(W, H, {.optq = {.damping = 0}}).status == quantization_status::damped_more);
}

TEST_CASE("quantize_quip: bad options and arguments are refused", "[quip]") {
    const auto [W, H] = spiked_layer(6, 12, 14);
    CHECK_THROWS_WITH(quantize_quip(W, H, {.bits = 1, .greedy_passes = -1}),
                      "quip_options: bits must be in 2..8, it is 1; quip_options: greedy_passes must be at least 0, it is -1");
    CHECK_THROWS_AS(quantize_quip(W, H, {.bits = 9}), magr::option_error);
    CHECK_THROWS_AS(quantize_quip(W, H, {.incoherence = {.kind = static_cast<rotation_kind>(9)}}), magr::option_error);
    CHECK_THROWS_AS(quantize_quip(W, H, {.greedy_passes = 1, .optq = {.rounding = magr::rounding_mode::stochastic}}), magr::option_error);
    CHECK_THROWS_AS(quantize_quip(W, H, {.optq = {.groups = magr::group_update::live}}), magr::option_error);
    CHECK_THROWS_AS(quantize_quip(W, H, {.optq = {.damping = -1}}), magr::option_error);
    CHECK_THROWS_AS(quantize_quip(MatrixXd(W.topRows(5)), H, {.incoherence = {.kind = rotation_kind::hadamard}}), magr::option_error);
    CHECK_THROWS_AS(quantize_quip(MatrixXd(W.leftCols(5)), H), magr::shape_error);
    MatrixXd broken = W;
    broken(0, 1) = std::numeric_limits<double>::quiet_NaN();
    CHECK_THROWS_AS(quantize_quip(broken, H), magr::value_error);
}

TEST_CASE("packers refuse the zero point of QuIP's grid, where the format cannot hold it", "[quip][pack]") {
    const auto [W, H] = spiked_layer(32, 64, 15);
    auto q = quantize_quip(MatrixXf(W.cast<float>()), H, {.bits = 4}).quantized.quantized;
    q.storage = magr::storage_type::f16;  // so that nothing but the zero point stands in the way
    for (index_t i = 0; i < 32; ++i) q.scales(i, 0) = 0.25F;
    const std::string reason = "zero_point must be";
    using Catch::Matchers::Contains;
    CHECK_THROWS_WITH(magr::pack_gptq(q, magr::gptq_version::v2), Contains(reason));
    CHECK_THROWS_WITH(magr::pack_awq(q), Contains(reason));
    CHECK_THROWS_WITH(magr::pack_compressed_tensors(q), Contains(reason));
    CHECK_THROWS_WITH(magr::pack_mlx(q), Contains(reason));
    CHECK_THROWS_WITH(magr::pack_gguf(q, magr::ggml_type::q4_0), Contains(reason));
}
