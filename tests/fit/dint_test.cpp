// SPDX-License-Identifier: MIT
#include <magr/fit/dint.hpp>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include <magr/calibration/output_error.hpp>
#include <magr/feedback/gpfq.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/parallel/thread_pool.hpp>
#include <magr/quantize/round_onto.hpp>
#include <magr/quantize/rtn.hpp>

#include "quantize/layers.hpp"
#include "support/catch.hpp"
#include "support/random_matrix.hpp"

using Eigen::MatrixXd;
using Eigen::MatrixXf;
using magr::dint_map;
using magr::dint_options;
using magr::fit_dint_grids;
using magr::index_t;
using magr::round_onto;

namespace {

template <class Scalar>
std::uint8_t code_of(const dint_map<Scalar>& map, Scalar weight) {
    return map.code(magr::detail::steps_on_grid(map, weight, 0, 0));
}

template <class Scalar>
Scalar rounded(const dint_map<Scalar>& map, Scalar weight) {
    return map.weight(magr::detail::steps_on_grid(map, weight, 0, 0));
}

/// All weights of the grid in units of its scale, by the definition, in the order of preference in ties: even integers, odd ones, halves.
std::vector<double> table(int bits, int zero) {
    std::vector<double> levels;
    const int p = (1 << bits) - 3;
    for (const int odd : {0, 1})
        for (int c = 0; c <= p; ++c)
            if (std::abs(c - zero) % 2 == odd) levels.push_back(c - zero);
    levels.insert(levels.end(), {0.5, -0.5});
    return levels;
}

/// Grids of scale 1 and this zero point.
magr::dint_grids<double> unit_grids(index_t rows, index_t cols, int bits, std::uint8_t zero) {
    magr::dint_grids<double> grids{bits, magr::storage_type::native, cols, cols, {rows, 1}, {rows, 1}};
    for (index_t i = 0; i < rows; ++i) {
        grids.scales(i, 0) = 1;
        grids.zeros(i, 0) = zero;
    }
    return grids;
}

}  // namespace

TEST_CASE("dint_map: rounds the worked example", "[grid][dint]") {
    const dint_map<double> map(4, 1.0, 7);
    const std::pair<double, double> examples[] = {{0.2, 0}, {0.3, 0.5}, {0.7, 0.5}, {0.76, 1},  {-0.26, -0.5}, {-0.6, -0.5}, {-0.8, -1},
                                                  {6.4, 6}, {9, 6},     {-9, -7},   {0.25, 0},  {-0.25, 0},    {0.75, 1},    {-0.75, -1},
                                                  {1.5, 2}, {2.5, 2},   {3.5, 4},   {-1.5, -2}, {-2.5, -2}};
    for (const auto& [weight, expected] : examples) {
        CAPTURE(weight);
        CHECK(rounded(map, weight) == expected);
        CHECK(map.weight_of_code(code_of(map, weight)) == expected);
    }
    CHECK(code_of(map, 0.5) == 14);
    CHECK(code_of(map, -0.5) == 15);
    CHECK(code_of(map, 0.0) == 7);
    CHECK(code_of(map, -9.0) == 0);
    CHECK(code_of(map, 9.0) == 13);
}

TEST_CASE("dint_map: codes, ranks and weights agree at every zero point", "[grid][dint][property]") {
    for (int bits = 2; bits <= 8; ++bits)
        for (int zero = 0; zero <= magr::dint_largest_integer(bits); ++zero) {
            const dint_map<float> map(bits, 0.25f, static_cast<std::uint8_t>(zero));
            CAPTURE(bits, zero);
            CHECK(map.highest() - map.lowest() == static_cast<float>((1 << bits) - 1));
            std::vector<int> seen;
            float before = -std::numeric_limits<float>::infinity();
            for (float rank = map.lowest(); rank <= map.highest(); ++rank) {
                const float weight = map.weight(rank);
                CHECK(weight > before);
                CHECK(map.steps(weight) == rank);
                CHECK(map.weight_of_code(map.code(rank)) == weight);
                seen.push_back(map.code(rank));
                before = weight;
            }
            std::sort(seen.begin(), seen.end());
            for (int c = 0; c < 1 << bits; ++c) CHECK(seen[static_cast<std::size_t>(c)] == c);
        }
}

TEST_CASE("dint_map: takes the nearest weight of the table, ties as promised", "[grid][dint][oracle]") {
    std::mt19937 random(3);
    std::uniform_real_distribution<double> uniform(-20, 20);
    for (const int bits : {2, 3, 4, 5})
        for (int zero = 0; zero <= magr::dint_largest_integer(bits); ++zero) {
            const dint_map<double> map(bits, 1.0, static_cast<std::uint8_t>(zero));
            const std::vector<double> levels = table(bits, zero);
            for (int trial = 0; trial < 400; ++trial) {
                const double weight = trial < 320 ? (trial - 160) / 8.0 : uniform(random);
                double nearest = levels.front();
                for (const double level : levels)
                    if (std::abs(level - weight) < std::abs(nearest - weight)) nearest = level;
                CAPTURE(bits, zero, weight);
                CHECK(rounded(map, weight) == nearest);
            }
        }
}

TEST_CASE("dint_map: a number next to a half-way case goes to its own side", "[grid][dint][numerics]") {
    const dint_map<float> map(8, 1.0f, 126);
    for (int k = -125; k < 125; ++k) {
        const float tie = static_cast<float>(k) + 0.5f;
        if (k == 0 || k == -1) continue;
        CAPTURE(k);
        CHECK(rounded(map, std::nextafter(tie, -1000.0f)) == static_cast<float>(k));
        CHECK(rounded(map, std::nextafter(tie, 1000.0f)) == static_cast<float>(k + 1));
        CHECK(rounded(map, tie) == static_cast<float>(k % 2 == 0 ? k : k + 1));
    }
    for (const float tie : {0.25f, 0.75f})
        for (const float side : {-1.0f, 1.0f}) {
            CHECK(rounded(map, side * std::nextafter(tie, 0.5f)) == side * 0.5f);
            CHECK(rounded(map, side * std::nextafter(tie, tie < 0.5f ? 0.0f : 1.0f)) == (tie < 0.5f ? 0.0f : side));
        }
}

TEST_CASE("dint_map: weights however far go to the ends", "[grid][dint][edge]") {
    for (const float scale : {std::numeric_limits<float>::min(), 1.0f, 1e37f})
        for (const std::uint8_t zero : {std::uint8_t{0}, std::uint8_t{5}, std::uint8_t{13}}) {
            const dint_map<float> map(4, scale, zero);
            CHECK(rounded(map, std::numeric_limits<float>::max()) == map.weight(map.highest()));
            CHECK(rounded(map, -std::numeric_limits<float>::max()) == map.weight(map.lowest()));
            CHECK(rounded(map, -0.0f) == 0);
        }
}

TEST_CASE("dint_map: half the zero band of integers, and errors as promised", "[grid][dint][property]") {
    const dint_map<double> map(4, 1.0, 6);
    for (int k = -650; k <= 750; ++k) {
        const double weight = k / 100.0, error = std::abs(rounded(map, weight) - weight);
        CAPTURE(weight);
        CHECK((rounded(map, weight) == 0) == (std::abs(weight) <= 0.25));
        CHECK(error <= (std::abs(weight) <= 1 ? 0.25 : 0.5));
    }
}

TEST_CASE("fit_dint_grids: min-max ranges include 0", "[grid][dint]") {
    MatrixXd W(4, 3);
    W << -2, 0.5, 4.5, 1, 2, 2.6, -1, -1.3, 0, 0, 0, 0;
    const auto grids = fit_dint_grids(W);
    CHECK(grids.scales(0, 0) == Approx(0.5));
    CHECK(int{grids.zeros(0, 0)} == 4);
    CHECK(grids.scales(1, 0) == Approx(0.2));
    CHECK(int{grids.zeros(1, 0)} == 0);
    CHECK(grids.scales(2, 0) == Approx(0.1));
    CHECK(int{grids.zeros(2, 0)} == 13);
    CHECK(grids.scales(3, 0) == Approx(2 / 13.0));
    const auto symmetric = fit_dint_grids(W, {.bits = 3, .symmetric = true});
    for (index_t i = 0; i < 4; ++i) CHECK(int{symmetric.zeros(i, 0)} == 3);
    CHECK(symmetric.scales(0, 0) == Approx(9.0 / 5));
    const auto groups = fit_dint_grids(W, {.bits = 4, .group_size = 2, .storage = magr::storage_type::f16});
    CHECK(groups.scales.cols() == 2);
    CHECK(groups.scales(0, 0) == static_cast<double>(static_cast<float>(Eigen::half(2.5f / 13))));
    CHECK(groups.scales(0, 1) == static_cast<double>(static_cast<float>(Eigen::half(4.5f / 13))));
    CHECK(groups.map(0, 2).weight(1) == groups.scales(0, 1) / 2);
}

TEST_CASE("fit_dint_grids: mse takes the best of 80 scales", "[grid][dint][oracle]") {
    const MatrixXd W = tests::random_matrix(5, 40, 4);
    int shrunk = 0;
    for (const bool symmetric : {false, true}) {
        const auto whole = fit_dint_grids(W, {.bits = 3, .symmetric = symmetric});
        const auto found = fit_dint_grids(W, {.bits = 3, .symmetric = symmetric, .range = magr::range_search::mse, .error_exponent = 2});
        for (index_t i = 0; i < 5; ++i) {
            double least = std::numeric_limits<double>::infinity(), best = 0;
            for (int k = 0; k < 80; ++k) {
                const double scale = whole.scales(i, 0) * (1 - k / 100.0);
                const dint_map<double> map(3, scale, whole.zeros(i, 0));
                double error = 0;
                for (index_t j = 0; j < 40; ++j) error += std::pow(rounded(map, W(i, j)) - W(i, j), 2);
                if (error < least) {
                    least = error;
                    best = scale;
                }
            }
            CHECK(found.scales(i, 0) == Approx(best));
            shrunk += best < whole.scales(i, 0) ? 1 : 0;
            CHECK(found.zeros(i, 0) == whole.zeros(i, 0));
        }
    }
    CHECK(shrunk > 0);
}

TEST_CASE("fit_dint_grids: dead columns decide nothing", "[grid][dint][dead]") {
    const auto [W, H] = layers::make_layer(6, 12, layers::inputs::neighbours, 5);
    for (const auto range : {magr::range_search::min_max, magr::range_search::mse}) {
        const dint_options options{.group_size = 4, .range = range};
        MatrixXd dead_H = H, other = W;
        for (const index_t j : {1, 6, 8, 9, 10, 11}) {
            dead_H.row(j).setZero();
            dead_H.col(j).setZero();
        }
        other.col(1) *= 100;
        other.col(6) *= -50;
        const auto grids = fit_dint_grids(W, dead_H, options), same = fit_dint_grids(other, dead_H, options);
        CHECK(grids.scales == same.scales);
        CHECK(grids.zeros == same.zeros);
        CHECK(fit_dint_grids(W, H, options).scales == fit_dint_grids(W, options).scales);
        const auto all = fit_dint_grids(W, options);
        for (index_t i = 0; i < 6; ++i) CHECK(grids.scales(i, 2) == all.scales(i, 2));  // all columns of the last group are dead
        CHECK(fit_dint_grids(W, MatrixXd(MatrixXd::Zero(12, 12)), options).scales == all.scales);
    }
}

TEST_CASE("fit_dint_grids: huge and tiny weights have finite grids", "[grid][dint][edge]") {
    const float most = std::numeric_limits<float>::max();
    for (const int bits : {2, 4, 8})
        for (const auto range : {magr::range_search::min_max, magr::range_search::mse})
            for (const float size : {most, 1e-40f, 1.0f}) {
                MatrixXf W(2, 3);
                W << -size, size, size / 3, size, 0, size / 2;
                const auto grids = fit_dint_grids(W, {.bits = bits, .range = range});
                const auto q = round_onto(grids, W);
                CAPTURE(bits, size);
                CHECK(magr::detail::is_finite(q.dequantize().view()));
                CHECK(q.dequantize()(0, 0) <= 0);
                CHECK(q.dequantize()(0, 1) >= 0);
            }
}

TEST_CASE("dint grids: every storage and layout of W, one row, one column, the same bits for every executor", "[grid][dint][property]") {
    const MatrixXd W = tests::random_matrix(70, 9, 6);
    const Eigen::Matrix<Eigen::half, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> half = W.cast<Eigen::half>();
    const MatrixXf copy = half.cast<float>();
    const dint_options options{.bits = 3, .group_size = 4, .range = magr::range_search::mse};
    CHECK(fit_dint_grids(half, options).scales == fit_dint_grids(copy, options).scales);
    magr::thread_pool pool(3);
    CHECK(fit_dint_grids(copy, options, pool).scales == fit_dint_grids(copy, options).scales);
    CHECK(round_onto(fit_dint_grids(half, options), half).codes == round_onto(fit_dint_grids(copy, options), copy).codes);
    for (const MatrixXd& small : {MatrixXd(W.topRows(1)), MatrixXd(W.leftCols(1)), MatrixXd(W.topLeftCorner(1, 1))}) {
        const auto q = round_onto(fit_dint_grids(small), small);
        CHECK(std::abs(q.dequantize()(0, 0) - small(0, 0)) <= q.grids.scales(0, 0) / 2);
    }
}

TEST_CASE("dint grids: with the feedback of OPTQ they lose less than without", "[grid][dint][optq]") {
    for (const auto kind : layers::all_inputs)
        for (const int bits : {3, 4}) {
            const auto [W, H] = layers::make_layer(20, 24, kind, 7);
            const auto grids = fit_dint_grids(W, H, {.bits = bits, .group_size = 8});
            const double nearest = magr::output_error(W, round_onto(grids, W).dequantize(), H);
            CAPTURE(kind, bits);
            for (const auto order : {magr::column_order::natural, magr::column_order::act_order}) {
                const auto optq = round_onto(grids, W, H, magr::ldl_feedback{}, {}, {.order = order});
                REQUIRE(optq);
                if (kind != layers::inputs::independent) CHECK(magr::output_error(W, optq->dequantize(), H) < nearest);
            }
            CHECK(round_onto(grids, W, H, magr::gpfq_feedback{}));
        }
}

TEST_CASE("dint grids: a diagonal H changes nothing, and each row keeps the bound of its half scales", "[grid][dint][optq][property]") {
    const auto [W, H] = layers::make_layer(8, 16, layers::inputs::neighbours, 8);
    const auto grids = fit_dint_grids(W, {.bits = 4});
    const auto alone = round_onto(grids, W, MatrixXd(H.diagonal().asDiagonal()), magr::ldl_feedback{});
    CHECK(alone->codes == round_onto(grids, W).codes);
    const auto q = round_onto(grids, W, H, magr::ldl_feedback{.damping = 0});
    std::vector<index_t> natural(16);
    for (index_t j = 0; j < 16; ++j) natural[static_cast<std::size_t>(j)] = j;
    const auto factor = magr::factor_feedback<double>(magr::as_const_view(H), natural, {.damping = 0});
    double trace = 0;
    for (const double pivot : factor.pivots) trace += pivot;
    const auto values = q->dequantize();
    for (index_t i = 0; i < 8; ++i) {
        Eigen::VectorXd error(16);
        bool clipped = false;
        for (index_t j = 0; j < 16; ++j) {
            error[j] = values(i, j) - W(i, j);
            clipped = clipped || q->codes(i, j) == 0 || q->codes(i, j) == 13;
        }
        if (!clipped) CHECK(error.dot(H * error) <= trace * std::pow(grids.scales(i, 0) / 2, 2) * (1 + 1e-9));
    }
}

TEST_CASE("dint grids: stochastic rounding takes one of the two neighbouring weights, on average the weight", "[grid][dint][stochastic]") {
    for (const double weight : {0.1, 0.3, 0.6, -0.9, 1.7, -2.2}) {
        const index_t count = 20000;
        MatrixXd W = MatrixXd::Constant(1, count, weight);
        const auto values = round_onto(unit_grids(1, count, 4, 6), W, magr::stochastic_rounding{9}).dequantize();
        const double gap = std::abs(weight) < 1 ? 0.5 : 1, below = std::floor(weight / gap) * gap;
        double sum = 0;
        for (index_t j = 0; j < count; ++j) {
            CHECK((values(0, j) == below || values(0, j) == below + gap));
            sum += values(0, j);
        }
        CHECK(sum / static_cast<double>(count) == Approx(weight).margin(0.015));
    }
}

TEST_CASE("dint grids: fewer weights become 0 than on integers of the same range", "[grid][dint][property]") {
    const MatrixXd W = tests::random_matrix(1, 2000, 10);
    const auto halves = round_onto(fit_dint_grids(W), W).dequantize();
    const auto integers = magr::quantize_rtn(W).dequantize();
    const auto zeros = [](const auto& m) { return static_cast<double>(std::count(m.data(), m.data() + m.cols(), 0.0)); };
    CHECK(zeros(halves) < 0.7 * zeros(integers));  // the band is 15/26 as wide
    CHECK(zeros(halves) > 0);
}

TEST_CASE("dint grids: bad input is refused", "[grid][dint][contract]") {
    const MatrixXd W = tests::random_matrix(3, 4, 11), H = MatrixXd::Identity(4, 4);
    const auto rejected = [&](const dint_options& options) {
        CHECK_THROWS_AS(fit_dint_grids(W, options), magr::option_error);
        CHECK_THROWS_AS(fit_dint_grids(W, H, options), magr::option_error);
    };
    rejected({.bits = 1});
    rejected({.bits = 9});
    rejected({.group_size = 0});
    rejected({.storage = static_cast<magr::storage_type>(9)});
    rejected({.range = magr::range_search::output_error});
    rejected({.range = static_cast<magr::range_search>(9)});
    rejected({.error_exponent = 0.5});
    rejected({.dead_threshold = 1});
    MatrixXd bad = W;
    bad(1, 2) = std::numeric_limits<double>::quiet_NaN();
    CHECK_THROWS_AS(fit_dint_grids(bad), magr::value_error);
    CHECK_THROWS_AS(fit_dint_grids(bad, H, {}), magr::value_error);
    CHECK_THROWS_AS(fit_dint_grids(MatrixXd(0, 4)), magr::shape_error);
    CHECK_THROWS_AS(fit_dint_grids(W, MatrixXd(MatrixXd::Identity(3, 3)), {}), magr::shape_error);

    const auto good = fit_dint_grids(W, {.group_size = 3});
    const auto refused = [&](const auto& change) {
        auto grids = good;
        change(grids);
        CHECK_THROWS_AS(round_onto(grids, W), magr::value_error);
        CHECK_THROWS_AS(round_onto(grids, W, H, magr::ldl_feedback{}), magr::value_error);
    };
    refused([](auto& grids) { grids.bits = 9; });
    refused([](auto& grids) { grids.group_size = 0; });
    refused([](auto& grids) { grids.scales(1, 1) = 0; });
    refused([](auto& grids) { grids.scales(1, 1) = std::numeric_limits<double>::quiet_NaN(); });
    refused([](auto& grids) { grids.scales(1, 1) = std::numeric_limits<double>::max(); });
    refused([](auto& grids) { grids.zeros(2, 0) = 14; });
    refused([](auto& grids) { grids.storage = static_cast<magr::storage_type>(9); });
    for (const auto& change :
         {+[](magr::dint_grids<double>& grids) { grids.cols = 5; }, +[](magr::dint_grids<double>& grids) { grids.group_size = 1; }}) {
        auto grids = good;
        change(grids);
        CHECK_THROWS_AS(round_onto(grids, W), magr::shape_error);
    }
    CHECK_THROWS_AS(round_onto(good, W, H, magr::ldl_feedback{}, {}, {.order = magr::column_order::group_aware}), magr::option_error);
}
