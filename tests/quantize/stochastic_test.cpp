// SPDX-License-Identifier: MIT
// OPTQ with stochastic rounding: unbiased, reproducible, and a function of seed, row and original column.
#include <magr/quantize/optq.hpp>

#include <Eigen/Core>
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include <magr/detail/philox.hpp>
#include <magr/feedback/feedback.hpp>
#include <magr/feedback/gpfq.hpp>
#include <magr/fit/fit_grid.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/parallel/thread_pool.hpp>
#include <magr/quantize/round_onto.hpp>
#include <magr/quantize/rtn.hpp>

#include "quantize/oracle.hpp"
#include "support/catch.hpp"
#include "support/random_matrix.hpp"
#include "support/values_of.hpp"

using Eigen::MatrixXd;
using magr::column_order;
using magr::index_t;
using magr::quantize_optq;
using magr::rounding_mode;
using magr::stochastic_rounding;
using tests::random_matrix;
using tests::values_of;

namespace {

/// Similar inputs, so that feedback matters.
MatrixXd correlated_gram(index_t n, unsigned seed) {
    const MatrixXd X = random_matrix(3 * n, n, seed) * (random_matrix(n, n, seed + 1) + 2 * MatrixXd::Identity(n, n));
    return X.transpose() * X;
}

/// How far the means over seeds lie from W, in standard deviations. `quantize(seed)` must clip nothing.
template <class Quantize>
MatrixXd deviations_of_means(const MatrixXd& W, int draws, const Quantize& quantize) {
    MatrixXd sum = MatrixXd::Zero(W.rows(), W.cols()), squares = sum;
    for (int seed = 0; seed < draws; ++seed) {
        const MatrixXd E = values_of(quantize(static_cast<std::uint64_t>(seed))) - W;
        sum += E;
        squares += E.cwiseAbs2();
    }
    return sum.array() / squares.array().sqrt();  // the mean is zero if the hypothesis holds
}

}  // namespace

TEMPLATE_TEST_CASE("stochastic rounding: the mean over seeds is W, within three deviations", "[quantize][stochastic][property]", float,
                   double) {
    using scalar = TestType;
    using matrix = Eigen::Matrix<scalar, Eigen::Dynamic, Eigen::Dynamic>;
    const index_t rows = 4, n = 20;
    const matrix weights = (0.2 * random_matrix(rows, n, 1)).cast<scalar>();
    const MatrixXd W = weights.template cast<double>(), H = correlated_gram(n, 2);
    constexpr int draws = 1200;
    for (const auto zero : {magr::zero_point::integer, magr::zero_point::real, magr::zero_point::offset}) {
        // wide enough that nothing is clipped
        const auto grids = magr::fit_grids(matrix(20 * weights), {.bits = 8, .zero_point = zero, .group_size = 7});
        const auto check = [&](const auto& quantize) {
            const MatrixXd off = deviations_of_means(W, draws, quantize);
            CHECK((off.array().abs() > 3).count() <= 2);  // 0.2 of 80 are expected
            CHECK(off.cwiseAbs().maxCoeff() < 4);
            CHECK(off.squaredNorm() < 1.7 * static_cast<double>(off.size()));  // of related numbers, so not as sharp as for others
        };
        check([&](std::uint64_t seed) {
            auto result = quantize_optq(weights, H, grids, {.rounding = rounding_mode::stochastic, .seed = seed});
            REQUIRE(result.clipped == 0);
            return std::move(result.quantized);
        });
        check([&](std::uint64_t seed) {
            return *magr::round_onto(grids, weights, H, magr::gpfq_feedback{}, stochastic_rounding{seed},
                                     {.order = column_order::act_order});
        });
        check([&](std::uint64_t seed) { return magr::quantize_rtn(weights, grids, stochastic_rounding{seed}); });
    }
}

TEST_CASE("stochastic rounding: the codes of the definition", "[quantize][stochastic][oracle]") {
    const index_t rows = 5, n = 22;
    const MatrixXd W = random_matrix(rows, n, 4), H = correlated_gram(n, 5);
    const auto grids = magr::fit_grids(W, {.bits = 4});
    for (const auto order : {column_order::natural, column_order::act_order}) {
        const std::uint64_t seed = 0xfedcba9876543210ULL;
        const auto q = quantize_optq(W, H, grids, {.order = order, .rounding = rounding_mode::stochastic, .seed = seed}).quantized;
        const std::vector<index_t> columns = magr::order_columns(magr::as_const_view(H), order, n);
        MatrixXd permuted(n, n);
        for (index_t k = 0; k < n; ++k)
            for (index_t l = 0; l < n; ++l) permuted(k, l) = H(columns[static_cast<std::size_t>(k)], columns[static_cast<std::size_t>(l)]);
        const oracle::table U = oracle::upper_cholesky(oracle::inverse(oracle::damped(oracle::to_table(permuted), 0.01L)));
        index_t different = 0;
        for (index_t i = 0; i < rows; ++i) {
            std::vector<oracle::real> w;
            for (const index_t j : columns) w.push_back(static_cast<oracle::real>(W(i, j)));
            for (std::size_t k = 0; k < w.size(); ++k) {
                const index_t j = columns[k];
                const auto bits = magr::detail::philox(static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(j), seed);
                const double u = static_cast<double>((std::uint64_t{bits[0]} << 32 | bits[1]) >> 11) * 0x1p-53;
                const auto scale = static_cast<oracle::real>(grids.scales(i, 0)), zero = static_cast<oracle::real>(grids.zeros(i, 0));
                const oracle::real steps = std::clamp<oracle::real>(w[k] / scale, -zero, 15 - zero), below = std::floor(steps);
                const oracle::real code = below + (static_cast<oracle::real>(u) < steps - below ? 1 : 0) + zero;
                different += q.codes(i, j) != static_cast<int>(code) ? 1 : 0;
                const oracle::real error = (w[k] - scale * (code - zero)) / U[k][k];
                for (std::size_t l = k; l < w.size(); ++l) w[l] -= error * U[k][l];
            }
        }
        CHECK(different == 0);
    }
}

TEST_CASE("stochastic rounding: the same for every block size, order of independent columns, executor and place among rows",
          "[quantize][stochastic][property]") {
    const index_t rows = 300, n = 40;
    const MatrixXd W = random_matrix(rows, n, 7), H = correlated_gram(n, 8);
    const auto grids = magr::fit_grids(W, {.bits = 3, .group_size = 16});
    magr::thread_pool pool(3);
    const auto run = [&](const MatrixXd& gram, column_order order, index_t block, magr::executor_ref exec) {
        return quantize_optq(W, gram, grids, {.block_size = block, .order = order, .rounding = rounding_mode::stochastic, .seed = 9}, exec)
            .quantized.codes;
    };
    const auto codes = run(H, column_order::act_order, 128, {});
    for (const index_t block : {index_t{1}, index_t{7}, index_t{40}, index_t{1000}}) {
        CHECK(run(H, column_order::act_order, block, {}) == codes);
        CHECK(run(H, column_order::act_order, block, pool) == codes);
        CHECK(magr::round_onto(grids, W, H, magr::ldl_feedback{}, stochastic_rounding{9},
                               {.order = column_order::act_order, .block_size = block}, pool)
                  ->codes == codes);
    }
    // numbers belong to original columns: where columns do not matter to each other, the order does not matter
    const MatrixXd diagonal = MatrixXd(random_matrix(n, 1, 10).array().square()).asDiagonal();
    const auto plain = magr::quantize_rtn(W, grids, stochastic_rounding{9}).codes;
    for (const auto order : {column_order::natural, column_order::act_order, column_order::group_aware})
        CHECK(run(diagonal, order, 8, pool) == plain);
    // each weight has a number of its own: no two rows or columns of equal weights are rounded alike
    const MatrixXd halves = MatrixXd::Constant(64, 64, 0.5);
    auto unit = magr::fit_grids(halves, {.bits = 4});
    for (index_t i = 0; i < 64; ++i) unit.scales(i, 0) = 1;
    const auto up = values_of(magr::quantize_rtn(halves, unit, stochastic_rounding{1}));
    for (index_t i = 0; i < 64; ++i)
        for (index_t k = 0; k < i; ++k) {
            CHECK(std::abs((up.row(i) - up.row(k)).cwiseAbs().sum() - 32) < 20);  // five deviations
            CHECK(std::abs((up.col(i) - up.col(k)).cwiseAbs().sum() - 32) < 20);
        }
    CHECK(std::abs(up.sum() - 2048) < 3 * 32);
}
