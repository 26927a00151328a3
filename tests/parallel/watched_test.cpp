// SPDX-License-Identifier: MIT
#include <magr/parallel/watched.hpp>

#include <Eigen/Core>
#include <stdexcept>
#include <vector>

#include <magr/drift/drift.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/parallel/thread_pool.hpp>
#include <magr/quantize_automatic.hpp>
#include <magr/quantize_layer.hpp>

#include "support/catch.hpp"
#include "support/random_matrix.hpp"

using Eigen::MatrixXf;
using magr::index_t;
using magr::loop_progress;
using magr::observer_flow;
using tests::random_matrix;

namespace {

magr::serial_executor serial;

struct layer {
    MatrixXf W = random_matrix(300, 64, 1).cast<float>(), H;
    magr::layer_options options;

    layer() {
        const MatrixXf X = random_matrix(200, 64, 2).cast<float>();
        H = X.transpose() * X;
        options.grid = {.bits = 3, .group_size = 16};
        options.preprocess = magr::preprocess_options{.alpha = 1e-3};
    }
};

}  // namespace

TEST_CASE("watched_executor: every task of a loop runs once, and the observer sees how many are done", "[parallel][watched]") {
    magr::thread_pool pool(3);
    for (const index_t count : {0, 1, 11, 12, 13, 100}) {
        std::vector<int> runs(static_cast<std::size_t>(count));
        std::vector<loop_progress> seen;
        magr::watched_executor watched(pool, [&](const loop_progress& progress) { seen.push_back(progress); });
        CHECK(watched.concurrency() == 3);
        watched.parallel_for(count, [&](index_t task, index_t worker) {
            ++runs[static_cast<std::size_t>(task)];
            if (worker < 0 || worker >= 3) throw std::out_of_range("worker");
        });
        CHECK(runs == std::vector<int>(static_cast<std::size_t>(count), 1));
        index_t before = 0;
        for (const loop_progress& progress : seen) {
            CHECK(progress.loop == 1);
            CHECK(progress.tasks == count);
            CHECK(progress.done > before);
            before = progress.done;
        }
        CHECK(before == count);
    }
}

TEST_CASE("watched_executor: the bits of a layer stay the same", "[parallel][watched][determinism]") {
    const layer data;
    const auto expected = magr::quantize_layer(data.W, data.H, data.options);
    index_t loops = 0;
    magr::thread_pool pool(2);
    magr::watched_executor watched(pool, [&](const loop_progress& progress) { loops = progress.loop; });
    const auto result = magr::quantize_layer(data.W, data.H, data.options, watched);
    CHECK(result.quantized.codes == expected.quantized.codes);
    CHECK(result.quantized.scales == expected.quantized.scales);
    CHECK(result.output_error == expected.output_error);
    CHECK(loops > 10);  // MagR, grids, OPTQ, refinement and reports all have loops
}

TEST_CASE("watched_executor: a layer can be cancelled in each of its loops", "[parallel][watched]") {
    const layer data;
    index_t loops = 0;
    magr::watched_executor counting(serial, [&](const loop_progress& progress) { loops = progress.loop; });
    static_cast<void>(magr::quantize_layer(data.W, data.H, data.options, counting));
    for (index_t last = 1; last <= loops; ++last) {
        index_t seen = 0;
        magr::watched_executor watched(serial, [&](const loop_progress& progress) {
            seen = progress.loop;
            return progress.loop < last ? observer_flow::proceed : observer_flow::stop;
        });
        const MatrixXf before = data.W;
        CHECK_THROWS_AS(magr::quantize_layer(data.W, data.H, data.options, watched), magr::cancelled);
        CHECK(seen == last);
        CHECK(data.W == before);
    }
    int calls = 0;
    magr::watched_executor once(serial, [&](const loop_progress&) {
        ++calls;
        return observer_flow::stop;
    });
    CHECK_THROWS_AS(magr::quantize_automatic(data.W, data.H, data.H, {}, once), magr::cancelled);
    CHECK(calls == 1);
}

TEST_CASE("watched_executor: what the observer throws passes through", "[parallel][watched]") {
    const layer data;
    magr::watched_executor watched(serial, [](const loop_progress&) { throw std::runtime_error("observer"); });
    CHECK_THROWS_WITH(magr::quantize_layer(data.W, data.H, data.options, watched), "observer");
}

TEST_CASE("watched_executor: an accumulator that was interrupted refuses to go on", "[parallel][watched]") {
    const MatrixXf X = random_matrix(400, 200, 3).cast<float>();
    magr::watched_executor stopping(serial, [](const loop_progress&) { return observer_flow::stop; });
    magr::gram_accumulator<float> gram(200), whole(200);
    whole.add(X);
    CHECK_THROWS_AS(gram.add(X, stopping), magr::cancelled);
    CHECK_THROWS_AS(gram.add(X), magr::value_error);
    CHECK_THROWS_AS(gram.gram(), magr::value_error);
    CHECK_THROWS_AS(whole.merge(gram), magr::value_error);
    CHECK(whole.tokens() == 400);
    magr::drift_accumulator<float> drift(200);
    CHECK_THROWS_AS(drift.add(X, X, stopping), magr::cancelled);
    CHECK_THROWS_AS(drift.add(X, X), magr::value_error);
    CHECK_THROWS_AS(drift.drift(), magr::value_error);
    // one that was only looked at is as it was
    CHECK_THROWS_AS(whole.gram(stopping), magr::cancelled);
    CHECK(whole.gram().rows() == 200);
}

TEST_CASE("watched_executor: an interrupted refinement leaves a matrix that is no worse", "[parallel][watched]") {
    const layer data;
    magr::serial_executor plain;
    auto quantized = magr::quantize_rtn(data.W, {.bits = 3});
    const double before = magr::output_error(data.W, quantized.dequantize(), data.H);
    for (const index_t last : {1, 2, 3, 4, 5}) {
        magr::watched_executor watched(
            plain, [&](const loop_progress& progress) { return progress.loop < last ? observer_flow::proceed : observer_flow::stop; });
        try {
            magr::refine_codes(quantized, data.W, data.H, {}, watched);
        } catch (const magr::cancelled&) {
        }
        CHECK(magr::output_error(data.W, quantized.dequantize(), data.H) <= before * (1 + 1e-6));
    }
}
