// SPDX-License-Identifier: MIT
#include <magr/transform/fuse_scaling.hpp>

#include <Eigen/Core>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "support/catch.hpp"
#include "support/names.hpp"
#include "support/random_matrix.hpp"

using Eigen::MatrixXd;
using Eigen::VectorXd;
using magr::column_scaling;
using magr::index_t;
using tests::random_matrix;

namespace {

std::span<double> span_of(VectorXd& v) { return {v.data(), static_cast<std::size_t>(v.size())}; }

column_scaling some_scaling(index_t inputs, unsigned seed) {
    const MatrixXd logs = random_matrix(inputs, 1, seed);
    std::vector<double> s;
    for (index_t j = 0; j < inputs; ++j) s.push_back(std::exp2(logs(j)));
    return column_scaling(s);
}

VectorXd normed(const VectorXd& x, const VectorXd& gain, const VectorXd& bias) {
    const VectorXd centred = x.array() - x.mean();
    return (centred / centred.norm()).cwiseProduct(gain) + bias;
}

VectorXd relu(const VectorXd& z) { return z.cwiseMax(0); }
VectorXd silu(const VectorXd& z) { return z.array() / (1 + (-z.array()).exp()); }

void check_close(const VectorXd& actual, const VectorXd& expected) { CHECK((actual - expected).norm() <= 1e-13 * expected.norm()); }

}  // namespace

TEST_CASE("divide_norm: the layers behind a norm keep their outputs", "[transform][fuse]") {
    const VectorXd x = random_matrix(5, 1, 1), bias = random_matrix(5, 1, 3);
    const MatrixXd Q = random_matrix(4, 5, 4), K = random_matrix(3, 5, 5);
    const column_scaling scaling = some_scaling(5, 6);
    for (const auto stored : {magr::norm_gain::plain, magr::norm_gain::one_plus}) {
        const double shift = stored == magr::norm_gain::one_plus ? 1 : 0;
        const VectorXd gain = random_matrix(5, 1, 2);
        VectorXd fused_gain = gain, fused_bias = bias;
        MatrixXd q = Q, k = K;
        scaling.weights(magr::as_view(q));
        scaling.weights(magr::as_view(k));
        magr::divide_norm(span_of(fused_gain), span_of(fused_bias), scaling, stored);
        const VectorXd before = normed(x, gain.array() + shift, bias), after = normed(x, fused_gain.array() + shift, fused_bias);
        check_close(q * after, Q * before);
        check_close(k * after, K * before);
        VectorXd without_bias = gain;
        magr::divide_norm(span_of(without_bias), std::span<double>(), scaling, stored);
        CHECK(without_bias == fused_gain);
    }
}

TEST_CASE("divide_outputs: a layer before keeps the outputs of the next, also with ReLU between them", "[transform][fuse]") {
    const VectorXd x = random_matrix(6, 1, 1), bias = random_matrix(5, 1, 2);
    const MatrixXd first = random_matrix(5, 6, 3), second = random_matrix(4, 5, 4);
    const column_scaling scaling = some_scaling(5, 5);
    MatrixXd fused_first = first, fused_second = second;
    VectorXd fused_bias = bias;
    scaling.weights(magr::as_view(fused_second));
    magr::divide_outputs(fused_first, span_of(fused_bias), scaling);
    check_close(fused_second * (fused_first * x + fused_bias), second * (first * x + bias));
    check_close(fused_second * relu(fused_first * x + fused_bias), second * relu(first * x + bias));
}

TEST_CASE("divide_outputs: the up layer of a gated MLP takes the scales of down", "[transform][fuse]") {
    const VectorXd x = random_matrix(6, 1, 1);
    const MatrixXd gate = random_matrix(7, 6, 2), up = random_matrix(7, 6, 3), down = random_matrix(6, 7, 4);
    const column_scaling scaling = some_scaling(7, 5);
    Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> fused_up = up;
    MatrixXd fused_down = down;
    scaling.weights(magr::as_view(fused_down));
    magr::divide_outputs(fused_up, scaling);
    const VectorXd before = silu(gate * x).cwiseProduct(up * x), after = silu(gate * x).cwiseProduct(fused_up * x);
    check_close(fused_down * after, down * before);
}

TEST_CASE("shared_scaling: attention with grouped queries keeps its output", "[transform][fuse]") {
    const index_t heads = 4, value_heads = 2, channels = 3, tokens = 5, width = 6;
    const MatrixXd X = random_matrix(tokens, width, 1), V = random_matrix(value_heads * channels, width, 2);
    const MatrixXd O = random_matrix(width, heads * channels, 3);
    const VectorXd bias = random_matrix(value_heads * channels, 1, 4);
    const MatrixXd attention = random_matrix(heads, tokens, 5).array().exp();
    const auto output = [&](const MatrixXd& v, const VectorXd& b, const MatrixXd& o) {
        const MatrixXd values = (X * v.transpose()).rowwise() + b.transpose();
        VectorXd mixed(heads * channels);
        for (index_t h = 0; h < heads; ++h)
            mixed.segment(h * channels, channels) =
                (attention.row(h) * values.middleCols(h / (heads / value_heads) * channels, channels)).transpose();
        return VectorXd(o * mixed);
    };
    const std::vector<index_t> tie = magr::shared_value_channels(heads * channels, heads, value_heads);
    CHECK(tie == std::vector<index_t>{0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5});
    const column_scaling of_values = some_scaling(value_heads * channels, 6);
    std::vector<double> s;
    for (const index_t v : tie) s.push_back(of_values.scales()[static_cast<std::size_t>(v)]);
    const column_scaling scaling(s);
    const column_scaling shared = magr::shared_scaling(scaling, tie);
    REQUIRE(shared.inputs() == value_heads * channels);
    MatrixXd v = V, o = O;
    VectorXd b = bias;
    scaling.weights(magr::as_view(o));
    magr::divide_outputs(v, span_of(b), shared);
    check_close(output(v, b, o), output(V, bias, O));

    const std::vector<index_t> alone = magr::shared_value_channels(6, 2, 2);
    CHECK(alone == std::vector<index_t>{0, 1, 2, 3, 4, 5});
    const std::vector<index_t> gap{1, 1};
    CHECK(magr::shared_scaling(column_scaling({4, 4}), gap).scales()[0] == 1);
}

TEST_CASE("divide_norm and divide_outputs: 16-bit numbers are rounded once", "[transform][fuse]") {
    const MatrixXd W = random_matrix(4, 3, 1);
    const Eigen::Matrix<Eigen::half, Eigen::Dynamic, Eigen::Dynamic> before = W.cast<Eigen::half>();
    Eigen::Matrix<Eigen::half, Eigen::Dynamic, Eigen::Dynamic> after = before;
    const column_scaling scaling({3, 0.7, 1, 11});
    magr::divide_outputs(after, scaling);
    for (index_t i = 0; i < 4; ++i)
        for (index_t j = 0; j < 3; ++j)
            CHECK(after(i, j) ==
                  static_cast<Eigen::half>(static_cast<double>(before(i, j)) / scaling.scales()[static_cast<std::size_t>(i)]));
    std::vector<float> gain{-0.0f, 2};
    magr::divide_norm(std::span<float>(gain), std::span<float>(), column_scaling({1, 4}));
    CHECK(std::signbit(gain[0]));
    CHECK(gain[1] == 0.5f);
}

TEST_CASE("divide_norm and divide_outputs: what is refused is not written", "[transform][fuse]") {
    const column_scaling scaling({2, 0.25}), tiny({1, 1e-200});
    VectorXd gain = random_matrix(2, 1, 1), bias = random_matrix(2, 1, 2), longer = random_matrix(3, 1, 3);
    const VectorXd gain_before = gain, bias_before = bias;
    CHECK_THROWS_AS(magr::divide_norm(span_of(longer), std::span<double>(), scaling), magr::shape_error);
    CHECK_THROWS_AS(magr::divide_norm(span_of(gain), span_of(longer), scaling), magr::shape_error);
    CHECK_THROWS_AS(magr::divide_norm(span_of(gain), span_of(bias), scaling, static_cast<magr::norm_gain>(7)), magr::option_error);
    for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(), 1e200}) {
        bias(1) = bad;
        CHECK_THROWS_AS(magr::divide_norm(span_of(gain), span_of(bias), tiny), magr::value_error);
        CHECK(gain == gain_before);
    }
    bias = bias_before;

    MatrixXd W = random_matrix(2, 4, 4), wrong = random_matrix(4, 2, 5);
    const MatrixXd W_before = W;
    CHECK_THROWS_AS(magr::divide_outputs(wrong, scaling), magr::shape_error);
    CHECK_THROWS_AS(magr::divide_outputs(W, span_of(longer), scaling), magr::shape_error);
    bias(0) = std::numeric_limits<double>::quiet_NaN();
    CHECK_THROWS_AS(magr::divide_outputs(W, span_of(bias), scaling), magr::value_error);
    CHECK(W == W_before);
    Eigen::Matrix<Eigen::half, 2, 1> half;
    half << Eigen::half(1), Eigen::half(60000);
    CHECK_THROWS_AS(magr::divide_outputs(half, scaling), magr::value_error);
    CHECK(half(0) == Eigen::half(1));
}

TEST_CASE("shared_value_channels and shared_scaling: bad arguments are refused", "[transform][fuse]") {
    CHECK_THROWS_AS(magr::shared_value_channels(12, 4, 3), magr::option_error);
    CHECK_THROWS_AS(magr::shared_value_channels(12, 4, 0), magr::option_error);
    CHECK_THROWS_AS(magr::shared_value_channels(12, 0, 1), magr::option_error);
    CHECK_THROWS_AS(magr::shared_value_channels(13, 4, 2), magr::option_error);
    CHECK_THROWS_AS(magr::shared_value_channels(0, 4, 2), magr::option_error);
    const column_scaling scaling({2, 3});
    const std::vector<index_t> apart{0, 0}, outside{0, 2}, negative{-1, 0}, brief{0};
    CHECK_THROWS_AS(magr::shared_scaling(scaling, apart), magr::value_error);
    CHECK_THROWS_AS(magr::shared_scaling(scaling, outside), magr::value_error);
    CHECK_THROWS_AS(magr::shared_scaling(scaling, negative), magr::value_error);
    CHECK_THROWS_AS(magr::shared_scaling(scaling, brief), magr::shape_error);
}

TEST_CASE("norm_gain: names", "[transform][fuse]") { check_names<magr::norm_gain>({"plain", "one_plus"}); }
