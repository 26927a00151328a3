// SPDX-License-Identifier: MIT
// Checks for the same bits with every executor and every number of workers. The thread sanitizer runs this program too.
#include <cstddef>
#include <thread>
#include <vector>

#include <magr/parallel/callback.hpp>
#include <magr/parallel/thread_pool.hpp>
#if defined(_OPENMP)
#include <magr/parallel/openmp.hpp>
#endif
#if defined(MAGR_TEST_TBB)
#include <magr/parallel/tbb.hpp>
#endif

#include "host/every_function.hpp"
#include "support/catch.hpp"

using magr::index_t;

namespace {

constexpr index_t worker_counts[] = {1, 2, 4};

/// The expected result of all executors.
const tests::layer& layer() {
    static const tests::layer made = tests::make_layer();
    return made;
}
const std::vector<double>& expected() {
    static const tests::numbers made = tests::run_all(layer(), magr::serial_executor{});
    return made.all;
}

/// An engine that starts threads for every loop; thread k takes the tasks k, k + threads, ...
void run_striped(void* threads, std::size_t count, magr::callback_executor::task_function task, void* task_data) {
    const std::size_t all = *static_cast<std::size_t*>(threads);
    const auto take_share = [=](std::size_t thread) {
        for (std::size_t i = thread; i < count; i += all) task(task_data, i, thread);
    };
    std::vector<std::thread> helpers;
    for (std::size_t thread = 1; thread < all; ++thread) helpers.emplace_back(take_share, thread);
    take_share(0);
    for (std::thread& helper : helpers) helper.join();
}

}  // namespace

TEST_CASE("thread_pool: every function gives the bits of serial_executor", "[host][threads][determinism]") {
    for (const index_t workers : worker_counts) {
        CAPTURE(workers);
        magr::thread_pool pool(workers);
        CHECK(tests::run_all(layer(), pool).all == expected());
    }
}

TEST_CASE("callback_executor: every function gives the bits of serial_executor", "[host][threads][determinism]") {
    for (const index_t workers : worker_counts) {
        CAPTURE(workers);
        auto threads = static_cast<std::size_t>(workers);
        CHECK(tests::run_all(layer(), magr::callback_executor(run_striped, &threads, workers)).all == expected());
    }
}

TEST_CASE("thread_pool: two layers at once, and layers inside of tasks", "[host][threads][determinism]") {
    magr::thread_pool pool(2);
    std::vector<double> other;
    std::thread host([&] { other = tests::run_all(layer(), pool).all; });
    const std::vector<double> own = tests::run_all(layer(), pool).all;
    host.join();
    CHECK(own == expected());
    CHECK(other == expected());

    std::vector<std::vector<double>> results(3);
    pool.parallel_for(3, [&](index_t task, index_t) { results[static_cast<std::size_t>(task)] = tests::run_all(layer(), pool).all; });
    for (const std::vector<double>& result : results) CHECK(result == expected());
}

#if defined(_OPENMP)
TEST_CASE("openmp_executor: every function gives the bits of serial_executor", "[host][threads][determinism]") {
    for (const index_t workers : worker_counts) {
        CAPTURE(workers);
        CHECK(tests::run_all(layer(), magr::openmp_executor(static_cast<int>(workers))).all == expected());
    }
}
#endif

#if defined(MAGR_TEST_TBB)
TEST_CASE("tbb_executor: every function gives the bits of serial_executor", "[host][threads][determinism]") {
    for (const index_t workers : worker_counts) {
        CAPTURE(workers);
        magr::tbb_executor exec(static_cast<int>(workers));
        CHECK(tests::run_all(layer(), exec).all == expected());
    }
}
#endif
