// SPDX-License-Identifier: MIT
#include <magr/attention/boa.hpp>

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <Eigen/LU>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <magr/compensate_drift.hpp>
#include <magr/drift/drift.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/parallel/thread_pool.hpp>
#include <magr/quantize/optq.hpp>
#include <magr/quantize/rtn.hpp>

#include "support/catch.hpp"
#include "support/names.hpp"
#include "support/random_matrix.hpp"

using Eigen::MatrixXd;
using Eigen::MatrixXf;
using magr::boa_options;
using magr::boa_status;
using magr::column_order;
using magr::index_t;
using tests::random_matrix;

namespace {

/// The Gram matrix of similar inputs.
MatrixXd correlated_gram(index_t inputs, unsigned seed) {
    const MatrixXd mixing = random_matrix(inputs, inputs, seed + 1) + 2 * MatrixXd::Identity(inputs, inputs);
    const MatrixXd X = random_matrix(3 * inputs, inputs, seed) * mixing;
    return X.transpose() * X;
}

MatrixXd damped(const MatrixXd& H, double damping) { return H + damping * H.diagonal().mean() * MatrixXd::Identity(H.rows(), H.cols()); }

template <class T>
Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic> to_eigen(const magr::matrix<T>& m) {
    return Eigen::Map<const Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>(m.data(), m.rows(), m.cols());
}

template <class Scalar>
MatrixXd values_of(const magr::quantized_matrix<Scalar>& q) {
    return to_eigen(q.dequantize()).template cast<double>();
}

/// tr(H_row E H E^T)
double loss_of(const MatrixXd& E, const MatrixXd& H, const MatrixXd& H_row) { return (H_row * E * H * E.transpose()).trace(); }

/// The grids of some rows.
magr::weight_grids<double> rows_of(const magr::weight_grids<double>& grids, const std::vector<index_t>& rows) {
    magr::weight_grids<double> some = grids;
    some.scales = some.zeros = magr::matrix<double>(static_cast<index_t>(rows.size()), grids.scales.cols());
    for (std::size_t i = 0; i < rows.size(); ++i)
        for (index_t g = 0; g < grids.scales.cols(); ++g) {
            some.scales(static_cast<index_t>(i), g) = grids.scales(rows[i], g);
            some.zeros(static_cast<index_t>(i), g) = grids.zeros(rows[i], g);
        }
    return some;
}

/// W as one row with the Kronecker product of two matrices, where row r of W has the grid r.
struct kronecker_problem {
    MatrixXd W, H;
    magr::weight_grids<double> grids;

    kronecker_problem(const MatrixXd& w, const MatrixXd& column_H, const MatrixXd& row_H, const magr::weight_grids<double>& of_rows)
        : W(1, w.size()), H(w.size(), w.size()), grids(of_rows) {
        const index_t d = w.rows(), n = w.cols();
        grids.group_size = n;
        grids.group_of_column.clear();
        grids.scales = grids.zeros = magr::matrix<double>(1, d);
        for (index_t r = 0; r < d; ++r) {
            grids.scales(0, r) = of_rows.scales(r, 0);
            grids.zeros(0, r) = of_rows.zeros(r, 0);
            W.middleCols(r * n, n) = w.row(r);
            for (index_t j = 0; j < n; ++j) grids.group_of_column.push_back(r);
            for (index_t s = 0; s < d; ++s) H.block(r * n, s * n, n, n) = row_H(r, s) * column_H;
        }
    }
};

/// Blocks of rows by the definition: each is OPTQ of what is left, then the rows behind it move to the least-squares optimum.
magr::matrix<std::uint8_t> by_least_squares(MatrixXd W, const MatrixXd& H, const MatrixXd& row_H, const magr::weight_grids<double>& grids,
                                            index_t step) {
    magr::matrix<std::uint8_t> codes(W.rows(), W.cols());
    for (index_t begin = 0; begin < W.rows(); begin += step) {
        const index_t width = std::min(step, W.rows() - begin), rest = W.rows() - begin - width;
        std::vector<index_t> rows;
        for (index_t i = 0; i < width; ++i) rows.push_back(begin + i);
        const MatrixXd block = W.middleRows(begin, width);
        const auto q = magr::quantize_optq(block, H, rows_of(grids, rows), {.damping = 0}).quantized;
        for (index_t i = 0; i < width; ++i) std::copy_n(&q.codes(i, 0), W.cols(), &codes(begin + i, 0));
        if (rest > 0)
            W.bottomRows(rest) -=
                row_H.bottomRightCorner(rest, rest).ldlt().solve(row_H.block(begin + width, begin, rest, width) * (values_of(q) - block));
    }
    return codes;
}

magr::matrix<std::uint8_t> codes_of(const std::vector<std::vector<int>>& rows) {
    magr::matrix<std::uint8_t> codes(static_cast<index_t>(rows.size()), static_cast<index_t>(rows.front().size()));
    for (std::size_t i = 0; i < rows.size(); ++i)
        for (std::size_t j = 0; j < rows[i].size(); ++j)
            codes(static_cast<index_t>(i), static_cast<index_t>(j)) = static_cast<std::uint8_t>(rows[i][j]);
    return codes;
}

}  // namespace

TEST_CASE("quantize_boa: an instance computed by hand in double precision", "[attention][boa][golden]") {
    const MatrixXd W = (MatrixXd(4, 3) << .07, -.03, -.07, .67, -.07, -.06, .26, -.57, .43, -.31, -.37, -.52).finished();
    const MatrixXd H = (MatrixXd(3, 3) << 9, -7, -1, -7, 17, -1, -1, -1, 3).finished();
    const MatrixXd H_row = (MatrixXd(4, 4) << 14, -2, -4, -3, -2, 11, 1, -9, -4, 1, 4, 3, -3, -9, 3, 17).finished();
    magr::weight_grids<double> grids = magr::fit_grids(W, {.bits = 4});
    const double scales[] = {.12, .15, .12, .1}, zeros[] = {8, 7, 8, 8};
    for (index_t i = 0; i < 4; ++i) {
        grids.scales(i, 0) = scales[i];
        grids.zeros(i, 0) = zeros[i];
    }
    const auto loss = [&](const auto& q) { return loss_of(values_of(q) - W, H, H_row); };

    CHECK(loss(magr::quantize_rtn(W, grids)) == Approx(4.603).margin(5e-4));
    const auto optq = magr::quantize_optq(W, H, grids, {.damping = 0});
    CHECK(optq.quantized.codes == codes_of({{9, 8, 8}, {11, 6, 6}, {10, 3, 11}, {5, 4, 3}}));
    CHECK(loss(optq.quantized) == Approx(1.4848).margin(5e-5));

    const auto boa = magr::quantize_boa(W, H, H_row, grids, {.damping = 0});
    REQUIRE(boa);
    CHECK(boa.status == boa_status::as_requested);
    CHECK(boa.quantized.codes == codes_of({{9, 8, 8}, {12, 7, 7}, {10, 3, 12}, {5, 5, 3}}));
    CHECK(loss(boa.quantized) == Approx(1.0865).margin(5e-5));
    CHECK(2 * boa.loss == Approx(loss(boa.quantized)).epsilon(1e-9));
    CHECK(boa.loss_before_scales == boa.loss);

    const auto by_two = magr::quantize_boa(W, H, H_row, grids, {.damping = 0, .rows_per_step = 2});
    CHECK(by_two.quantized.codes == codes_of({{9, 8, 8}, {11, 6, 6}, {11, 4, 13}, {4, 4, 2}}));
    CHECK(loss(by_two.quantized) == Approx(1.2768).margin(5e-5));
    CHECK(2 * by_two.loss == Approx(loss(by_two.quantized)).epsilon(1e-9));

    const auto refined = magr::quantize_boa(W, H, H_row, grids, {.damping = 0, .scale_passes = 1});
    CHECK(refined.quantized.codes == boa.quantized.codes);
    CHECK(refined.scale_changes == 4);
    const double expected[] = {.0931746032, .1383376623, .1235102136, .1029120591};
    for (index_t i = 0; i < 4; ++i) CHECK(refined.quantized.scales(i, 0) == Approx(expected[i]).margin(5e-11));
    CHECK(loss(refined.quantized) == Approx(.6083035021).margin(5e-11));
    CHECK(2 * refined.loss == Approx(.6083035021).margin(5e-11));
    CHECK(2 * refined.loss_before_scales == Approx(loss(boa.quantized)).epsilon(1e-9));
}

TEST_CASE("quantize_boa: OPTQ with the Kronecker product", "[attention][boa][oracle]") {
    for (unsigned seed = 0; seed < 12; ++seed) {
        const index_t d = 1 + seed % 7, n = 1 + 3 * (seed % 5);
        const MatrixXd W = random_matrix(d, n, seed), H = correlated_gram(n, 10 * seed + 1), H_row = correlated_gram(d, 10 * seed + 5);
        const auto grids = magr::fit_grids(W, {.bits = 3});
        const auto boa = magr::quantize_boa(W, H, H_row, grids, {.damping = 0.02});
        const kronecker_problem whole(W, damped(H, 0.02), damped(H_row, 0.02), grids);
        const auto optq = magr::quantize_optq(whole.W, whole.H, whole.grids, {.damping = 0});
        REQUIRE(boa);
        CHECK(std::equal(boa.quantized.codes.data(), boa.quantized.codes.data() + d * n, optq.quantized.codes.data()));
        CHECK(boa.loss == Approx(*optq.loss).epsilon(1e-9));
        CHECK(boa.clipped == optq.clipped);
    }
}

TEST_CASE("quantize_boa: dead columns and dead rows neither hand on errors nor take them", "[attention][boa][dead]") {
    MatrixXd H = correlated_gram(12, 3), H_row = correlated_gram(6, 4);
    for (const index_t j : {2, 11}) H.row(j).setZero(), H.col(j).setZero();
    for (const index_t i : {0, 4}) H_row.row(i).setZero(), H_row.col(i).setZero();
    MatrixXd W = random_matrix(6, 12, 5);
    W(1, 2) = 40;  // far outside of its grid: an error that must not be handed on
    W(4, 3) = -30;
    const auto grids = magr::fit_grids(MatrixXd(random_matrix(6, 12, 5)), {.bits = 3});
    const kronecker_problem whole(W, H, H_row, grids);
    const auto optq = magr::quantize_optq(whole.W, whole.H, whole.grids, {.damping = 0});
    const auto boa = magr::quantize_boa(W, H, H_row, grids, {.damping = 0});
    const auto by_columns = magr::quantize_optq(W, H, grids, {.damping = 0});  // what is left for dead rows
    for (index_t i = 0; i < 6; ++i) {
        const std::uint8_t* const expected = i == 0 || i == 4 ? &by_columns.quantized.codes(i, 0) : &optq.quantized.codes(0, 12 * i);
        CHECK(std::equal(expected, expected + 12, &boa.quantized.codes(i, 0)));
    }
    CHECK(boa.loss == Approx(*optq.loss).epsilon(1e-9));
    CHECK(boa.dead_inputs == 2);
    CHECK(boa.dead_rows == 2);

    // no input counts: everything is rounded to nearest, at no cost
    const MatrixXd no_H = MatrixXd::Zero(12, 12), no_H_row = MatrixXd::Zero(6, 6);
    const auto nearest = magr::quantize_rtn(W, grids);
    for (const index_t step : {1, 4}) {
        const boa_options options{.rows_per_step = step, .scale_passes = 1};
        for (const auto& nothing :
             {magr::quantize_boa(W, no_H, H_row, grids, options), magr::quantize_boa(W, no_H, no_H_row, grids, options)}) {
            CHECK(nothing.quantized.codes == nearest.codes);
            CHECK(nothing.quantized.scales == nearest.scales);
            CHECK(nothing.loss == 0);
        }
    }
    CHECK(magr::quantize_boa(W, H, no_H_row, grids).quantized.codes == magr::quantize_optq(W, H, grids).quantized.codes);

    // a column may be dead by its threshold, or the caller's
    H.row(2).setConstant(1e-9), H.col(2).setConstant(1e-9);
    CHECK(magr::quantize_boa(W, H, H_row, grids, {.dead_threshold = 1e-6}).dead_inputs == 2);
    CHECK(magr::quantize_boa(W, magr::hessian(H, 1e-6), H_row, grids).dead_inputs == 2);
    CHECK(magr::quantize_boa(W, H, H_row, grids).dead_inputs == 1);
}

TEST_CASE("quantize_boa: blocks of rows are followed by the least-squares optimum", "[attention][boa][oracle]") {
    for (const index_t step : {1, 2, 3, 5, 8, 9, 1000}) {
        const MatrixXd W = random_matrix(9, 14, 1), H = correlated_gram(14, 2), H_row = correlated_gram(9, 3);
        const auto grids = magr::fit_grids(W, {.bits = 3});
        const auto boa = magr::quantize_boa(W, H, H_row, grids, {.damping = 0.01, .rows_per_step = step});
        CHECK(boa.quantized.codes == by_least_squares(W, damped(H, 0.01), damped(H_row, 0.01), grids, step));
        CHECK(2 * boa.loss == Approx(loss_of(values_of(boa.quantized) - W, damped(H, 0.01), damped(H_row, 0.01))).epsilon(1e-9));
    }
}

TEST_CASE("quantize_boa: OPTQ bit for bit with the identity, or with a whole head in one step", "[attention][boa][oracle]") {
    const auto check = [](const auto& W, const MatrixXd& H) {
        const index_t d = W.rows() / 3;
        const std::vector<MatrixXd> identity(3, MatrixXd::Identity(d, d)), others(3, correlated_gram(d, 9));
        for (const auto order : {column_order::natural, column_order::act_order, column_order::group_aware}) {
            const magr::grid_options grid{.bits = 3, .group_size = 40};
            const auto optq = magr::quantize_optq(W, H, grid, {.order = order});
            for (const index_t step : {1, 4}) {
                const auto boa = magr::quantize_boa(W, H, identity, grid, {.order = order, .rows_per_step = step});
                CHECK(boa.quantized.codes == optq.quantized.codes);
                CHECK(boa.quantized.scales == optq.quantized.scales);
                CHECK(boa.clipped == optq.clipped);
                CHECK(boa.loss == Approx(1.01 * *optq.loss).epsilon(1e-5));
            }
            const auto at_once = magr::quantize_boa(W, H, others, grid, {.order = order, .rows_per_step = d});
            CHECK(at_once.quantized.codes == optq.quantized.codes);
        }
    };
    const MatrixXd W = random_matrix(3 * 17, 150, 1), H = correlated_gram(150, 2);
    check(W, H);
    check(MatrixXf(W.cast<float>()), H);
}

TEST_CASE("quantize_boa: heads are independent, and neighbours may share a row Hessian", "[attention][boa][heads]") {
    const index_t heads = 6, d = 7, n = 20;
    const MatrixXd W = random_matrix(heads * d, n, 1), H = correlated_gram(n, 2);
    const std::vector<MatrixXd> two = {correlated_gram(d, 3), correlated_gram(d, 13)};
    for (const index_t step : {1, 3}) {
        const boa_options options{
            .order = column_order::act_order, .row_order = column_order::act_order, .rows_per_step = step, .scale_passes = 1};
        const auto together = magr::quantize_boa(W, H, two, {.bits = 3}, options);
        const auto repeated =
            magr::quantize_boa(W, H, std::vector<MatrixXd>{two[0], two[0], two[0], two[1], two[1], two[1]}, {.bits = 3}, options);
        CHECK(together.quantized.codes == repeated.quantized.codes);
        CHECK(together.quantized.scales == repeated.quantized.scales);
        CHECK(together.loss == repeated.loss);
        double loss = 0;
        index_t clipped = 0;
        for (index_t h = 0; h < heads; ++h) {
            const MatrixXd head = W.middleRows(h * d, d);
            const auto alone = magr::quantize_boa(head, H, two[static_cast<std::size_t>(h / 3)], {.bits = 3}, options);
            loss += alone.loss;
            clipped += alone.clipped;
            CHECK(std::equal(alone.quantized.codes.data(), alone.quantized.codes.data() + d * n, &together.quantized.codes(h * d, 0)));
            CHECK(std::equal(alone.quantized.scales.data(), alone.quantized.scales.data() + d, &together.quantized.scales(h * d, 0)));
        }
        CHECK(together.loss == Approx(loss).epsilon(1e-12));
        CHECK(together.clipped == clipped);
    }
}

TEST_CASE("quantize_boa: rows in another order", "[attention][boa][order]") {
    const index_t d = 8, n = 15;
    const MatrixXd W = random_matrix(d, n, 1), H = correlated_gram(n, 2), H_row = correlated_gram(d, 3);
    const auto grids = magr::fit_grids(W, {.bits = 3});
    std::vector<index_t> order(static_cast<std::size_t>(d));
    for (index_t i = 0; i < d; ++i) order[static_cast<std::size_t>(i)] = i;
    std::sort(order.begin(), order.end(), [&](index_t a, index_t b) { return H_row(a, a) > H_row(b, b); });
    MatrixXd sorted_W(d, n), sorted_H(d, d);
    for (index_t i = 0; i < d; ++i) {
        sorted_W.row(i) = W.row(order[static_cast<std::size_t>(i)]);
        for (index_t j = 0; j < d; ++j) sorted_H(i, j) = H_row(order[static_cast<std::size_t>(i)], order[static_cast<std::size_t>(j)]);
    }
    for (const index_t step : {1, 3}) {
        boa_options options{.rows_per_step = step, .scale_passes = 0};
        const auto expected = magr::quantize_boa(sorted_W, H, sorted_H, rows_of(grids, order), options);
        options.row_order = column_order::act_order;
        const auto boa = magr::quantize_boa(W, H, H_row, grids, options);
        for (index_t i = 0; i < d; ++i)
            CHECK(std::equal(&expected.quantized.codes(i, 0), &expected.quantized.codes(i, 0) + n,
                             &boa.quantized.codes(order[static_cast<std::size_t>(i)], 0)));
        CHECK(boa.loss == Approx(expected.loss).epsilon(1e-12));
    }
}

TEST_CASE("quantize_boa: less loss than OPTQ on average, and less with scales", "[attention][boa][property]") {
    double optq = 0, boa = 0, refined = 0;
    for (unsigned seed = 0; seed < 40; ++seed) {
        const MatrixXd W = random_matrix(12, 24, seed), H = correlated_gram(24, 10 * seed), H_row = correlated_gram(12, 10 * seed + 4);
        const auto loss = [&](const auto& result) { return loss_of(values_of(result.quantized) - W, H, H_row); };
        optq += loss(magr::quantize_optq(W, H, {.bits = 3}));
        boa += loss(magr::quantize_boa(W, H, H_row, {.bits = 3}));
        refined += loss(magr::quantize_boa(W, H, H_row, {.bits = 3}, {.scale_passes = 1}));
    }
    CHECK(boa < 0.8 * optq);
    CHECK(refined < 0.95 * boa);
}

TEST_CASE("quantize_boa: scales never raise the loss, and end where no scale alone lowers it", "[attention][boa][scales]") {
    for (const auto zero :
         {magr::zero_point::none, magr::zero_point::middle, magr::zero_point::integer, magr::zero_point::real, magr::zero_point::offset})
        for (const auto storage : {magr::storage_type::native, magr::storage_type::f16, magr::storage_type::bf16}) {
            const MatrixXd W = random_matrix(12, 16, 1), H = correlated_gram(16, 2), H_row = correlated_gram(6, 3);
            const magr::grid_options grid{.bits = 2, .zero_point = zero, .storage = storage};
            const MatrixXd H_d = damped(H, 0.01), H_row_d = damped(H_row, 0.01);
            const auto loss = [&](const auto& q) {
                const MatrixXd E = values_of(q) - W;
                return loss_of(E.topRows(6), H_d, H_row_d) + loss_of(E.bottomRows(6), H_d, H_row_d);
            };
            double before = 2 * magr::quantize_boa(W, H, H_row, grid).loss;
            for (const index_t passes : {1, 2, 300}) {
                const auto result = magr::quantize_boa(W, H, H_row, grid, {.scale_passes = passes});
                CHECK(2 * result.loss == Approx(loss(result.quantized)).epsilon(1e-9));
                CHECK(result.loss <= result.loss_before_scales);
                CHECK(2 * result.loss <= before * (1 + 1e-12));
                before = 2 * result.loss;
                if (passes < 300 || storage != magr::storage_type::native) continue;
                for (index_t i = 0; i < 12; ++i)
                    for (const double factor : {0.999, 1.001}) {
                        auto other = result.quantized;
                        other.scales(i, 0) *= factor;
                        CHECK(loss(other) > before);
                    }
            }
        }
}

TEST_CASE("quantize_boa: scales of weights on their grids stay", "[attention][boa][scales]") {
    const MatrixXd H = correlated_gram(16, 2), H_row = correlated_gram(6, 3);
    const MatrixXd W = values_of(magr::quantize_rtn(MatrixXd(random_matrix(6, 16, 1)), {.bits = 3}));
    const auto grids = magr::fit_grids(MatrixXd(random_matrix(6, 16, 1)), {.bits = 3});
    const auto result = magr::quantize_boa(W, H, H_row, grids, {.scale_passes = 3});
    CHECK(result.loss <= 1e-28 * W.squaredNorm() * H.trace() * H_row.trace());  // fused multiply-adds may leave the last bits of weights
    CHECK(result.scale_changes == 0);
    CHECK(result.quantized.scales == grids.scales);
}

TEST_CASE("quantize_boa: scales of levels", "[attention][boa][scales]") {
    const MatrixXd W = random_matrix(6, 16, 1), H = correlated_gram(16, 2), H_row = correlated_gram(6, 3);
    const magr::grid_options grid{.bits = 2, .zero_point = magr::zero_point::none, .levels = {-1, -0.3, 0.4, 1}};
    const auto result = magr::quantize_boa(W, H, H_row, grid, {.damping = 0, .scale_passes = 2});
    CHECK(result.loss < result.loss_before_scales);
    CHECK(2 * result.loss == Approx(loss_of(values_of(result.quantized) - W, H, H_row)).epsilon(1e-9));
}

TEST_CASE("quantize_boa: the loss to the original outputs is that to the compensated weights plus a constant", "[attention][boa][drift]") {
    const index_t d = 8, n = 16, tokens = 64;
    double plain = 0, compensated = 0;
    for (unsigned seed = 0; seed < 20; ++seed) {
        const MatrixXd X = random_matrix(tokens, n, 3 * seed) * (random_matrix(n, n, 7) + 2 * MatrixXd::Identity(n, n));
        const MatrixXd Y = X + 0.3 * random_matrix(tokens, n, 3 * seed + 1), K = random_matrix(30, d, 3 * seed + 2);
        const MatrixXd W = random_matrix(d, n, seed), H = Y.transpose() * Y, H_row = K.transpose() * K;
        magr::drift_accumulator<double> drift(n);
        drift.add(X, Y);
        MatrixXd target = W;
        REQUIRE(magr::compensate_drift(target, H, drift.drift(), {.fraction = 1, .damping = 0}).compensated);

        const auto to_original = [&](const MatrixXd& Q) { return (K * (Q * Y.transpose() - W * X.transpose())).squaredNorm(); };
        const boa_options options{.damping = 0};
        const MatrixXd on_target = values_of(magr::quantize_boa(target, H, H_row, {.bits = 3}, options).quantized);
        const MatrixXd on_W = values_of(magr::quantize_boa(W, H, H_row, {.bits = 3}, options).quantized);
        for (const MatrixXd& Q : {on_target, on_W})
            CHECK(to_original(Q) == Approx(loss_of(Q - target, H, H_row) + to_original(target)).epsilon(1e-9));
        plain += to_original(on_W);
        compensated += to_original(on_target);
    }
    CHECK(compensated < 0.9 * plain);
}

TEST_CASE("quantize_boa: the same bits for every number of workers", "[attention][boa][parallel]") {
    const std::vector<MatrixXd> rows = {correlated_gram(19, 3), correlated_gram(19, 4)};
    const MatrixXd H = correlated_gram(300, 2);
    const auto check = [&](const auto& W) {
        for (const index_t step : {1, 4, 19}) {
            const boa_options options{.row_order = column_order::act_order, .rows_per_step = step, .scale_passes = 1};
            const auto expected = magr::quantize_boa(W, H, rows, {.bits = 3}, options);
            for (const index_t workers : {2, 3, 16}) {
                magr::thread_pool pool(workers);
                const auto result = magr::quantize_boa(W, H, rows, {.bits = 3}, options, pool);
                CHECK(result.quantized.codes == expected.quantized.codes);
                CHECK(result.quantized.scales == expected.quantized.scales);
                CHECK(result.loss == expected.loss);
                CHECK(result.loss_before_scales == expected.loss_before_scales);
                CHECK(result.clipped == expected.clipped);
            }
        }
    };
    const MatrixXd W = random_matrix(4 * 19, 300, 1);
    check(W);
    check(MatrixXf(W.cast<float>()));
}

TEST_CASE("quantize_boa: every storage type and layout", "[attention][boa][types]") {
    const Eigen::Matrix<Eigen::half, Eigen::Dynamic, Eigen::Dynamic> W = random_matrix(10, 16, 1).cast<Eigen::half>();
    const MatrixXd H = correlated_gram(16, 2), H_row = correlated_gram(5, 3);
    const MatrixXf W_float = W.cast<float>();
    const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> W_by_rows = W_float;
    const auto expected = magr::quantize_boa(W_float, H, H_row, {.bits = 3}).quantized.codes;
    CHECK(magr::quantize_boa(W, H, H_row, {.bits = 3}).quantized.codes == expected);
    CHECK(magr::quantize_boa(W_by_rows, H, H_row, {.bits = 3}).quantized.codes == expected);
    CHECK(magr::quantize_boa(W_float, magr::hessian(H), H_row, {.bits = 3}).quantized.codes == expected);
    magr::matrix<double> own(5, 5);
    for (index_t i = 0; i < 5; ++i)
        for (index_t j = 0; j < 5; ++j) own(i, j) = H_row(i, j);
    CHECK(magr::quantize_boa(W_float, H, std::vector{own, own}, {.bits = 3}).quantized.codes == expected);
    CHECK(magr::quantize_boa(W_float, H, own.view(), {.bits = 3}).quantized.codes == expected);
    // neither scale of a Hessian matters, not even if the loss is too large for a number
    CHECK(magr::quantize_boa(W_float, MatrixXd(0x1p-40 * H), MatrixXd(0x1p50 * H_row), {.bits = 3}).quantized.codes == expected);
    const auto huge = magr::quantize_boa(W_float, MatrixXd(0x1p900 * H), MatrixXd(0x1p900 * H_row), {.bits = 3});
    CHECK(huge.status == boa_status::as_requested);
    CHECK(huge.quantized.codes == expected);
    CHECK(huge.loss == std::numeric_limits<double>::infinity());
    const auto tiny = magr::quantize_boa(W_float, MatrixXd(0x1p-900 * H), MatrixXd(0x1p-900 * H_row), {.bits = 3}, {.scale_passes = 1});
    CHECK(tiny.quantized.codes == expected);
    CHECK(tiny.scale_changes == 10);
}

TEST_CASE("quantize_boa: one row, one column, one weight", "[attention][boa][edge]") {
    for (const index_t d : {1, 2})
        for (const index_t n : {1, 2}) {
            const MatrixXd W = random_matrix(2 * d, n, 1), H = correlated_gram(n, 2), H_row = correlated_gram(d, 3);
            const auto result = magr::quantize_boa(W, H, H_row, {.bits = 3}, {.scale_passes = 2});
            REQUIRE(result);
            CHECK(result.quantized.codes.rows() == 2 * d);
            CHECK(result.quantized.codes.cols() == n);
            if (d == 1) CHECK(result.quantized.codes == magr::quantize_optq(W, H, {.bits = 3}).quantized.codes);
        }
}

TEST_CASE("quantize_boa: the status says what happened", "[attention][boa][status]") {
    const MatrixXd W = random_matrix(4, 2, 1), H = correlated_gram(2, 2), H_row = correlated_gram(2, 3);
    const MatrixXd singular = MatrixXd::Ones(2, 2), indefinite = (MatrixXd(2, 2) << 1, 10, 10, 1).finished();
    const magr::grid_options grid{.bits = 3};
    const boa_options strict{.damping = 0, .raise_damping = false};

    const auto more = magr::quantize_boa(W, singular, H_row, grid, {.damping = 0});
    CHECK(more.status == boa_status::damped_more);
    CHECK(more.damping > 0);
    CHECK(more.row_damping == 0);
    const auto more_rows = magr::quantize_boa(W, H, std::vector{H_row, singular}, grid, {.damping = 0});
    CHECK(more_rows.status == boa_status::damped_more);
    CHECK(more_rows.damping == 0);
    CHECK(more_rows.row_damping > 0);
    CHECK(more_rows);

    const auto no_H = magr::quantize_boa(W, singular, H_row, grid, strict);
    CHECK(no_H.status == boa_status::hessian_failed);
    CHECK_FALSE(no_H);
    CHECK_FALSE(no_H.failed_row_hessian);
    const auto no_row_H = magr::quantize_boa(W, H, std::vector{H_row, singular}, grid, strict);
    CHECK(no_row_H.status == boa_status::row_hessian_failed);
    CHECK(no_row_H.failed_row_hessian == 1);
    CHECK_FALSE(no_row_H);
    CHECK(magr::quantize_boa(W, indefinite, H_row, grid).status == boa_status::hessian_failed);
    CHECK(magr::quantize_boa(W, H, indefinite, grid).status == boa_status::row_hessian_failed);

    const MatrixXd large = 1e300 * W;
    const auto overflowed = magr::quantize_boa(large, H, H_row, grid);
    CHECK(overflowed.status == boa_status::overflowed);
    CHECK_FALSE(overflowed);
    check_names<boa_status>({"as_requested", "damped_more", "hessian_failed", "row_hessian_failed", "overflowed"});
}

TEST_CASE("quantize_boa: what is refused", "[attention][boa][errors]") {
    const MatrixXd W = random_matrix(6, 4, 1), H = correlated_gram(4, 2), H_row = correlated_gram(3, 3);
    const magr::grid_options grid{.bits = 3};
    const auto grids = magr::fit_grids(W, grid);
    const auto refuses = [&](const auto& w, const auto& h, const auto& rows, const boa_options& options = {}) {
        static_cast<void>(magr::quantize_boa(w, h, rows, grid, options));
    };
    CHECK_THROWS_AS(refuses(MatrixXd(0, 4), H, H_row), magr::shape_error);
    CHECK_THROWS_AS(refuses(W, correlated_gram(5, 1), H_row), magr::shape_error);
    CHECK_THROWS_AS(refuses(W, H, std::vector<MatrixXd>{}), magr::shape_error);
    CHECK_THROWS_AS(refuses(W, H, MatrixXd(0, 0)), magr::shape_error);
    CHECK_THROWS_AS(refuses(W, H, MatrixXd(random_matrix(3, 2, 1))), magr::shape_error);
    CHECK_THROWS_AS(refuses(W, H, correlated_gram(4, 1)), magr::shape_error);
    CHECK_THROWS_AS(refuses(W, H, correlated_gram(12, 1)), magr::shape_error);
    CHECK_THROWS_AS(refuses(W, H, std::vector<MatrixXd>(3, H_row)), magr::shape_error);
    CHECK_THROWS_AS(refuses(W, H, std::vector<MatrixXd>{H_row, correlated_gram(2, 1)}), magr::shape_error);
    CHECK_THROWS_WITH(refuses(W, H, std::vector<MatrixXd>{H_row, MatrixXd(-H_row)}), Catch::Contains("quantize_boa: H_rows[1]"));
    MatrixXd bad = W;
    bad(1, 2) = std::numeric_limits<double>::quiet_NaN();
    CHECK_THROWS_AS(refuses(bad, H, H_row), magr::value_error);
    MatrixXd bad_rows = H_row;
    bad_rows(1, 2) = std::numeric_limits<double>::infinity();
    CHECK_THROWS_AS(refuses(W, H, bad_rows), magr::value_error);
    CHECK_THROWS_AS(refuses(W, MatrixXd(-H), H_row), magr::value_error);
    MatrixXd skew = H_row;
    skew(0, 1) += 1;
    CHECK_THROWS_AS(refuses(W, H, skew), magr::value_error);

    CHECK_THROWS_AS(magr::quantize_boa(W, H, H_row, magr::grid_options{.bits = 1}), magr::option_error);
    CHECK_THROWS_AS(magr::quantize_boa(MatrixXd(W.topRows(3)), H, H_row, grids), magr::shape_error);
    auto bad_grids = grids;
    bad_grids.scales(2, 0) = 0;
    CHECK_THROWS_AS(magr::quantize_boa(W, H, H_row, bad_grids), magr::value_error);
    const magr::grid_options grouped{.bits = 3, .group_size = 2};
    CHECK_THROWS_AS(magr::quantize_boa(W, H, H_row, grouped, {.scale_passes = 1}), magr::option_error);
    CHECK_THROWS_AS(magr::quantize_boa(W, H, H_row, magr::fit_grids(W, grouped), {.scale_passes = 1}), magr::option_error);
    auto shared = grids;
    shared.shared.groups = 1;
    CHECK_THROWS_AS(magr::quantize_boa(W, H, H_row, shared, {.scale_passes = 1}), magr::option_error);
    CHECK(magr::quantize_boa(W, H, H_row, grouped));
}

TEST_CASE("boa_options: every problem is named", "[attention][boa][errors]") {
    CHECK(problems(boa_options{}).empty());
    const auto names = [](const boa_options& options, const std::string& option) {
        const auto found = problems(options);
        return found.size() == 1 && found.front().find("boa_options: " + option + " must be ") == 0;
    };
    const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
    for (const double bad : {-1.0, nan, infinity}) CHECK(names({.damping = bad}, "damping"));
    CHECK(names({.order = static_cast<column_order>(4)}, "order"));
    for (const auto bad : {column_order::group_aware, static_cast<column_order>(4), static_cast<column_order>(-1)})
        CHECK(names({.row_order = bad}, "row_order"));
    for (const index_t bad : {0, -1}) CHECK(names({.rows_per_step = bad}, "rows_per_step"));
    CHECK(names({.scale_passes = -1}, "scale_passes"));
    for (const double bad : {-0.1, 1.0, nan}) CHECK(names({.dead_threshold = bad}, "dead_threshold"));
    CHECK(problems(boa_options{.damping = -1, .rows_per_step = 0}).size() == 2);
    CHECK_THROWS_AS(magr::quantize_boa(MatrixXd(random_matrix(2, 2, 1)), correlated_gram(2, 1), correlated_gram(2, 2), {}, {.damping = -1}),
                    magr::option_error);
}
