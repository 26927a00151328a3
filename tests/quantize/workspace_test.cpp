// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cstddef>
#include <optional>

#include <magr/matrix/eigen.hpp>
#include <magr/parallel/thread_pool.hpp>
#include <magr/preprocess.hpp>
#include <magr/quantize/optq.hpp>

#include "quantize/layers.hpp"
#include "support/catch.hpp"
#include "support/counted_memory.hpp"

namespace {

using magr::factor_precision;
using magr::grid_options;
using magr::index_t;
using magr::optq_options;

struct shape {
    index_t rows, cols;
};

}  // namespace

TEMPLATE_TEST_CASE("workspace_bytes: what quantize_optq allocates at its peak", "[quantize][optq][memory]", float, double) {
    using matrix = Eigen::Matrix<TestType, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    // one layer with many rows, one dominated by factoring, one for which the Cholesky factorization has several blocks
    for (const auto& [rows, cols] : {shape{1, 1}, shape{2000, 40}, shape{3, 200}, shape{20, 700}}) {
        const auto layer = layers::make_layer(rows, cols, layers::inputs::independent, 4);
        const matrix W = layer.W.template cast<TestType>();
        for (const grid_options& grid : {grid_options{.bits = 4}, {.bits = 3, .zero_point = magr::zero_point::none, .group_size = 8}})
            for (const optq_options& options : {optq_options{},
                                                {.precision = factor_precision::float64},
                                                {.precision = factor_precision::float32, .measure_error = false},
                                                {.block_size = 30, .order = magr::column_order::act_order}})
                for (const index_t workers : {1, 3}) {
                    CAPTURE(rows, cols, workers, grid.bits, static_cast<int>(options.precision), options.block_size.value_or(0));
                    magr::thread_pool pool(workers);
                    std::optional<decltype(magr::quantize_optq(W, layer.H))> result;
                    const auto peak = static_cast<double>(
                        counted_memory::peak_of([&] { result.emplace(magr::quantize_optq(W, layer.H, grid, options, pool)); }));
                    CHECK(result->status == magr::quantization_status::as_requested);
                    CHECK(peak == Approx(magr::workspace_bytes<TestType>(rows, cols, grid, options, workers)).epsilon(0.01).margin(1024));
                }
    }
}

TEMPLATE_TEST_CASE("workspace_bytes: what quantize_optq allocates with dead columns", "[quantize][optq][memory]", float, double,
                   Eigen::half) {
    using matrix = Eigen::Matrix<TestType, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    for (const auto& [rows, cols] : {shape{1, 3}, shape{2000, 40}, shape{3, 200}, shape{300, 300}}) {
        auto layer = layers::make_layer(rows, cols, layers::inputs::independent, 5);
        const matrix W = layer.W.template cast<TestType>();
        layer.H.row(0) *= 1e-3;  // dead by the threshold
        layer.H.col(0) *= 1e-3;
        layer.H.row(1).setZero();
        layer.H.col(1).setZero();
        for (const optq_options& options : {optq_options{},
                                            {.dead = magr::dead_columns::zero},
                                            {.dead_threshold = 0.1},
                                            {.dead = magr::dead_columns::zero, .dead_threshold = 0.1},
                                            {.dead_threshold = 0.1, .measure_error = false}})
            for (const index_t workers : {1, 3}) {
                CAPTURE(rows, cols, workers, static_cast<int>(options.dead), options.dead_threshold, options.measure_error);
                magr::thread_pool pool(workers);
                std::optional<decltype(magr::quantize_optq(W, layer.H))> result;
                const auto peak = static_cast<double>(
                    counted_memory::peak_of([&] { result.emplace(magr::quantize_optq(W, layer.H, grid_options{}, options, pool)); }));
                CHECK(result->status == magr::quantization_status::as_requested);
                CHECK(result->dead_inputs == (options.dead_threshold > 0 ? 2 : 1));
                const auto expected = static_cast<double>(magr::workspace_bytes<TestType>(rows, cols, grid_options{}, options, workers));
                CHECK(peak <= 1.01 * expected);
            }
    }
}

TEMPLATE_TEST_CASE("workspace_bytes: what quantize_optq allocates to fit grids on the way", "[quantize][optq][memory]", float, double,
                   Eigen::half) {
    using matrix = Eigen::Matrix<TestType, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    for (const auto& [rows, cols] : {shape{1, 3}, shape{2000, 40}, shape{3, 200}, shape{300, 300}}) {
        const auto layer = layers::make_layer(rows, cols, layers::inputs::independent, 6);
        const matrix W = layer.W.template cast<TestType>();
        for (const index_t group_size : {1, 16, 128})
            for (const magr::group_update groups : {magr::group_update::live, magr::group_update::stale})
                for (const index_t workers : {1, 3}) {
                    CAPTURE(rows, cols, group_size, to_string(groups), workers);
                    grid_options grid;
                    grid.group_size = group_size;
                    optq_options options;
                    options.groups = groups;
                    magr::thread_pool pool(workers);
                    const auto peak =
                        static_cast<double>(counted_memory::peak_of([&] { CHECK(magr::quantize_optq(W, layer.H, grid, options, pool)); }));
                    const auto bound = static_cast<double>(magr::workspace_bytes<TestType>(rows, cols, grid, options, workers));
                    CHECK(peak <= bound);
                    if (workers == 1) CHECK(peak >= 0.5 * bound);
                }
    }
}

TEMPLATE_TEST_CASE("workspace_bytes: calls that share a hessian stay within the sum", "[quantize][preprocess][memory]", float,
                   Eigen::half) {
    using matrix = Eigen::Matrix<TestType, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    for (const shape& size : {shape{200, 40}, shape{300, 300}}) {
        const index_t rows = size.rows, cols = size.cols;
        const auto layer = layers::make_layer(rows, cols, layers::inputs::neighbours, 7);
        const matrix W = layer.W.template cast<TestType>();
        for (const index_t workers : {1, 3}) {
            CAPTURE(rows, cols, workers);
            magr::thread_pool pool(workers);
            const auto peak = static_cast<double>(counted_memory::peak_of([&] {
                const magr::hessian H(layer.H);
                for (index_t row = 0; row < rows; row += 100) {
                    matrix strip = W.middleRows(row, 100);
                    static_cast<void>(magr::preprocess(strip, H, {}, magr::ignore_progress{}, pool));
                    CHECK(magr::quantize_optq(strip, H, grid_options{}, optq_options{}, pool));
                }
            }));
            const std::size_t strip = static_cast<std::size_t>(100 * cols) * sizeof(TestType);
            CHECK(peak <= static_cast<double>(strip + magr::workspace_bytes<TestType>(100, cols, magr::preprocess_options{}, workers) +
                                              magr::workspace_bytes<TestType>(100, cols, grid_options{}, optq_options{}, workers)));
        }
    }
}

TEST_CASE("workspace_bytes of quantize_optq: the factor of a wide layer, and the rows of each worker", "[quantize][optq][memory]") {
    const index_t n = 4096;
    const double matrix = static_cast<double>(n * n);
    const auto bytes = [&](index_t rows, const optq_options& options, index_t workers) {
        return static_cast<double>(magr::workspace_bytes<float>(rows, n, {.bits = 4}, options, workers));
    };
    const double blocks = 900 * static_cast<double>(n);  // elements that the Cholesky factorization allocates
    CHECK(bytes(1, {}, 1) > (4 + 4) * matrix);
    CHECK(bytes(1, {}, 1) < (4 + 4) * matrix + 4 * blocks);
    const optq_options in_double{.precision = factor_precision::float64};
    CHECK(bytes(1, in_double, 1) > (4 + 8) * matrix);
    CHECK(bytes(1, in_double, 1) < (4 + 8) * matrix + 8 * blocks);
    const optq_options options;
    const double of_worker = bytes(n, options, 9) - bytes(n, options, 8);  // 256 rows of W, of a block, and of a few panels
    CHECK(of_worker > 256.0 * 4 * static_cast<double>(n + 96));
    CHECK(of_worker < 256.0 * 4 * static_cast<double>(n + 96 + 64));
}

TEST_CASE("workspace_bytes of quantize_optq: bad arguments are refused", "[quantize][optq][memory][errors]") {
    CHECK_THROWS_AS(magr::workspace_bytes<float>(0, 10, grid_options{}, optq_options{}), magr::shape_error);
    CHECK_THROWS_AS(magr::workspace_bytes<float>(10, 0, grid_options{}, optq_options{}), magr::shape_error);
    CHECK_THROWS_AS(magr::workspace_bytes<float>(10, 10, grid_options{.bits = 1}, optq_options{}), magr::option_error);
    CHECK_THROWS_AS(magr::workspace_bytes<float>(10, 10, grid_options{}, optq_options{.damping = -1}), magr::option_error);
    CHECK_THROWS_AS(magr::workspace_bytes<float>(10, 10, grid_options{}, optq_options{}, 0), magr::option_error);
}
