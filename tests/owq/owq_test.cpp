// SPDX-License-Identifier: MIT
#include <magr/owq/owq.hpp>

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include <magr/calibration/output_error.hpp>
#include <magr/feedback/feedback_factor.hpp>
#include <magr/fit/fit_grid.hpp>
#include <magr/grid/storage.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/pack.hpp>
#include <magr/parallel/thread_pool.hpp>
#include <magr/quantize/optq.hpp>

#include "quantize/layers.hpp"
#include "support/catch.hpp"

using Eigen::MatrixXd;
using Eigen::MatrixXf;
using magr::column_order;
using magr::index_t;
using magr::owq_options;
using magr::quantization_status;
using magr::quantize_optq;
using magr::quantize_owq;
using magr::storage_type;
using ids = std::vector<index_t>;

namespace {

/// Keeps k columns as they are, so that the mathematics holds without rounding.
owq_options exact(index_t k, column_order order = column_order::natural) {
    return {.weak_columns = k, .weak_storage = storage_type::native, .grid = {.bits = 3}, .optq = {.order = order}};
}

template <class Scalar>
MatrixXd values_of(const magr::owq_matrix<Scalar>& q) {
    const auto values = q.dequantize();
    MatrixXd out(values.rows(), values.cols());
    for (index_t i = 0; i < out.rows(); ++i)
        for (index_t j = 0; j < out.cols(); ++j) out(i, j) = static_cast<double>(values(i, j));
    return out;
}

MatrixXd damped(MatrixXd H, double damping = 0.01) {
    const Eigen::VectorXd diagonal = H.diagonal();
    double sum = 0, live = 0;
    for (const double value : diagonal) {
        sum += value;
        live += value > 0 ? 1 : 0;
    }
    for (index_t j = 0; j < H.cols(); ++j)
        if (diagonal[j] > 0) H(j, j) += damping * sum / live;
    return H;
}

double proxy(const MatrixXd& W, const MatrixXd& Q, const MatrixXd& H) { return ((Q - W) * H * (Q - W).transpose()).trace(); }

ids others(const ids& weak, index_t n) {
    ids rest;
    for (index_t j = 0; j < n; ++j)
        if (std::find(weak.begin(), weak.end(), j) == weak.end()) rest.push_back(j);
    return rest;
}

void remove_input(MatrixXd& H, index_t j) {
    H.row(j).setZero();
    H.col(j).setZero();
}

magr::weight_grids<double> unit_grids(index_t rows, index_t cols) {
    magr::weight_grids<double> grids;
    grids.bits = 4;
    grids.group_size = cols;
    grids.scales = grids.zeros = magr::matrix<double>(rows, 1);
    grids.group_of_column.resize(static_cast<std::size_t>(cols));
    for (index_t i = 0; i < rows; ++i) {
        grids.scales(i, 0) = 1;
        grids.zeros(i, 0) = 8;
    }
    return grids;
}

// An engine that knows nothing of weak columns would read zeros.
template <class Matrix>
concept packs = requires(const Matrix& q) { magr::pack_gptq(q); } || requires(const Matrix& q) { magr::pack_awq(q); } ||
                requires(const Matrix& q) { magr::pack_mlx(q); } || requires(const Matrix& q) { magr::pack_matmul_nbits(q); } ||
                requires(const Matrix& q) { magr::pack_compressed_tensors(q); } ||
                requires(const Matrix& q) { magr::pack_gguf(q, magr::ggml_type::q4_0); };
static_assert(packs<magr::quantized_matrix<float>> && !packs<magr::owq_matrix<float>> && !packs<magr::owq_result<float>>);

}  // namespace

TEST_CASE("owq_sensitivity: the worked example", "[quantize][owq]") {
    MatrixXd W(2, 4), H = Eigen::Vector4d(1, 100, 4, 2).asDiagonal();
    W << .3, .1, .45, .2, -.4, .05, .25, .5;
    const std::vector<double> found = magr::owq_sensitivity(W, H, unit_grids(2, 4)), expected{.25, 1.25, 1.06, .58};
    for (std::size_t j = 0; j < 4; ++j) CHECK(found[j] == Approx(expected[j]));
    CHECK(magr::owq_select(W, H, unit_grids(2, 4), 0).empty());
    CHECK(magr::owq_select(W, H, unit_grids(2, 4), 1) == ids{1});
    CHECK(magr::owq_select(W, H, unit_grids(2, 4), 2) == ids{1, 2});
    CHECK(magr::owq_select(W, H, unit_grids(2, 4), 3) == ids{1, 2, 3});
    CHECK(magr::owq_select(W, H, unit_grids(2, 4), 4) == ids{0, 1, 2, 3});
}

TEST_CASE("owq_select: equal columns by index, dead ones last", "[quantize][owq][edge]") {
    MatrixXd W = MatrixXd::Constant(3, 5, 0.25), H = MatrixXd::Identity(5, 5);
    remove_input(H, 0);
    remove_input(H, 3);
    W.col(0).setConstant(7.5);  // the largest error, which costs nothing
    W.col(4).setConstant(1);    // no error, but an input
    const auto grids = unit_grids(3, 5);
    CHECK(magr::owq_sensitivity(W, H, grids)[0] == 0);
    CHECK(magr::owq_select(W, H, grids, 2) == ids{1, 2});
    CHECK(magr::owq_select(W, H, grids, 3) == ids{1, 2, 4});
    CHECK(magr::owq_select(W, H, grids, 4) == ids{0, 1, 2, 4});
    H(1, 1) = 1.5;
    H(2, 2) = 2;
    CHECK(magr::owq_select(W, H, grids, 1) == ids{2});
    CHECK(magr::owq_select(MatrixXd(1e300 * W), MatrixXd(1e300 * H), grids, 1).size() == 1);
}

TEST_CASE("owq_select: selects by the options what quantize_owq keeps", "[quantize][owq][property]") {
    const auto [W, H] = layers::make_layer(9, 20, layers::inputs::outliers, 3);
    for (const std::optional<index_t> clips : {std::optional<index_t>{}, std::optional<index_t>{7}}) {
        owq_options options = exact(4);
        options.clips = clips;
        options.grid.group_size = 8;
        const ids weak = magr::owq_select(W, H, options);
        const auto result = quantize_owq(W, H, options);
        CHECK(result.quantized.weak_ids == weak);
        CHECK(std::is_sorted(weak.begin(), weak.end()));
        const std::vector<double> sensitivity = magr::owq_sensitivity(W, H, options);
        for (const index_t j : others(weak, 20))
            for (const index_t k : weak) CHECK(sensitivity[static_cast<std::size_t>(j)] <= sensitivity[static_cast<std::size_t>(k)]);
        if (!clips) {
            const auto grids = magr::fit_grids(W, H, {.bits = 3});
            CHECK(magr::owq_select(W, H, grids, 4) == weak);
            CHECK(magr::owq_sensitivity(W, H, grids) == sensitivity);
        }
    }
}

TEST_CASE("quantize_owq: without weak columns it is quantize_optq, bit for bit", "[quantize][owq][property]") {
    for (const auto kind : layers::all_inputs)
        for (const auto order : {column_order::natural, column_order::act_order})
            for (const std::optional<index_t> group : {std::optional<index_t>{}, std::optional<index_t>{8}})
                for (const auto range : {magr::range_search::min_max, magr::range_search::mse, magr::range_search::row_output_error})
                    for (const auto dead : {magr::dead_columns::round, magr::dead_columns::zero}) {
                        layers::layer l = layers::make_layer(40, 21, kind, 4);
                        const MatrixXd& W = l.W;
                        MatrixXd& H = l.H;
                        remove_input(H, 5);
                        owq_options options = exact(0, order);
                        options.clips = std::nullopt;
                        options.grid.group_size = group;
                        options.grid.range = range;
                        options.optq.dead = dead;
                        const auto check = [&](const auto& weights) {
                            const auto owq = quantize_owq(weights, H, options);
                            const auto optq = quantize_optq(weights, H, options.grid, options.optq);
                            CHECK(owq.quantized.codes.codes == optq.quantized.codes);
                            CHECK(owq.quantized.codes.scales == optq.quantized.scales);
                            CHECK(owq.quantized.codes.zeros == optq.quantized.zeros);
                            CHECK(owq.loss == optq.loss);
                            CHECK(owq.loss_bound == optq.loss_bound);
                            CHECK(owq.clipped == optq.clipped);
                            CHECK(owq.status == optq.status);
                            CHECK(owq.dead_inputs == optq.dead_inputs);
                            CHECK(*owq.output_error == Approx(*optq.output_error).epsilon(1e-3));
                            CHECK(owq.quantized.weak_ids.empty());
                        };
                        check(W);
                        check(MatrixXf(W.cast<float>()));
                        if (range != magr::range_search::min_max) continue;
                        options.clips = 10;
                        options.grid.range = std::nullopt;
                        const auto searched = quantize_owq(W, H, options);
                        CHECK(quantize_optq(W, H, searched.quantized.codes, options.optq).quantized.codes ==
                              searched.quantized.codes.codes);
                    }
}

TEST_CASE("quantize_owq: weak columns are the least-squares optimum given the codes", "[quantize][owq][oracle]") {
    for (const auto kind : layers::all_inputs)
        for (const auto order : {column_order::natural, column_order::act_order})
            for (const index_t k : {1, 4, 19}) {
                const auto [W, H] = layers::make_layer(5, 20, kind, 5);
                const auto result = quantize_owq(W, H, exact(k, order));
                const ids& weak = result.quantized.weak_ids;
                REQUIRE(static_cast<index_t>(weak.size()) == k);
                const MatrixXd Hd = damped(H), Q = values_of(result.quantized);
                const ids rest = others(weak, 20);
                const MatrixXd change = -(Q - W)(Eigen::all, rest) * Hd(rest, weak) * Hd(weak, weak).llt().solve(MatrixXd::Identity(k, k));
                const MatrixXd expected = W(Eigen::all, weak) + change;
                CAPTURE(kind, k);
                CHECK((Q(Eigen::all, weak) - expected).norm() <= 1e-9 * expected.norm());
                CHECK(proxy(W, Q, Hd) == Approx(2 * *result.loss).epsilon(1e-9).margin(1e-15));
                CHECK(*result.output_error == Approx(magr::output_error(W, Q, H)));
                CHECK(*result.loss <= *result.loss_bound + (result.clipped > 0 ? 1e300 : 0));

                owq_options stored = exact(k, order);
                for (const auto type : {storage_type::f16, storage_type::bf16}) {
                    stored.weak_storage = type;
                    const auto rounded = quantize_owq(W, H, stored);
                    CHECK(rounded.quantized.codes.codes == result.quantized.codes.codes);
                    CHECK(rounded.loss == result.loss);
                    for (index_t i = 0; i < 5; ++i)
                        for (index_t j = 0; j < k; ++j)
                            CHECK(rounded.quantized.weak_values(i, j) ==
                                  magr::round_to_storage<double>(result.quantized.weak_values(i, j), type));
                    CHECK(proxy(W, values_of(rounded.quantized), Hd) >= 2 * *result.loss * (1 - 1e-9));
                    CHECK(*rounded.output_error == Approx(magr::output_error(W, values_of(rounded.quantized), H)));
                    CHECK(rounded.weak_limited == 0);
                }
            }
}

TEST_CASE("quantize_owq: the other codes are those of OPTQ with weak columns last, and the loss is less by theirs",
          "[quantize][owq][oracle]") {
    for (const auto kind : {layers::inputs::neighbours, layers::inputs::outliers})
        for (const index_t k : {2, 6}) {
            const auto [W, H] = layers::make_layer(7, 18, kind, 6);
            const auto result = quantize_owq(W, H, exact(k));
            ids order = others(result.quantized.weak_ids, 18);
            order.insert(order.end(), result.quantized.weak_ids.begin(), result.quantized.weak_ids.end());
            const MatrixXd W_last = W(Eigen::all, order), H_last = H(order, order);
            const auto all = quantize_optq(W_last, H_last, result.quantized.codes, {});
            for (index_t i = 0; i < 7; ++i)
                for (index_t j = 0; j < 18 - k; ++j)
                    CHECK(all.quantized.codes(i, j) == result.quantized.codes.codes(i, order[static_cast<std::size_t>(j)]));
            CHECK(result.loss < all.loss);
            ids natural(18);
            std::iota(natural.begin(), natural.end(), index_t{0});
            const auto factor = magr::factor_feedback<double>(magr::as_const_view(H_last), natural, {});
            MatrixXd T(18, 18), Q(7, 18);
            for (index_t a = 0; a < 18; ++a)
                for (index_t b = 0; b < 18; ++b) T(b, a) = factor.feedback(a, b);
            const auto values = all.quantized.dequantize();
            for (index_t i = 0; i < 7; ++i)
                for (index_t j = 0; j < 18; ++j) Q(i, j) = values(i, j);
            const MatrixXd rounding_errors = (Q - W_last) * T;
            double of_weak = 0;
            for (index_t j = 18 - k; j < 18; ++j)
                of_weak += factor.pivots[static_cast<std::size_t>(j)] * rounding_errors.col(j).squaredNorm() / 2;
            CHECK(*result.loss == Approx(*all.loss - of_weak).epsilon(1e-9));
        }
}

TEST_CASE("quantize_owq: weak columns lower the output error where inputs differ in size", "[quantize][owq]") {
    const auto [W, H] = layers::make_layer(30, 40, layers::inputs::outliers, 7);
    double before = std::numeric_limits<double>::infinity();
    for (const index_t k : {0, 2, 4, 8}) {
        owq_options options = exact(k);
        options.weak_storage = storage_type::f16;
        const double error = *quantize_owq(W, H, options).output_error;
        CHECK(error < before);
        before = error;
    }
}

TEST_CASE("quantize_owq: with weak columns alone it returns W", "[quantize][owq][edge]") {
    const auto [W, H] = layers::make_layer(4, 6, layers::inputs::neighbours, 8);
    CHECK(values_of(quantize_owq(W, H, exact(6)).quantized) == W);
    const Eigen::Matrix<Eigen::half, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> half = W.cast<Eigen::half>();
    const auto result = quantize_owq(half, H, {.weak_columns = 6});
    CHECK(values_of(result.quantized) == MatrixXd(half.cast<double>()));
    CHECK(result.loss == 0);
    CHECK(*result.output_error == 0);
    CHECK(result.loss_bound == 0);
    const MatrixXd one_row = W.topRows(1), one_column = W.leftCols(1);
    CHECK(quantize_owq(one_row, H, exact(2)).quantized.weak_values.cols() == 2);
    const MatrixXd one = H.topLeftCorner(1, 1);
    CHECK(values_of(quantize_owq(one_column, one, exact(1)).quantized) == one_column);
    CHECK(quantize_owq(one_column, one, exact(0)));
}

TEST_CASE("quantize_owq: codes of weak columns are the zero point, and grids do not depend on their weights", "[quantize][owq][property]") {
    const auto [W, H] = layers::make_layer(40, 24, layers::inputs::outliers, 9);
    for (const auto zero : {magr::zero_point::integer, magr::zero_point::middle, magr::zero_point::none})
        for (const std::optional<index_t> clips : {std::optional<index_t>{}, std::optional<index_t>{12}})
            for (const std::optional<index_t> group : {std::optional<index_t>{}, std::optional<index_t>{5}})
                for (const auto order : {column_order::natural, column_order::act_order}) {
                    owq_options options = exact(6, order);
                    options.clips = clips;
                    options.grid.group_size = group;
                    options.grid.zero_point = zero;
                    const auto q = quantize_owq(W, H, options).quantized;
                    for (index_t i = 0; i < 40; ++i)
                        for (const index_t j : q.weak_ids)
                            CHECK(q.codes.codes(i, j) == q.codes.zeros(i, q.codes.group_of_column[static_cast<std::size_t>(j)]));
                    for (index_t j = 0; j < 24; ++j) CHECK(q.codes.group_of_column[static_cast<std::size_t>(j)] == j / group.value_or(24));
                    if (clips) continue;
                    MatrixXd without = W, masked = H;  // a weak column is like one that is not there
                    for (const index_t j : q.weak_ids) {
                        without.col(j).setZero();
                        remove_input(masked, j);
                    }
                    const auto grids = magr::fit_grids(without, masked, options.grid);
                    CHECK(grids.scales == q.codes.scales);
                    CHECK(grids.zeros == q.codes.zeros);
                }
}

TEST_CASE("quantize_owq: takes the best of all clips and zero points", "[quantize][owq][oracle]") {
    const auto [W, H] = layers::make_layer(6, 17, layers::inputs::independent, 10);
    const auto error = [&, &W = W](index_t i, double scale, double zero, double largest) {
        double sum = 0;
        for (index_t j = 0; j < 17; ++j)
            sum += std::pow(std::abs(scale * std::clamp(std::nearbyint(W(i, j) / scale), -zero, largest - zero) - W(i, j)), 2.4);
        return sum;
    };
    for (const int bits : {2, 3, 4})
        for (const auto kind : {magr::zero_point::integer, magr::zero_point::middle, magr::zero_point::none}) {
            owq_options options = exact(0);
            options.grid.bits = bits;
            options.grid.zero_point = kind;
            const auto q = quantize_owq(W, H, options).quantized.codes;
            const double largest = magr::largest_code(bits), middle = (largest + 1) / 2;
            const auto shrunk = magr::fit_grids(
                W, {.bits = bits, .zero_point = kind, .range = magr::range_search::mse, .candidates = magr::range_candidates::shrink});
            for (index_t i = 0; i < 6; ++i) {
                const double low = std::min(0.0, W.row(i).minCoeff()), high = std::max(0.0, W.row(i).maxCoeff());
                double least = std::numeric_limits<double>::infinity(), best_scale = 0, best_zero = 0;
                for (int clip = 1; clip <= 100; ++clip)
                    for (double zero = 0; zero <= largest; ++zero) {
                        if (kind == magr::zero_point::none && zero != middle) continue;
                        if (kind == magr::zero_point::middle && zero != middle && zero != middle - 1) continue;
                        const double whole = kind == magr::zero_point::none     ? std::max(high, -low) / middle
                                             : kind == magr::zero_point::middle ? std::min(std::max(-low / middle, high / (middle - 1)),
                                                                                           std::max(-low / (middle - 1), high / middle))
                                                                                : (high - low) / largest;
                        const double found = error(i, whole * clip / 100, zero, largest);
                        if (found >= least) continue;
                        least = found;
                        best_scale = whole * clip / 100;
                        best_zero = zero;
                    }
                CAPTURE(bits, i);
                CHECK(q.scales(i, 0) == Approx(best_scale));
                CHECK(q.zeros(i, 0) == best_zero);
                if (kind == magr::zero_point::integer)
                    CHECK(least <= error(i, shrunk.scales(i, 0), shrunk.zeros(i, 0), largest) * (1 + 1e-9));
            }
        }
}

TEST_CASE("quantize_owq: the search for grids takes zeros, huge and tiny weights", "[quantize][owq][edge]") {
    const float most = std::numeric_limits<float>::max();
    for (const float size : {most, 1e-40f, 1e-30f, 0.0f}) {
        MatrixXf W(2, 3);
        W << -size, size / 2, size / 3, size, size, 0;
        for (const auto kind : {magr::zero_point::integer, magr::zero_point::middle, magr::zero_point::none}) {
            const MatrixXf H = MatrixXf::Identity(3, 3);
            const auto result = quantize_owq(W, H, {.weak_columns = 1, .weak_storage = storage_type::f32, .grid = {.zero_point = kind}});
            CAPTURE(size);
            REQUIRE((result || result.status == quantization_status::overflowed));
            if (size < 1) {
                REQUIRE(result);
                CHECK((values_of(result.quantized) - W.cast<double>()).cwiseAbs().maxCoeff() <= std::max<double>(0.5 * size, 1e-38));
            }
        }
    }
}

TEST_CASE("quantize_owq: dead columns decide nothing, and are kept only if nothing else is left", "[quantize][owq][dead]") {
    auto [W, H] = layers::make_layer(8, 10, layers::inputs::neighbours, 11);
    for (const index_t j : {0, 4, 7}) remove_input(H, j);
    MatrixXd other = W;
    for (const index_t j : {0, 4, 7}) other.col(j) *= 100;
    for (const auto order : {column_order::natural, column_order::act_order}) {
        const auto a = quantize_owq(W, H, exact(3, order)), b = quantize_owq(other, H, exact(3, order));
        CHECK(a.dead_inputs == 3);
        CHECK(a.quantized.weak_ids == b.quantized.weak_ids);
        CHECK(a.quantized.weak_values == b.quantized.weak_values);
        CHECK(a.quantized.codes.scales == b.quantized.codes.scales);
        CHECK(a.loss == b.loss);
        for (const index_t j : {0, 4, 7}) CHECK(std::count(a.quantized.weak_ids.begin(), a.quantized.weak_ids.end(), j) == 0);
        CHECK(quantize_owq(W, H, exact(8, order)).quantized.weak_ids == ids{0, 1, 2, 3, 5, 6, 8, 9});
    }
    owq_options options = exact(8);
    options.optq.dead = magr::dead_columns::zero;
    CHECK(quantize_owq(W, H, options).quantized.weak_values(0, 0) == 0);
    options.optq.dead = magr::dead_columns::refuse;
    CHECK(quantize_owq(W, H, options).status == quantization_status::dead_columns_refused);
    CHECK(!quantize_owq(W, H, options));
    const MatrixXd nothing = MatrixXd::Zero(10, 10);
    CHECK(quantize_owq(W, nothing, exact(2)).quantized.weak_ids == ids{0, 1});
    CHECK(quantize_owq(W, nothing, exact(2)).loss == 0);
    // the group of columns 4 and 5, of which the live one is weak, is fitted to the dead one
    MatrixXd pair = MatrixXd::Identity(2, 2);
    pair(0, 0) = 0;
    const MatrixXd w = (MatrixXd(1, 2) << 3, 50).finished();
    CHECK(values_of(quantize_owq(w, pair, exact(1)).quantized)(0, 0) == Approx(3));
}

TEST_CASE("quantize_owq: dead columns by a threshold", "[quantize][owq][dead]") {
    auto [W, H] = layers::make_layer(8, 10, layers::inputs::neighbours, 12);
    H.row(3) *= 1e-6;
    H.col(3) *= 1e-6;
    owq_options options = exact(9);
    options.grid.dead_threshold = 1e-3;
    const auto result = quantize_owq(W, H, options);
    CHECK(result.dead_inputs == 1);
    CHECK(result.quantized.weak_ids == others({3}, 10));
    CHECK(*result.output_error == Approx(magr::output_error(W, values_of(result.quantized), H)));
    CHECK(magr::owq_select(W, H, options) == result.quantized.weak_ids);
}

TEST_CASE("quantize_owq: what happens if H cannot be factored is in the status", "[quantize][owq][failure]") {
    const MatrixXd W = layers::make_layer(4, 6, layers::inputs::independent, 13).W;
    MatrixXd hopeless = MatrixXd::Identity(6, 6);
    hopeless(0, 2) = hopeless(2, 0) = 1e6;
    owq_options options = exact(2);
    CHECK(quantize_owq(W, hopeless, options).status == quantization_status::failed);
    CHECK(!quantize_owq(W, hopeless, options));
    options.optq.on_failure = magr::factor_fallback::round_to_nearest;
    for (const auto rounding : {magr::rounding_mode::nearest, magr::rounding_mode::stochastic}) {
        options.optq.rounding = rounding;
        const auto result = quantize_owq(W, hopeless, options);
        CHECK(result.status == quantization_status::rounded_to_nearest);
        REQUIRE(result);
        for (std::size_t k = 0; k < 2; ++k)
            for (index_t i = 0; i < 4; ++i) {
                const index_t j = result.quantized.weak_ids[k];
                CHECK(result.quantized.weak_values(i, static_cast<index_t>(k)) == W(i, j));
                CHECK(result.quantized.codes.codes(i, j) == result.quantized.codes.zeros(i, 0));
            }
    }
}

TEST_CASE("quantize_owq: weak values beyond their type are limited and counted", "[quantize][owq][edge]") {
    auto [W, H] = layers::make_layer(3, 5, layers::inputs::independent, 14);
    W(1, 2) = 1e6;
    const auto result = quantize_owq(W, H, {.weak_columns = 5});
    CHECK(result.weak_limited == 1);
    CHECK(result.quantized.weak_values(1, 2) == 65504);
    CHECK(*result.output_error > 0.1);
    CHECK(quantize_owq(W, H, {.weak_columns = 5, .weak_storage = storage_type::bf16}).weak_limited == 0);
}

TEST_CASE("quantize_owq: stochastic rounding, every storage and layout, the same bits for every executor", "[quantize][owq][property]") {
    const auto [W, H] = layers::make_layer(300, 40, layers::inputs::neighbours, 15);
    using rows_of_half = Eigen::Matrix<Eigen::half, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    const rows_of_half half = W.cast<Eigen::half>();
    const MatrixXf copy = half.cast<float>();
    owq_options options{.weak_columns = 4, .grid = {.bits = 3, .group_size = 16}, .clips = 5, .optq = {.block_size = 16}};
    for (const auto rounding : {magr::rounding_mode::nearest, magr::rounding_mode::stochastic}) {
        options.optq.rounding = rounding;
        const auto serial = quantize_owq(copy, H, options), from_half = quantize_owq(half, H, options);
        const magr::hessian shared(H);
        magr::thread_pool pool(3);
        for (const auto& other : {from_half, quantize_owq(copy, shared, options, pool)}) {
            CHECK(other.quantized.codes.codes == serial.quantized.codes.codes);
            CHECK(other.quantized.codes.scales == serial.quantized.codes.scales);
            CHECK(other.quantized.weak_values == serial.quantized.weak_values);
            CHECK(other.loss == serial.loss);
            CHECK(other.output_error == serial.output_error);
        }
        CHECK(magr::owq_sensitivity(copy, H, options, pool) == magr::owq_sensitivity(copy, H, options));
        CHECK(*serial.loss <= *serial.loss_bound + (serial.clipped > 0 ? 1e300 : 0));
    }
}

TEST_CASE("owq_matrix: counts everything that is stored", "[quantize][owq]") {
    const auto [W, H] = layers::make_layer(10, 20, layers::inputs::independent, 16);
    owq_options options{.weak_columns = 3, .grid = {.bits = 3, .group_size = 8, .storage = storage_type::f16}};
    const double bits = 200 * 3 + 30 * (16 + 3) + 3 * (10 * 16 + 32);
    CHECK(quantize_owq(W, H, options).quantized.bits_per_weight() == Approx(bits / 200));
    options.grid.zero_point = magr::zero_point::none;
    options.weak_storage = storage_type::native;
    CHECK(quantize_owq(W, H, options).quantized.bits_per_weight() == Approx((200 * 3 + 30 * 16 + 3 * (10 * 64 + 32)) / 200.0));
}

TEST_CASE("quantize_owq: bad input is refused", "[quantize][owq][contract]") {
    const auto [W, H] = layers::make_layer(3, 4, layers::inputs::independent, 17);
    const auto rejected = [&, &W = W, &H = H](const auto& change) {
        owq_options options;
        change(options);
        CHECK_THROWS_AS(quantize_owq(W, H, options), magr::option_error);
        CHECK_THROWS_AS(magr::owq_select(W, H, options), magr::option_error);
    };
    rejected([](auto& o) { o.weak_columns = -1; });
    rejected([](auto& o) { o.weak_columns = 5; });
    rejected([](auto& o) { o.weak_storage = static_cast<storage_type>(7); });
    rejected([](auto& o) { o.grid.zero_point = magr::zero_point::real; });
    rejected([](auto& o) { o.grid.zero_point = magr::zero_point::offset; });
    rejected([](auto& o) { o.grid.bits = 9; });
    rejected([](auto& o) { o.grid = {.bits = 2, .zero_point = magr::zero_point::none, .levels = {-1, 0, 1}}; });
    rejected([](auto& o) { o.clips = 0; });
    rejected([](auto& o) { o.grid.range = magr::range_search::min_max; });
    rejected([](auto& o) { o.grid.range_factor = 0.9; });
    rejected([](auto& o) { o.optq.damping = -1; });
    rejected([](auto& o) { o.optq.groups = magr::group_update::live; });
    rejected([](auto& o) { o.optq.order = column_order::group_aware; });
    MatrixXd bad = W;
    bad(2, 1) = std::numeric_limits<double>::quiet_NaN();
    CHECK_THROWS_AS(quantize_owq(bad, H), magr::value_error);
    CHECK_THROWS_AS(magr::owq_sensitivity(bad, H, owq_options{}), magr::value_error);
    CHECK_THROWS_AS(quantize_owq(W, MatrixXd(H.topLeftCorner(3, 3))), magr::shape_error);
    CHECK_THROWS_AS(quantize_owq(MatrixXd(0, 4), H), magr::shape_error);
    CHECK_THROWS_AS(magr::owq_select(W, H, unit_grids(3, 4), 5), magr::option_error);
    CHECK_THROWS_AS(magr::owq_select(W, H, unit_grids(3, 4), -1), magr::option_error);
    CHECK_THROWS_AS(magr::owq_sensitivity(W, H, unit_grids(2, 4)), magr::shape_error);
}

TEST_CASE("owq_weak_columns: as many as fit below the target, and an even number", "[quantize][owq][budget]") {
    CHECK(magr::owq_weak_columns(3.01, 3, {4096, 4096}) == 2);   // 3.15 columns
    CHECK(magr::owq_weak_columns(3.1, 3, {4096, 4096}) == 30);   // 31.5
    CHECK(magr::owq_weak_columns(4.01, 4, {4096, 11008}) == 8);  // 9.2
    CHECK(magr::owq_weak_columns(3, 3, {10, 10}) == 0);
    CHECK(magr::owq_weak_columns(16, 3, {10, 10}) == 10);
    CHECK(magr::owq_weak_columns(16, 3, {10, 11}) == 10);
    CHECK(magr::owq_weak_columns(3 + 13.0 * 2 / 7, 3, {5, 7}) == 2);  // exactly two columns
    std::mt19937 random(18);
    for (int trial = 0; trial < 300; ++trial) {
        std::vector<magr::matrix_shape> layers(1 + random() % 7);
        double weights = 0, extra = 0;
        for (auto& layer : layers) {
            layer = {1 + static_cast<index_t>(random() % 300), 1 + static_cast<index_t>(random() % 300)};
            weights += static_cast<double>(layer.rows * layer.cols);
        }
        const int bits = 2 + static_cast<int>(random() % 7);
        const double target = bits + (16 - bits) * static_cast<double>(random() % 1000) / 4000;
        const auto counts = magr::owq_weak_columns(target, bits, layers);
        REQUIRE(counts.size() == layers.size());
        for (std::size_t l = 0; l < layers.size(); ++l) {
            CHECK(counts[l] % 2 == 0);
            CHECK(counts[l] >= 0);
            CHECK(counts[l] <= layers[l].cols);
            const auto rows = static_cast<double>(layers[l].rows);
            extra += static_cast<double>(counts[l]) * rows * (16 - bits);
            const double share = (target - bits) * weights / static_cast<double>(layers.size());
            CHECK((counts[l] + 2 > layers[l].cols || static_cast<double>(counts[l] + 2) * rows * (16 - bits) > share * (1 - 1e-9)));
        }
        CHECK(bits + extra / weights <= target * (1 + 1e-14));
    }
    CHECK_THROWS_AS(magr::owq_weak_columns(2.9, 3, {4, 4}), magr::option_error);
    CHECK_THROWS_AS(magr::owq_weak_columns(16.1, 3, {4, 4}), magr::option_error);
    CHECK_THROWS_AS(magr::owq_weak_columns(std::nan(""), 3, {4, 4}), magr::option_error);
    CHECK_THROWS_AS(magr::owq_weak_columns(10, 9, {4, 4}), magr::option_error);
    CHECK_THROWS_AS(magr::owq_weak_columns(4, 3, {0, 4}), magr::shape_error);
    CHECK_THROWS_AS(magr::owq_weak_columns(4, 3, std::vector<magr::matrix_shape>{}), magr::shape_error);
}
