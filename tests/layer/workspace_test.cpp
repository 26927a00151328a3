// SPDX-License-Identifier: MIT
#include <Eigen/Core>
#include <cstddef>
#include <vector>

#include <magr/layer/coupled_rows.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/parallel/thread_pool.hpp>
#include <magr/quantize_layer.hpp>

#include "quantize/layers.hpp"
#include "support/catch.hpp"
#include "support/counted_memory.hpp"

namespace {

using magr::index_t;
using magr::layer_options;

struct shape {
    index_t rows, cols;
};

std::vector<layer_options> options_of_every_kind() {
    std::vector<layer_options> all(8);
    all[1].preprocess = magr::preprocess_options{};
    all[2].quantizer = magr::layer_quantizer::rtn;
    all[3].refinement.rounds = 0;
    all[4].grid.group_size = 16;
    all[4].refinement.codes->damping = 0.5;
    all[5].optq.measure_error = true;
    all[5].measure_rtn = true;
    all[6].optq.dead = magr::dead_columns::zero;
    all[6].optq.dead_threshold = 0.1;
    all[7].optq.order = magr::column_order::act_order;
    all[7].optq.groups = magr::group_update::live;
    all[7].grid.group_size = 16;
    all[7].refinement.codes->order = magr::column_order::act_order;
    all[7].refinement.codes->damping = 0.5;
    return all;
}

}  // namespace

TEMPLATE_TEST_CASE("workspace_bytes: what quantize_layer allocates at its peak", "[layer][memory]", float, double, Eigen::half) {
    using matrix = Eigen::Matrix<TestType, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    for (const auto& [rows, cols] : {shape{1, 1}, shape{600, 40}, shape{3, 200}, shape{300, 300}}) {
        auto layer = layers::make_layer(rows, cols, layers::inputs::independent, 4);
        layer.H.row(0) *= 1e-3;  // dead by the threshold
        layer.H.col(0) *= 1e-3;
        const matrix W = layer.W.template cast<TestType>();
        for (std::size_t kind = 0; const layer_options& options : options_of_every_kind()) {
            for (const index_t workers : {1, 3}) {
                CAPTURE(rows, cols, kind, workers);
                magr::thread_pool pool(workers);
                const auto peak =
                    static_cast<double>(counted_memory::peak_of([&] { CHECK(magr::quantize_layer(W, layer.H, options, pool)); }));
                const auto bound = static_cast<double>(magr::workspace_bytes<TestType>(rows, cols, options, workers));
                CHECK(peak <= bound);
#ifdef MAGR_TEST_COUNTS_MALLOC
                if (workers == 1) CHECK(peak >= 0.45 * bound);  // MagR's bound is for rows that are solved in double
#endif
            }
            ++kind;
        }
    }
}

TEST_CASE("workspace_bytes of quantize_layer: bad arguments are refused", "[layer][memory][errors]") {
    CHECK_THROWS_AS(magr::workspace_bytes<float>(0, 10, layer_options{}), magr::shape_error);
    CHECK_THROWS_AS(magr::workspace_bytes<float>(10, 0, layer_options{}), magr::shape_error);
    CHECK_THROWS_AS(magr::workspace_bytes<float>(10, 10, layer_options{.minimum_tokens = -1}), magr::option_error);
    CHECK_THROWS_AS(magr::workspace_bytes<float>(10, 10, layer_options{}, 0), magr::option_error);
}
