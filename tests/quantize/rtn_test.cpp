// SPDX-License-Identifier: MIT
#include <magr/quantize/rtn.hpp>

#include <Eigen/Core>
#include <cmath>
#include <vector>

#include <magr/matrix/eigen.hpp>
#include <magr/parallel/thread_pool.hpp>

#include "quantize/layers.hpp"
#include "quantize/oracle.hpp"
#include "support/catch.hpp"
#include "support/counting_executor.hpp"

using magr::grid_options;
using magr::index_t;
using magr::quantize_rtn;

TEST_CASE("quantize_rtn: codes of the textbook rule", "[quantize][rtn][oracle]") {
    std::mt19937 random(1);
    for (const index_t cols : {1, 3, 16, 50})
        for (const int bits : {2, 3, 4, 8})
            for (const index_t group : {0, 1, 7, 16, 64}) {
                const Eigen::MatrixXd W = layers::normal_matrix(5, cols, random);
                grid_options options{.bits = bits};
                if (group > 0) options.group_size = group;
                const auto q = quantize_rtn(W, options);
                const auto expected = oracle::rtn(oracle::to_table(W), {.bits = bits, .group_size = static_cast<std::size_t>(group)});
                const auto values = q.dequantize();
                CAPTURE(cols, bits, group);
                REQUIRE(q.rows() == 5);
                REQUIRE(q.cols() == cols);
                CHECK(q.scales.cols() == (group == 0 ? 1 : (cols + group - 1) / group));
                for (index_t i = 0; i < 5; ++i)
                    for (index_t j = 0; j < cols; ++j) {
                        const auto r = static_cast<std::size_t>(i);
                        const auto c = static_cast<std::size_t>(j);
                        CHECK(q.codes(i, j) == expected.codes[r][c]);
                        CHECK(values(i, j) == Approx(static_cast<double>(expected.values[r][c])).margin(1e-14));
                        CHECK(q.group_of_column[c] == (group == 0 ? 0 : j / group));
                    }
            }
}

TEST_CASE("quantize_rtn: weights that lie on a grid come back", "[quantize][rtn][property]") {
    std::mt19937 random(2);
    std::uniform_int_distribution<int> code(0, 15);
    Eigen::MatrixXf W(6, 40);
    for (index_t i = 0; i < W.rows(); ++i) {
        for (index_t j = 0; j < W.cols(); ++j) W(i, j) = std::ldexp(static_cast<float>(code(random) - 6), -5);
        W(i, 3) = std::ldexp(-6.0F, -5);  // the ends of the grid occur in every row
        W(i, 4) = std::ldexp(9.0F, -5);
    }
    const auto q = quantize_rtn(W, {.bits = 4});
    const auto values = q.dequantize();
    for (index_t i = 0; i < W.rows(); ++i)
        for (index_t j = 0; j < W.cols(); ++j) CHECK(values(i, j) == W(i, j));
}

TEST_CASE("quantize_rtn: a row of zeros stays zero, and constant rows are exact", "[quantize][rtn][edge]") {
    Eigen::MatrixXf W = Eigen::MatrixXf::Zero(3, 9);
    W.row(1).setConstant(0.3F);
    W.row(2).setConstant(-0.3F);
    for (const int bits : {2, 3, 4, 8}) {
        const auto values = quantize_rtn(W, {.bits = bits}).dequantize();
        for (index_t j = 0; j < W.cols(); ++j) {
            CHECK(values(0, j) == 0);
            CHECK(values(1, j) == Approx(0.3F));
            CHECK(values(2, j) == Approx(-0.3F));
        }
    }
}

TEST_CASE("quantize_rtn: the same weights in every layout give the same codes", "[quantize][rtn][property]") {
    std::mt19937 random(3);
    const Eigen::MatrixXf columns = layers::normal_matrix(7, 33, random).cast<float>();
    const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> rows = columns;
    Eigen::MatrixXf larger = Eigen::MatrixXf::Constant(20, 80, 99);
    larger.block(3, 5, 7, 33) = columns;
    Eigen::MatrixXf spread = Eigen::MatrixXf::Constant(14, 33, 99);
    for (index_t i = 0; i < 7; ++i) spread.row(2 * i) = columns.row(i);
    const auto strided = magr::matrix_view<float>::with_strides(spread.data(), 7, 33, 2, 14);

    const auto expected = quantize_rtn(columns, {.bits = 3, .group_size = 8});
    for (const auto& q :
         {quantize_rtn(rows, {.bits = 3, .group_size = 8}), quantize_rtn(larger.block(3, 5, 7, 33), {.bits = 3, .group_size = 8}),
          quantize_rtn(strided, {.bits = 3, .group_size = 8})}) {
        CHECK(q.codes == expected.codes);
        CHECK(q.scales == expected.scales);
        CHECK(q.zeros == expected.zeros);
    }
}

TEMPLATE_TEST_CASE("quantize_rtn: 16-bit weights are quantized as the float numbers they are", "[quantize][rtn][property]", Eigen::half,
                   Eigen::bfloat16) {
    std::mt19937 random(4);
    const Eigen::Matrix<TestType, Eigen::Dynamic, Eigen::Dynamic> W = layers::normal_matrix(6, 20, random).cast<TestType>();
    const Eigen::MatrixXf same = W.template cast<float>();
    const auto q = quantize_rtn(W, {.bits = 4});
    const auto expected = quantize_rtn(same, {.bits = 4});
    CHECK(q.codes == expected.codes);
    CHECK(q.scales == expected.scales);
    CHECK(q.zeros == expected.zeros);
}

TEST_CASE("quantize_rtn: workers share the rows, and every executor gives the same bits", "[quantize][rtn][determinism]") {
    const layers::layer layer = layers::make_layer(200, 24, layers::inputs::neighbours, 11);
    const Eigen::MatrixXf W = layer.W.cast<float>();
    const Eigen::Matrix<Eigen::half, Eigen::Dynamic, Eigen::Dynamic> half = W.cast<Eigen::half>();
    const magr::stochastic_rounding at_random{7};
    const grid_options options{.bits = 3, .zero_point = magr::zero_point::offset, .group_size = 7};
    const auto grids = magr::fit_grids(W, options);
    const auto all = [&](magr::executor_ref exec) {
        return std::vector{quantize_rtn(W, options, magr::round_half_even{}, exec),
                           quantize_rtn(W, options, at_random, exec),
                           quantize_rtn(half, options, at_random, exec),
                           quantize_rtn(W, layer.H, {.range = magr::range_search::output_error}, magr::round_half_even{}, exec),
                           quantize_rtn(W, layer.H, options, at_random, exec),
                           quantize_rtn(W, grids, magr::round_half_even{}, exec),
                           quantize_rtn(W, grids, at_random, exec)};
    };
    const auto expected = all({});
    const auto check = [&](magr::executor_ref exec) {
        const auto found = all(exec);
        for (std::size_t k = 0; k < found.size(); ++k) {
            CAPTURE(k);
            CHECK(found[k].codes == expected[k].codes);
            CHECK(found[k].scales == expected[k].scales);
            CHECK(found[k].zeros == expected[k].zeros);
            CHECK(found[k].dequantize(exec) == expected[k].dequantize());
        }
    };
    for (const index_t workers : {1, 2, 7}) {
        magr::thread_pool pool(workers);
        check(pool);
    }
    CHECK(expected[4].codes == quantize_rtn(W, magr::fit_grids(W, layer.H, options), at_random).codes);

    counting_executor rounding, dequantizing;
    static_cast<void>(quantize_rtn(W, grids, magr::round_half_even{}, rounding));
    CHECK(rounding.loops == std::vector<index_t>{4});  // strips of 64 rows
    static_cast<void>(expected[0].dequantize(dequantizing));
    CHECK(dequantizing.loops == std::vector<index_t>{4});
}

TEST_CASE("quantize_rtn: a rounding may know one arithmetic type only", "[quantize][rtn]") {
    struct down {
        double operator()(double steps, index_t, index_t) const { return std::floor(steps); }
    };
    const Eigen::MatrixXd W = Eigen::RowVector4d(0, 0.9, 1.9, 3);
    const auto q = quantize_rtn(W, {.bits = 2}, down{});
    CHECK(q.codes(0, 1) == 0);
    CHECK(q.codes(0, 2) == 1);
}

TEST_CASE("quantize_rtn: refuses what it cannot quantize", "[quantize][rtn][edge]") {
    Eigen::MatrixXf W = Eigen::MatrixXf::Ones(3, 4);
    CHECK_THROWS_AS(quantize_rtn(Eigen::MatrixXf(0, 4)), magr::shape_error);
    CHECK_THROWS_AS(quantize_rtn(Eigen::MatrixXf(3, 0)), magr::shape_error);
    CHECK_THROWS_AS(quantize_rtn(W, {.bits = 1}), magr::option_error);
    CHECK_THROWS_AS(quantize_rtn(W, {.group_size = 0}), magr::option_error);
    W(2, 1) = std::nanf("");
    CHECK_THROWS_AS(quantize_rtn(W), magr::value_error);
    W(2, 1) = HUGE_VALF;
    CHECK_THROWS_WITH(quantize_rtn(W), "quantize_rtn: W must be finite, entry (row 2, column 1) is inf");
}
