// SPDX-License-Identifier: MIT
#include <magr/quantize/optq.hpp>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include <magr/calibration/output_error.hpp>
#include <magr/grid/storage.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/parallel/thread_pool.hpp>
#include <magr/quantize/rtn.hpp>

#include "quantize/layers.hpp"
#include "quantize/oracle.hpp"
#include "support/catch.hpp"
#include "support/values_of.hpp"

using Eigen::MatrixXd;
using magr::column_order;
using magr::grid_options;
using magr::group_update;
using magr::index_t;
using magr::optq_options;
using magr::output_error;
using magr::quantization_status;
using magr::quantize_optq;
using magr::quantize_rtn;
using tests::values_of;

namespace {

template <class Scalar>
std::vector<std::vector<int>> codes_of(const magr::quantized_matrix<Scalar>& q) {
    std::vector<std::vector<int>> codes(static_cast<std::size_t>(q.rows()));
    for (index_t i = 0; i < q.rows(); ++i)
        for (index_t j = 0; j < q.cols(); ++j) codes[static_cast<std::size_t>(i)].push_back(q.codes(i, j));
    return codes;
}

double proxy(const MatrixXd& W, const MatrixXd& Q, const MatrixXd& H) { return ((Q - W) * H * (Q - W).transpose()).trace(); }

oracle::groups oracle_groups(group_update update) {
    return update == group_update::fixed  ? oracle::groups::fixed
           : update == group_update::live ? oracle::groups::live
                                          : oracle::groups::stale;
}

grid_options grid_with_groups(int bits, index_t group_size) {
    grid_options options{.bits = bits};
    if (group_size > 0) options.group_size = group_size;
    return options;
}

}  // namespace

// Codes, loss and proxy were computed once, in double, by an independent implementation of the published algorithm; every weight is at
// least 0.034 steps from a tie. The oracle derives them again.
TEST_CASE("quantize_optq: golden table", "[quantize][optq][oracle]") {
    struct golden_row {
        index_t group_size;
        column_order order;
        group_update groups;
        std::vector<std::vector<int>> codes;
        double loss;
        double proxy;
    };
    using enum group_update;
    constexpr auto natural = column_order::natural;
    constexpr auto act_order = column_order::act_order;
    MatrixXd W(2, 4);
    MatrixXd H(4, 4);
    W << -0.3, 1.2, -1.1, -0.7, -1.4, -0.8, -1.4, 1.5;
    H << 6.5, .6, -1.5, -1.1, .6, 5, 4.6, 2.9, -1.5, 4.6, 6.8, 2.5, -1.1, 2.9, 2.5, 4.4;
    const golden_row rows[] = {
        {0, natural, fixed, {{2, 7, 0, 0}, {0, 1, 0, 7}}, 0.32397125, 0.63753061},
        {0, act_order, fixed, {{2, 6, 0, 1}, {0, 1, 0, 7}}, 0.23439446, 0.46104082},
        {0, natural, live, {{2, 7, 0, 0}, {0, 1, 0, 7}}, 0.32397125, 0.63753061},
        {0, act_order, stale, {{2, 6, 0, 1}, {0, 1, 0, 7}}, 0.23439446, 0.46104082},
        {2, natural, fixed, {{0, 6, 1, 3}, {0, 3, 0, 6}}, 0.16783459, 0.32746939},
        {2, natural, stale, {{0, 6, 1, 3}, {0, 3, 0, 6}}, 0.16783459, 0.32746939},
        {2, natural, live, {{0, 6, 0, 3}, {0, 3, 0, 6}}, 0.15502655, 0.30233502},
        {2, act_order, fixed, {{0, 6, 0, 3}, {0, 2, 0, 7}}, 0.10411378, 0.20151020},
        {2, act_order, stale, {{5, 7, 0, 1}, {0, 0, 0, 6}}, 0.09160421, 0.17793878},
        {2, act_order, live, {{5, 7, 0, 1}, {0, 0, 0, 6}}, 0.08924070, 0.17337420},
    };
    for (const golden_row& row : rows) {
        const auto result = quantize_optq(W, H, grid_with_groups(3, row.group_size), {.order = row.order, .groups = row.groups});
        const oracle::quantized expected =
            oracle::optq(oracle::to_table(W), oracle::to_table(H), {.bits = 3, .group_size = static_cast<std::size_t>(row.group_size)},
                         {.act_order = row.order == act_order, .update = oracle_groups(row.groups)});
        CAPTURE(row.group_size, row.order == act_order, static_cast<int>(row.groups));
        CHECK(codes_of(result.quantized) == row.codes);
        CHECK(expected.codes == row.codes);
        CHECK(result.loss.value() == Approx(row.loss).epsilon(1e-7));
        CHECK(static_cast<double>(expected.loss) == Approx(row.loss).epsilon(1e-7));
        CHECK(proxy(W, values_of(result.quantized), H) == Approx(row.proxy).epsilon(1e-7));
        CHECK(result.status == quantization_status::as_requested);
        CHECK(result.damping == 0.01);
        CHECK(result.attempts == 1);
        CHECK(result.dead_inputs == 0);
    }
    const auto whole_row = quantize_optq(W, H, {.bits = 3});
    CHECK(whole_row.quantized.scales(0, 0) == Approx(0.3285714286));
    CHECK(whole_row.quantized.scales(1, 0) == Approx(0.4142857143));
    CHECK(whole_row.quantized.zeros(0, 0) == 3);
    CHECK(whole_row.quantized.zeros(1, 0) == 3);
}

TEST_CASE("quantize_optq: makes the decisions of the textbook algorithm, which are those of LDLQ", "[quantize][optq][oracle]") {
    for (const auto kind : layers::all_inputs)
        for (const index_t n : {1, 5, 33})
            for (const int bits : {2, 4})
                for (const index_t group : {0, 4, 10})
                    for (const auto order : {column_order::natural, column_order::act_order})
                        for (const auto update : {group_update::fixed, group_update::live, group_update::stale})
                            for (const index_t block : {7, 128}) {
                                const auto [W, H] = layers::make_layer(3, n, kind, 11);
                                const auto result = quantize_optq(W, H, grid_with_groups(bits, group),
                                                                  {.block_size = block, .order = order, .groups = update});
                                const oracle::grid_rules rules{.bits = bits, .group_size = static_cast<std::size_t>(group)};
                                const auto expected = oracle::optq(oracle::to_table(W), oracle::to_table(H), rules,
                                                                   {.block_size = static_cast<std::size_t>(block),
                                                                    .act_order = order == column_order::act_order,
                                                                    .update = oracle_groups(update)});
                                CAPTURE(kind, n, bits, group, order == column_order::act_order, static_cast<int>(update), block);
                                CHECK(codes_of(result.quantized) == expected.codes);
                                CHECK(result.loss.value() == Approx(static_cast<double>(expected.loss)).epsilon(1e-9).margin(1e-12));
                                if (group == 0 && order == column_order::natural)
                                    CHECK(codes_of(result.quantized) ==
                                          oracle::ldlq(oracle::to_table(W), oracle::damped(oracle::to_table(H), 0.01L), rules));
                            }
}

TEST_CASE("quantize_optq: the dequantized codes are the values the errors were computed from", "[quantize][optq][property]") {
    for (const auto kind : layers::all_inputs)
        for (const auto order : {column_order::natural, column_order::act_order})
            for (const auto update : {group_update::fixed, group_update::live, group_update::stale}) {
                const auto [W, H] = layers::make_layer(20, 50, kind, 5);
                const auto result =
                    quantize_optq(W, H, {.bits = 3, .group_size = 16}, {.block_size = 24, .order = order, .groups = update});
                const MatrixXd Q = values_of(result.quantized);
                MatrixXd damped = H;
                damped.diagonal().array() += 0.01 * H.diagonal().mean();
                CAPTURE(kind, order == column_order::act_order, static_cast<int>(update));
                CHECK(2 * result.loss.value() == Approx(proxy(W, Q, damped)).epsilon(1e-9));
                CHECK(result.output_error == Approx(output_error(W, Q, H)).epsilon(1e-9));

                const Eigen::MatrixXf single = W.cast<float>();
                const auto in_float =
                    quantize_optq(single, H, {.bits = 3, .group_size = 16}, {.block_size = 24, .order = order, .groups = update});
                CHECK(in_float.output_error == Approx(output_error(single, in_float.quantized.dequantize(), H)).epsilon(1e-3));
            }
}

TEST_CASE("quantize_optq: everything but the output error comes without measuring it", "[quantize][optq][property]") {
    const auto [W, H] = layers::make_layer(40, 70, layers::inputs::neighbours, 6);
    MatrixXd hopeless = MatrixXd::Identity(70, 70);
    hopeless(0, 1) = hopeless(1, 0) = 1e6;
    for (const MatrixXd& gram : {H, hopeless}) {
        magr::optq_options options{.on_failure = magr::factor_fallback::round_to_nearest};
        const auto expected = quantize_optq(W, gram, {.bits = 3}, options);
        options.measure_error = false;
        const auto result = quantize_optq(W, gram, {.bits = 3}, options);
        CHECK(result.quantized.codes == expected.quantized.codes);
        CHECK(result.status == expected.status);
        CHECK(result.loss == expected.loss);
        CHECK(result.loss_bound == expected.loss_bound);
        CHECK(result.clipped == expected.clipped);
        CHECK_FALSE(result.output_error);
        REQUIRE(expected.output_error);
        CHECK(std::isfinite(*expected.output_error));
    }
}

TEST_CASE("quantize_optq: the block size changes no code, except with stale groups", "[quantize][optq][property]") {
    const auto [W, H] = layers::make_layer(70, 90, layers::inputs::neighbours, 21);
    for (const auto order : {column_order::natural, column_order::act_order})
        for (const auto update : {group_update::fixed, group_update::live})
            for (const index_t group : {0, 16, 40}) {
                const auto expected = quantize_optq(W, H, grid_with_groups(3, group), {.block_size = 90, .order = order, .groups = update});
                for (const index_t block : {1, 2, 7, 33, 89, 500}) {
                    const auto result =
                        quantize_optq(W, H, grid_with_groups(3, group), {.block_size = block, .order = order, .groups = update});
                    CAPTURE(group, block, order == column_order::act_order, update == group_update::live);
                    CHECK(result.quantized.codes == expected.quantized.codes);
                    CHECK(result.loss.value() == Approx(expected.loss.value()).epsilon(1e-12));
                }
            }
}

TEST_CASE("quantize_optq: stale groups have blocks of 128 columns unless told otherwise", "[quantize][optq]") {
    const auto layer = layers::make_layer(20, 260, layers::inputs::neighbours, 22);
    const auto codes = [&](std::optional<index_t> block) {
        return quantize_optq(layer.W, layer.H, {.bits = 3, .group_size = 16}, {.block_size = block, .groups = group_update::stale})
            .quantized.codes;
    };
    CHECK(codes({}) == codes(128));
    CHECK_FALSE(codes({}) == codes(96));
}

TEST_CASE("quantize_optq: the scales of H and of W do not matter", "[quantize][optq][property]") {
    for (const auto kind : layers::all_inputs) {
        auto [W, H] = layers::make_layer(10, 30, kind, 8);
        H.row(7).setZero();  // a dead column must not introduce its own scale
        H.col(7).setZero();
        const auto expected = quantize_optq(W, H, {.bits = 3});
        for (const double scale : {1e-30, 0.37, 2.0, 1e30}) {
            const auto result = quantize_optq(W, MatrixXd(H * scale), {.bits = 3});
            CHECK(result.quantized.codes == expected.quantized.codes);
            CHECK(result.loss.value() == Approx(expected.loss.value() * scale));
            CHECK(result.output_error == Approx(expected.output_error.value()));
        }
        // scaling by powers of two is exact in float, so nothing may change there
        const Eigen::MatrixXf w = W.cast<float>();
        const Eigen::MatrixXf h = H.cast<float>();
        const auto single = quantize_optq(w, h, {.bits = 3});
        for (const int exponent : {-90, 90})
            for (const int gram_exponent : {-90, 90}) {
                const auto result = quantize_optq(Eigen::MatrixXf(w * std::ldexp(1.0F, exponent)),
                                                  Eigen::MatrixXf(h * std::ldexp(1.0F, gram_exponent)), {.bits = 3});
                CHECK(result.quantized.codes == single.quantized.codes);
                CHECK(result.quantized.scales(3, 0) == std::ldexp(single.quantized.scales(3, 0), exponent));
                CHECK(result.loss.value() == Approx(std::ldexp(single.loss.value(), 2 * exponent + gram_exponent)));
                CHECK(result.output_error == Approx(single.output_error.value()));
            }
    }
}

TEST_CASE("quantize_optq: with independent inputs it is round to nearest", "[quantize][optq][property]") {
    std::mt19937 random(9);
    const MatrixXd W = layers::normal_matrix(30, 40, random);
    const MatrixXd H = layers::normal_matrix(40, 1, random).cwiseAbs().col(0).asDiagonal();
    for (const index_t group : {0, 16})
        for (const auto order : {column_order::natural, column_order::act_order}) {
            const grid_options grid = grid_with_groups(4, group);
            CHECK(quantize_optq(W, H, grid, {.order = order}).quantized.codes == quantize_rtn(W, grid).codes);
        }
}

TEST_CASE("quantize_optq: fixed grids are those of round to nearest", "[quantize][optq][property]") {
    const auto [W, H] = layers::make_layer(12, 45, layers::inputs::outliers, 2);
    for (const auto order : {column_order::natural, column_order::act_order})
        for (const auto range : {magr::range_search::min_max, magr::range_search::mse, magr::range_search::output_error}) {
            const grid_options grid{.bits = 3, .group_size = 16, .range = range};
            const auto optq = quantize_optq(W, H, grid, {.order = order}).quantized;
            const auto rtn = quantize_rtn(W, H, grid);
            CHECK(optq.scales == rtn.scales);
            CHECK(optq.zeros == rtn.zeros);
            CHECK(optq.group_of_column == rtn.group_of_column);
        }
}

TEST_CASE("quantize_optq: groups formed in the order of processing are recorded per column", "[quantize][optq]") {
    const auto [W, H] = layers::make_layer(4, 11, layers::inputs::outliers, 3);
    const auto order = magr::order_columns(magr::as_const_view(H), column_order::act_order, 4);
    for (const auto update : {group_update::live, group_update::stale}) {
        const auto q = quantize_optq(W, H, {.bits = 3, .group_size = 4}, {.order = column_order::act_order, .groups = update}).quantized;
        CHECK(q.scales.cols() == 3);  // 4 + 4 + 3 columns
        for (std::size_t k = 0; k < order.size(); ++k)
            CHECK(q.group_of_column[static_cast<std::size_t>(order[k])] == static_cast<index_t>(k) / 4);
    }
}

// Bugs that went unnoticed in ports of OPTQ: a wrong slice of the factor, a block compensated twice, a silent fallback. Each of them ends
// at or above the error of round to nearest.
TEST_CASE("quantize_optq: has a smaller output error than round to nearest", "[quantize][optq][property]") {
    for (const auto kind : layers::all_inputs) {
        if (kind == layers::inputs::independent) continue;  // feedback gains nothing there
        for (const int bits : {2, 3, 4})
            for (const index_t group : {0, 16})
                for (const auto order : {column_order::natural, column_order::act_order}) {
                    double optq = 0;
                    double rtn = 0;
                    for (unsigned seed = 0; seed < 8; ++seed) {
                        const auto [weights, H] = layers::make_layer(24, 70, kind, seed);
                        const Eigen::MatrixXf W = weights.cast<float>();
                        const grid_options grid = grid_with_groups(bits, group);
                        optq += quantize_optq(W, H, grid, {.block_size = 32, .order = order}).output_error.value();
                        rtn += output_error(W, quantize_rtn(W, grid).dequantize(), H);
                    }
                    CAPTURE(kind, bits, group, order == column_order::act_order);
                    CHECK(optq < 0.8 * rtn);
                }
    }
}

TEST_CASE("quantize_optq: every storage type and layout of W and H gives the same codes", "[quantize][optq][property]") {
    const auto [weights, gram] = layers::make_layer(9, 40, layers::inputs::neighbours, 14);
    // values that every storage type can hold, so that all calls see the same layer
    const MatrixXd W = weights.cast<Eigen::bfloat16>().cast<Eigen::half>().cast<double>();
    const MatrixXd H = (gram / gram.diagonal().maxCoeff()).cast<Eigen::half>().cast<Eigen::bfloat16>().cast<double>();
    const grid_options grid{.bits = 3, .group_size = 16};
    const auto expected = quantize_optq(Eigen::MatrixXf(W.cast<float>()), H, grid);
    const auto check = [&](const auto& w, const auto& h) {
        const auto result = quantize_optq(w, h, grid);
        CHECK(codes_of(result.quantized) == codes_of(expected.quantized));
        CHECK(result.loss.value() == Approx(expected.loss.value()).epsilon(1e-4));
    };
    check(W, H);
    check(Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>(W), Eigen::MatrixXf(H.cast<float>()));
    check(Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>(W.cast<float>()),
          Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>(H));
    check(Eigen::Matrix<Eigen::half, Eigen::Dynamic, Eigen::Dynamic>(W.cast<Eigen::half>()),
          Eigen::Matrix<Eigen::bfloat16, Eigen::Dynamic, Eigen::Dynamic>(H.cast<Eigen::bfloat16>()));
    check(Eigen::Matrix<Eigen::bfloat16, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>(W.cast<Eigen::bfloat16>()),
          Eigen::Matrix<Eigen::half, Eigen::Dynamic, Eigen::Dynamic>(H.cast<Eigen::half>()));

    Eigen::MatrixXf larger = Eigen::MatrixXf::Constant(60, 60, std::nanf(""));
    larger.block(2, 3, 9, 40) = W.cast<float>();
    larger.block(15, 8, 40, 40) = H.cast<float>();
    check(larger.block(2, 3, 9, 40), larger.block(15, 8, 40, 40));
    const Eigen::MatrixXf transposed = W.cast<float>().transpose();
    check(magr::as_view(transposed).transposed(), H);
    Eigen::MatrixXf spread = Eigen::MatrixXf::Constant(27, 80, std::nanf(""));
    for (index_t i = 0; i < 9; ++i)
        for (index_t j = 0; j < 40; ++j) spread(3 * i, 2 * j) = static_cast<float>(W(i, j));
    check(magr::matrix_view<const float>::with_strides(spread.data(), 9, 40, 3, 54), H);
}

TEST_CASE("quantize_optq: a singular H is damped more, and the result says so", "[quantize][optq][edge]") {
    std::mt19937 random(5);
    const Eigen::VectorXd x = layers::normal_matrix(30, 1, random).col(0);
    const MatrixXd W = layers::normal_matrix(8, 30, random);
    const MatrixXd H = x * x.transpose();
    const auto result = quantize_optq(W, H, {.bits = 4}, {.damping = 0});
    CHECK(result.status == quantization_status::damped_more);
    CHECK(result.attempts > 1);
    CHECK(result.damping >= 1e-6);
    CHECK(result.output_error == Approx(output_error(W, values_of(result.quantized), H)).epsilon(1e-6));
    CHECK(result.output_error.value() < 0.1 * output_error(W, quantize_rtn(W, {.bits = 4}).dequantize(), H));
}

TEST_CASE("quantize_optq: an H that cannot be factored gives no codes", "[quantize][optq][edge]") {
    MatrixXd H = MatrixXd::Identity(3, 3);
    H(0, 2) = H(2, 0) = 1e6;
    const auto result = quantize_optq(MatrixXd(MatrixXd::Ones(2, 3)), H, {.bits = 4});
    CHECK(result.status == quantization_status::failed);
    CHECK_FALSE(result);
    CHECK(result.attempts == 9);
    CHECK(result.quantized.rows() == 0);
    CHECK(result.quantized.cols() == 0);
    CHECK(result.quantized.dequantize().empty());
}

TEST_CASE("quantize_optq: dead columns are rounded or zeroed, and change nothing else", "[quantize][optq][edge]") {
    auto [W, H] = layers::make_layer(6, 24, layers::inputs::neighbours, 16);
    for (const index_t dead : {0, 9, 23}) {
        H.row(dead).setZero();
        H.col(dead).setZero();
    }
    for (const auto order : {column_order::natural, column_order::act_order})
        for (const auto update : {group_update::fixed, group_update::live, group_update::stale})
            for (const index_t group : {0, 8}) {
                const grid_options grid = grid_with_groups(3, group);
                const bool fixed = update == group_update::fixed || group == 0;
                const auto rounded = quantize_optq(W, H, grid, {.order = order, .groups = update});
                const auto zeroed = quantize_optq(W, H, grid, {.order = order, .groups = update, .dead = magr::dead_columns::zero});
                const MatrixXd Q = values_of(rounded.quantized);
                const MatrixXd Z = values_of(zeroed.quantized);
                CAPTURE(group, order == column_order::act_order, static_cast<int>(update));
                CHECK(rounded.dead_inputs == 3);
                CHECK(zeroed.dead_inputs == 3);
                CHECK(rounded.output_error == Approx(output_error(W, Q, H)).epsilon(1e-9));
                CHECK(zeroed.output_error == Approx(output_error(W, Z, H)).epsilon(1e-9));
                for (index_t j = 0; j < 24; ++j) {
                    const bool dead = H(j, j) == 0;
                    for (index_t i = 0; i < 6; ++i) {
                        const double scale = rounded.quantized.scales(i, rounded.quantized.group_of_column[static_cast<std::size_t>(j)]);
                        if (dead) CHECK(Z(i, j) == 0);
                        const int code = rounded.quantized.codes(i, j);
                        const bool at_end = (code == 0 && W(i, j) < Q(i, j)) || (code == 7 && W(i, j) > Q(i, j));
                        if (dead && fixed) CHECK((at_end || std::abs(Q(i, j) - W(i, j)) <= 0.5001 * scale));
                        if (!dead && fixed) CHECK(Q(i, j) == Z(i, j));
                    }
                }
                if (fixed) {  // dead columns do not affect the grids
                    CHECK(zeroed.quantized.scales == rounded.quantized.scales);
                    CHECK(zeroed.quantized.zeros == rounded.quantized.zeros);
                }
            }
}

TEST_CASE("quantize_optq: weights of dead inputs may be of any size", "[quantize][optq][edge][regression]") {
    auto [W, H] = layers::make_layer(6, 24, layers::inputs::neighbours, 18);
    H.row(9).setZero();
    H.col(9).setZero();
    W.col(9).setZero();
    const auto expected = quantize_optq(W, H, grid_with_groups(3, 0));
    W.col(9).setConstant(1e308);  // its squares are infinite
    for (const auto dead : {magr::dead_columns::round, magr::dead_columns::zero}) {
        const auto result = quantize_optq(W, H, grid_with_groups(3, 0), {.dead = dead});
        REQUIRE(result.status == expected.status);
        CHECK(result.output_error == Approx(expected.output_error.value()).epsilon(1e-12));
        for (index_t j = 0; j < 24; ++j)
            for (index_t i = 0; i < 6; ++i)
                if (j != 9) CHECK(result.quantized.codes(i, j) == expected.quantized.codes(i, j));
    }
}

TEST_CASE("quantize_optq: rows of zeros, constant rows and tiny weights", "[quantize][optq][edge]") {
    auto [W, H] = layers::make_layer(5, 20, layers::inputs::neighbours, 17);
    W.row(0).setZero();
    W.row(1).setConstant(0.25);
    W.row(2).setConstant(-0.25);
    const Eigen::MatrixXf tiny = (W.row(3) * 1e-42).cast<float>();
    const MatrixXd Q = values_of(quantize_optq(W, H, {.bits = 4}).quantized);
    CHECK(Q.row(0).isZero(0));
    CHECK(Q.row(1).isConstant(0.25, 1e-14));
    CHECK(Q.row(2).isConstant(-0.25, 1e-14));
    const auto result = quantize_optq(tiny, H, {.bits = 4});
    CHECK(values_of(result.quantized).isZero(0));
    CHECK(std::isfinite(result.loss.value()));
    CHECK(quantize_optq(MatrixXd(MatrixXd::Zero(2, 20)), H).output_error == 0);
}

TEST_CASE("quantize_optq: one weight", "[quantize][optq][edge]") {
    const MatrixXd W = MatrixXd::Constant(1, 1, -0.5);
    const MatrixXd H = MatrixXd::Constant(1, 1, 3);
    const auto result = quantize_optq(W, H, {.bits = 2});
    CHECK(values_of(result.quantized)(0, 0) == -0.5);
    CHECK(result.loss.value() == 0);
    CHECK(result.output_error == 0);
}

TEST_CASE("quantize_optq: refuses what it cannot work with, by name and place, and leaves W alone", "[quantize][optq][edge]") {
    const auto [good_W, good_H] = layers::make_layer(4, 6, layers::inputs::neighbours, 1);
    MatrixXd W = good_W;
    MatrixXd H = good_H;
    grid_options grid;
    optq_options options;
    const auto refused = [&](auto error) {
        const MatrixXd before = W;
        CHECK_THROWS_AS(quantize_optq(W, H, grid, options), decltype(error));
        const auto bytes = [](const MatrixXd& m) { return std::as_bytes(std::span(m.data(), static_cast<std::size_t>(m.size()))); };
        CHECK(std::ranges::equal(bytes(before), bytes(W)));  // unlike ==, this treats NaN as equal to itself
        std::string message;
        try {
            static_cast<void>(quantize_optq(W, H, grid, options));
        } catch (const std::exception& e) {
            message = e.what();
        }
        return message;
    };
    const magr::shape_error shape("");
    const magr::option_error option("");
    const magr::value_error value("");

    SECTION("entries") {
        W(2, 5) = std::nan("");
        CHECK(refused(value) == "quantize_optq: W must be finite, entry (row 2, column 5) is nan");
        W(2, 5) = -HUGE_VAL;
        CHECK(refused(value) == "quantize_optq: W must be finite, entry (row 2, column 5) is -inf");
        W = good_W;
        H(1, 4) = HUGE_VAL;
        CHECK(refused(value) == "quantize_optq: H must be finite, entry (row 1, column 4) is inf");
        H(1, 4) = std::nan("");
        CHECK(refused(value) == "quantize_optq: H must be finite, entry (row 1, column 4) is nan");
        H = good_H;
        H(1, 4) += 0.1 * H.diagonal().maxCoeff();
        CHECK(refused(value).find("quantize_optq: H must be symmetric, entry (row 4, column 1)") == 0);
        H = -good_H;
        CHECK(refused(value).find("quantize_optq: H must have no negative diagonal entry") == 0);
    }
    SECTION("shapes") {
        H = good_H.leftCols(5);
        CHECK(refused(shape).find("quantize_optq: H must be square") == 0);
        H = good_H.topLeftCorner(5, 5);
        CHECK(refused(shape).find("quantize_optq: H must be 6 x 6") == 0);
        H = good_H;
        W.resize(0, 6);
        CHECK(refused(shape).find("quantize_optq: W must not be empty") == 0);
        W.resize(4, 0);
        H.resize(0, 0);
        refused(shape);
    }
    SECTION("options of the grid") {
        for (const int bits : {0, 1, 9, -4}) {
            grid.bits = bits;
            CHECK(refused(option).find("grid_options: bits") == 0);
        }
        grid = {};
        for (const index_t size : {0, -1}) {
            grid.group_size = size;
            CHECK(refused(option).find("grid_options: group_size") == 0);
        }
        grid = {.range_factor = 0};
        CHECK(refused(option).find("grid_options: range_factor") == 0);
    }
    SECTION("options of the method") {
        for (const double damping : {-0.01, std::nan(""), HUGE_VAL}) {
            options.damping = damping;
            CHECK(refused(option).find("optq_options: damping") == 0);
        }
        options = {};
        for (const index_t block : {0, -128}) {
            options.block_size = block;
            CHECK(refused(option).find("optq_options: block_size") == 0);
        }
    }
}

TEST_CASE("quantize_optq: grids that are given are kept, and W may be another matrix than they were fitted to",
          "[quantize][optq][property]") {
    const auto [W, H] = layers::make_layer(10, 48, layers::inputs::neighbours, 31);
    const MatrixXd clamped = W.cwiseMin(1.2).cwiseMax(-1.2);  // weights of a smaller range, as after MagR
    for (const index_t group : {0, 16})
        for (const auto order : {column_order::natural, column_order::act_order, column_order::group_aware, column_order::reversed}) {
            const grid_options options = grid_with_groups(3, group);
            const auto grids = magr::fit_grids(clamped, options);
            const auto same = quantize_optq(clamped, H, grids, {.order = order});
            const auto expected = quantize_optq(clamped, H, options, {.order = order});
            CHECK(same.quantized.codes == expected.quantized.codes);
            CHECK(same.loss == expected.loss);
            const auto other = quantize_optq(W, H, grids, {.order = order});
            CHECK(other.quantized.scales == grids.scales);
            CHECK(other.quantized.zeros == grids.zeros);
            CHECK(other.output_error == Approx(output_error(W, values_of(other.quantized), H)).epsilon(1e-9));
            CHECK(other.clipped > 0);
        }
    auto grids = magr::fit_grids(W, {.bits = 3});
    CHECK_THROWS_AS(quantize_optq(W, H, grids, {.groups = group_update::live}), magr::option_error);
    CHECK_THROWS_AS(quantize_optq(MatrixXd(W.topRows(9)), H, grids), magr::shape_error);
    grids.scales(4, 0) = std::nan("");
    CHECK_THROWS_WITH(quantize_optq(W, H, grids), "quantize_optq: grids: scale (row 4, group 0) must be > 0 and finite, it is nan");
}

TEST_CASE("quantize_optq: every kind of grid, and the errors are those of the dequantized codes", "[quantize][optq][property]") {
    using magr::zero_point;
    for (const auto zero : {zero_point::none, zero_point::middle, zero_point::integer, zero_point::real, zero_point::offset})
        for (const auto storage : {magr::storage_type::native, magr::storage_type::f16, magr::storage_type::bf16})
            for (const auto range : {magr::range_search::min_max, magr::range_search::mse, magr::range_search::output_error,
                                     magr::range_search::row_output_error})
                for (const auto update : {group_update::fixed, group_update::live}) {
                    const auto [W, H] = layers::make_layer(9, 40, layers::inputs::outliers, 5);
                    const grid_options grid{.bits = 3, .zero_point = zero, .group_size = 16, .storage = storage, .range = range};
                    const auto result = quantize_optq(W, H, grid, {.block_size = 12, .order = column_order::group_aware, .groups = update});
                    const MatrixXd Q = values_of(result.quantized);
                    MatrixXd damped = H;
                    damped.diagonal().array() += 0.01 * H.diagonal().mean();
                    CAPTURE(static_cast<int>(zero), static_cast<int>(storage), static_cast<int>(range), update == group_update::live);
                    CHECK(2 * result.loss.value() == Approx(proxy(W, Q, damped)).epsilon(1e-8));
                    CHECK(result.output_error == Approx(output_error(W, Q, H)).epsilon(1e-7));
                    CHECK(result.output_error.value() < output_error(W, quantize_rtn(W, H, grid).dequantize(), H));
                    for (index_t j = 0; j < 40; ++j) CHECK(result.quantized.group_of_column[static_cast<std::size_t>(j)] == j / 16);
                    for (index_t i = 0; i < 9; ++i)
                        for (index_t g = 0; g < 3; ++g)
                            CHECK(result.quantized.scales(i, g) == magr::round_to_storage<double>(result.quantized.scales(i, g), storage));
                }
}

TEST_CASE("quantize_optq: group-aware order is natural order on a permuted layer", "[quantize][optq][property]") {
    const auto [W, H] = layers::make_layer(8, 36, layers::inputs::outliers, 6);
    const auto order = magr::order_columns(magr::as_const_view(H), column_order::group_aware, 12);
    MatrixXd w(8, 36);
    MatrixXd h(36, 36);
    for (index_t k = 0; k < 36; ++k) {
        w.col(k) = W.col(order[static_cast<std::size_t>(k)]);
        for (index_t l = 0; l < 36; ++l) h(k, l) = H(order[static_cast<std::size_t>(k)], order[static_cast<std::size_t>(l)]);
    }
    CHECK(order[0] != 0);
    for (const auto update : {group_update::fixed, group_update::live, group_update::stale})
        for (const auto range : {magr::range_search::min_max, magr::range_search::output_error}) {
            const grid_options grid{.bits = 2, .group_size = 12, .range = range};
            const auto result =
                quantize_optq(W, H, grid, {.block_size = 10, .order = column_order::group_aware, .groups = update}).quantized;
            const auto expected = quantize_optq(w, h, grid, {.block_size = 10, .groups = update}).quantized;
            for (index_t k = 0; k < 36; ++k)
                for (index_t i = 0; i < 8; ++i) {
                    CHECK(result.codes(i, order[static_cast<std::size_t>(k)]) == expected.codes(i, k));
                    CHECK(result.scales(i, order[static_cast<std::size_t>(k)] / 12) == Approx(expected.scales(i, k / 12)).epsilon(1e-12));
                }
        }
}

TEST_CASE("quantize_optq: clipped weights are counted, and without them the loss keeps its bound", "[quantize][optq][property]") {
    int bounded = 0, clipped = 0;
    for (const auto kind : layers::all_inputs)
        for (const double shrink : {1.0, 0.25})  // shrinks the weights, on grids fitted to the larger ones
            for (const auto rounding : {magr::rounding_mode::nearest, magr::rounding_mode::stochastic})
                for (unsigned seed = 0; seed < 5; ++seed) {
                    const auto [W, H] = layers::make_layer(6, 30, kind, seed);
                    const auto grids = magr::fit_grids(W, {.bits = 4, .group_size = 10});
                    const auto result = quantize_optq(MatrixXd(shrink * W), H, grids, {.rounding = rounding, .seed = seed});
                    (result.clipped == 0 ? bounded : clipped) += 1;
                    CAPTURE(kind, shrink, seed, result.clipped);
                    CHECK(result.bound_held().has_value() == (result.clipped == 0));
                    if (result.clipped == 0) {
                        CHECK(result.loss.value() <= result.loss_bound.value());
                        CHECK(result.loss.value() >= 0.01 * result.loss_bound.value());  // and is of the same order
                        CHECK(result.bound_held().value());
                    }
                }
    CHECK(bounded > 20);
    CHECK(clipped > 20);
    // worked by hand: codes -1.5..1.5 in steps of 1; the second weight is pushed to 2.4
    const MatrixXd W = (MatrixXd(1, 2) << 0.4, 2.4).finished();
    magr::weight_grids<double> grids = magr::fit_grids(W, {.bits = 2});
    grids.scales(0, 0) = 1;
    grids.zeros(0, 0) = 2;  // -2..1
    const auto result = quantize_optq(W, MatrixXd(MatrixXd::Identity(2, 2)), grids, {.damping = 0});
    CHECK(result.clipped == 1);
    CHECK(result.loss.value() == Approx(0.5 * (0.16 + 1.96)));
    CHECK(result.loss_bound.value() == Approx(0.5 * 2 * 0.25));
    CHECK_FALSE(result.bound_held().has_value());
}

TEST_CASE("quantize_optq: stochastic rounding is right on average, reproducible, and independent of the blocks",
          "[quantize][optq][property]") {
    const layers::layer layer = layers::make_layer(5, 24, layers::inputs::neighbours, 40);
    const MatrixXd W = 0.2 * layer.W;
    const MatrixXd& H = layer.H;
    const auto grids = magr::fit_grids(MatrixXd(10 * W), {.bits = 8});  // wide enough that nothing is clipped
    const auto run = [&](std::uint64_t seed, index_t block) {
        return quantize_optq(W, H, grids, {.block_size = block, .rounding = magr::rounding_mode::stochastic, .seed = seed});
    };
    CHECK(run(1, 128).quantized.codes == run(1, 5).quantized.codes);
    CHECK_FALSE(run(1, 128).quantized.codes == run(2, 128).quantized.codes);
    constexpr int draws = 3000;
    MatrixXd mean = MatrixXd::Zero(5, 24);
    double loss = 0;
    for (int seed = 0; seed < draws; ++seed) {
        const auto result = run(static_cast<std::uint64_t>(seed), 128);
        REQUIRE(result.clipped == 0);
        mean += values_of(result.quantized) / draws;
        loss += result.loss.value() / draws;
        CHECK(result.loss.value() <= result.loss_bound.value());
    }
    // each error is a sum of at most 24 steps with weights T_jk, whose variance is at most s^2 / 4 per step and grows with the feedback
    for (index_t i = 0; i < 5; ++i) {
        const double s = grids.scales(i, 0);
        for (index_t j = 0; j < 24; ++j) CHECK(std::abs(mean(i, j) - W(i, j)) < 5 * 2 * s / std::sqrt(draws));
    }
    // E sum D_k eta^2 = s^2 / 6 tr D for weights spread evenly over the cells; the certain bound is s^2 tr D
    CHECK(loss / run(0, 128).loss_bound.value() == Approx(1.0 / 6).epsilon(0.1));
}

TEST_CASE("quantize_optq: what happens if H cannot be factored is what was asked for", "[quantize][optq][edge]") {
    std::mt19937 random(5);
    const MatrixXd W = layers::normal_matrix(4, 6, random);
    const Eigen::VectorXd x = layers::normal_matrix(6, 1, random).col(0);
    const MatrixXd singular = x * x.transpose();
    MatrixXd hopeless = MatrixXd::Identity(6, 6);
    hopeless(0, 2) = hopeless(2, 0) = 1e6;
    using magr::factor_fallback;
    const auto status = [&](const MatrixXd& H, factor_fallback what) {
        const auto result = quantize_optq(W, H, {.bits = 4}, {.damping = 0, .on_failure = what});
        CHECK(static_cast<bool>(result) == (result.status != quantization_status::failed));
        return result.status;
    };
    CHECK(status(singular, factor_fallback::none) == quantization_status::failed);
    CHECK(status(singular, factor_fallback::more_damping) == quantization_status::damped_more);
    CHECK(status(singular, factor_fallback::round_to_nearest) == quantization_status::damped_more);
    CHECK(status(hopeless, factor_fallback::none) == quantization_status::failed);
    CHECK(status(hopeless, factor_fallback::more_damping) == quantization_status::failed);
    CHECK(status(hopeless, factor_fallback::round_to_nearest) == quantization_status::rounded_to_nearest);
    const auto rounded = quantize_optq(W, hopeless, {.bits = 4}, {.on_failure = factor_fallback::round_to_nearest});
    CHECK(rounded.quantized.codes == quantize_rtn(W, {.bits = 4}).codes);
    CHECK_FALSE(rounded.bound_held().has_value());
    CHECK(std::string(to_string(rounded.status)) == "rounded_to_nearest");
    CHECK_FALSE(rounded.loss.has_value());
    // a tiny negative eigenvalue, as rounding may leave it, needs only the usual damping
    MatrixXd indefinite = singular;
    indefinite.diagonal().array() -= 1e-7 * singular.diagonal().mean();
    indefinite.diagonal() = indefinite.diagonal().cwiseMax(0);
    CHECK(quantize_optq(W, indefinite, {.bits = 4}).status == quantization_status::as_requested);
}

TEST_CASE("quantize_optq: near-dead columns follow the policy for dead ones", "[quantize][optq][edge]") {
    const layers::layer layer = layers::make_layer(5, 16, layers::inputs::neighbours, 16);
    const MatrixXd& W = layer.W;
    MatrixXd H = layer.H;
    for (const index_t j : {4, 11}) {
        H.row(j) *= 1e-6;
        H.col(j) *= 1e-6;
    }
    using magr::dead_columns;
    const auto run = [&](dead_columns policy, double threshold) {
        return quantize_optq(W, H, {.bits = 3}, {.dead = policy, .dead_threshold = threshold});
    };
    CHECK(run(dead_columns::refuse, 0).status == quantization_status::as_requested);
    const auto refused = run(dead_columns::refuse, 1e-8);
    CHECK(refused.status == quantization_status::dead_columns_refused);
    CHECK(refused.dead_inputs == 2);
    CHECK_FALSE(refused);
    const auto rounded = run(dead_columns::round, 1e-8);
    const auto zeroed = run(dead_columns::zero, 1e-8);
    CHECK(rounded.dead_inputs == 2);
    for (const index_t j : {4, 11})
        for (index_t i = 0; i < 5; ++i) {
            CHECK(rounded.quantized.codes(i, j) == quantize_rtn(W, {.bits = 3}).codes(i, j));
            CHECK(values_of(zeroed.quantized)(i, j) == 0);
        }
    CHECK(rounded.output_error == Approx(output_error(W, values_of(rounded.quantized), H)));
    CHECK(zeroed.output_error == Approx(output_error(W, values_of(zeroed.quantized), H)));
}

TEST_CASE("quantize_optq: factoring in float changes few codes", "[quantize][optq][property]") {
    const auto [weights, H] = layers::make_layer(20, 64, layers::inputs::neighbours, 22);
    const Eigen::MatrixXf W = weights.cast<float>();
    const auto expected = quantize_optq(W, H, {.bits = 4}, {.precision = magr::factor_precision::float64});
    const auto result = quantize_optq(W, H, {.bits = 4}, {.precision = magr::factor_precision::float32});
    CHECK(expected.precision == magr::factor_precision::float64);
    CHECK(result.precision == magr::factor_precision::float32);
    CHECK(quantize_optq(W, H, {.bits = 4}).quantized.codes == result.quantized.codes);
    CHECK(result.status == quantization_status::as_requested);
    CHECK(result.output_error == Approx(expected.output_error.value()).epsilon(0.02));
    CHECK(result.output_error == Approx(output_error(W, result.quantized.dequantize(), H)).epsilon(1e-3));
}

TEST_CASE("quantize_optq: scales that f16 cannot hold are limited and counted", "[quantize][optq][edge]") {
    auto [W, H] = layers::make_layer(4, 20, layers::inputs::neighbours, 23);
    W.row(0) *= 1e7;
    W.row(1) *= 1e-9;
    W.row(2) *= 1e-4;
    for (const auto zero :
         {magr::zero_point::none, magr::zero_point::middle, magr::zero_point::integer, magr::zero_point::real, magr::zero_point::offset}) {
        const auto result = quantize_optq(W, H, {.bits = 4, .zero_point = zero, .storage = magr::storage_type::f16});
        CHECK(result.limits.largest == 1);
        CHECK(result.limits.smallest == 1);
        CHECK(result.limits.subnormal == 2);
        CHECK(values_of(result.quantized).allFinite());
    }
}

TEST_CASE("quantize_optq: hostile layers give finite results", "[quantize][optq][edge]") {
    std::mt19937 random(1);
    MatrixXd X = layers::normal_matrix(50, 24, random);
    const Eigen::VectorXd x = layers::normal_matrix(24, 1, random).col(0);
    X.col(3) = X.col(2);  // duplicated inputs
    X.col(5).setConstant(1e-20);
    X.col(9) *= 1e15;
    const MatrixXd grams[] = {X.transpose() * X, x * x.transpose(), MatrixXd::Constant(24, 24, 1e30), MatrixXd::Identity(24, 24) * 1e-30};
    MatrixXd W = layers::normal_matrix(9, 24, random);
    W.row(0).setZero();
    W.row(1) = W.row(2);
    W.row(3).setConstant(1e30);
    W.row(4) *= 1e30;
    W.row(5) *= 1e-30;
    W.row(6) *= 1e-42;  // denormal in float
    W.row(7).setConstant(-1e-42);
    W.col(8).setConstant(0.5);
    const Eigen::MatrixXf single = W.cast<float>();
    for (const MatrixXd& H : grams)
        for (const auto zero : {magr::zero_point::none, magr::zero_point::middle, magr::zero_point::integer, magr::zero_point::real,
                                magr::zero_point::offset})
            for (const auto range : {magr::range_search::min_max, magr::range_search::row_output_error})
                for (const index_t group : {24, 5}) {
                    const grid_options grid{.bits = 3, .zero_point = zero, .group_size = group, .range = range};
                    const auto result = quantize_optq(single, H, grid, {.order = column_order::act_order, .groups = group_update::live});
                    CAPTURE(static_cast<int>(zero), static_cast<int>(range), group);
                    REQUIRE(result);
                    CHECK(values_of(result.quantized).allFinite());
                    CHECK(std::isfinite(result.output_error.value()));
                    for (index_t i = 0; i < 9; ++i)
                        for (index_t j = 0; j < 24; ++j) CHECK(result.quantized.codes(i, j) <= 7);
                }
}

TEST_CASE("quantize_optq: what leaves the range of numbers is said to, and gives no codes", "[quantize][optq][edge][regression]") {
    // almost singular: the compensation in later columns grows far beyond the weights
    int overflowed = 0;
    for (unsigned seed = 0; seed < 300; ++seed) {
        std::mt19937 random(seed);
        const MatrixXd X = layers::normal_matrix(3, 6, random);
        const MatrixXd H = X.transpose() * X;
        const Eigen::MatrixXf W = (1e37 * layers::normal_matrix(2, 6, random)).cast<float>();
        const auto result = quantize_optq(W, H, {.bits = 2, .group_size = 2}, {.damping = 1e-9, .groups = group_update::live});
        if (result.status == quantization_status::overflowed) {
            ++overflowed;
            CHECK_FALSE(result);
            continue;
        }
        CHECK(values_of(result.quantized).allFinite());
        CHECK(std::isfinite(result.output_error.value()));
    }
    CHECK(overflowed > 0);
    const auto squares = quantize_optq(MatrixXd(MatrixXd::Constant(1, 2, 1e200)), MatrixXd(MatrixXd::Identity(2, 2)));
    CHECK(squares.status == quantization_status::overflowed);
}

TEST_CASE("quantize_optq: the bound of the loss does not depend on weights of dead inputs", "[quantize][optq][edge][regression]") {
    magr::matrix<double> W(1, 4), H(4, 4);
    for (index_t j = 0; j < 4; ++j) {
        W(0, j) = j == 2 ? 1e200 : static_cast<double>(j) + 1.3;
        H(j, j) = j == 2 ? 0 : 1;
    }
    const auto result = magr::quantize_optq(W, H, {.bits = 3, .group_size = 1});
    REQUIRE(result);
    CHECK(std::isfinite(*result.loss_bound));
    CHECK(result.bound_held() == true);
}

TEST_CASE("quantize_optq: the same bits with every executor", "[quantize][optq][determinism]") {
    auto [weights, gram] = layers::make_layer(600, 70, layers::inputs::outliers, 31);
    gram.row(20).setZero();
    gram.col(20).setZero();
    const Eigen::Matrix<Eigen::bfloat16, Eigen::Dynamic, Eigen::Dynamic> W = weights.cast<Eigen::bfloat16>();
    const MatrixXd H = gram;
    for (const auto update : {group_update::fixed, group_update::live, group_update::stale}) {
        const grid_options grid{.bits = 3, .group_size = 24};
        const optq_options options{.block_size = 32,
                                   .order = column_order::act_order,
                                   .groups = update,
                                   .dead = magr::dead_columns::zero,
                                   .rounding = magr::rounding_mode::stochastic,
                                   .seed = 5};
        const auto serial = quantize_optq(W, H, grid, options);
        REQUIRE(serial.status == quantization_status::as_requested);
        for (const index_t workers : {1, 2, 7}) {
            CAPTURE(static_cast<int>(update), workers);
            magr::thread_pool pool(workers);
            const auto result = quantize_optq(W, H, grid, options, pool);
            CHECK(result.quantized.codes == serial.quantized.codes);
            CHECK(result.quantized.scales == serial.quantized.scales);
            CHECK(result.quantized.zeros == serial.quantized.zeros);
            CHECK(result.clipped == serial.clipped);
            CHECK(result.loss.value() == serial.loss);
            CHECK(result.output_error == serial.output_error);
        }
    }
    const auto grids = magr::fit_grids(W, H, {.bits = 4});
    magr::thread_pool pool(2);
    CHECK(quantize_optq(W, H, grids, {}, pool).quantized.codes == quantize_optq(W, H, grids).quantized.codes);
}
