// SPDX-License-Identifier: MIT
#include <magr/parallel/thread_pool.hpp>

#include <atomic>
#include <chrono>
#include <set>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include <magr/error.hpp>

#include "parallel/executor_contract.hpp"
#include "support/catch.hpp"

using magr::index_t;
using magr::thread_pool;

static_assert(magr::executor<thread_pool&>);
static_assert(!std::is_copy_constructible_v<thread_pool> && !std::is_move_constructible_v<thread_pool>);

namespace {

/// The thread of each worker, found by a loop whose tasks wait until all of them have begun, which only a test may do: each task needs its
/// own worker. If there are too few workers, the tasks end after a while and workers are missing.
std::vector<std::thread::id> threads_of_workers(thread_pool& pool) {
    const index_t count = pool.concurrency();
    std::vector<std::thread::id> threads(static_cast<std::size_t>(count));
    std::atomic<index_t> begun{0};
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    pool.parallel_for(count, [&](index_t, index_t worker) {
        threads[static_cast<std::size_t>(worker)] = std::this_thread::get_id();
        ++begun;
        while (begun < count && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    });
    return threads;
}

}  // namespace

TEST_CASE("thread_pool: keeps the contract of executors", "[parallel][thread_pool][property]") {
    for (const index_t concurrency : {1, 2, 7}) {
        thread_pool pool(concurrency);
        tests::check_executor_contract(pool, concurrency);
    }
}

TEST_CASE("thread_pool: as many threads at once as it says, the caller's as worker 0, the same in every loop", "[parallel][thread_pool]") {
    for (const index_t concurrency : {1, 2, 7}) {
        CAPTURE(concurrency);
        thread_pool pool(concurrency);
        const auto threads = threads_of_workers(pool);
        CHECK(threads[0] == std::this_thread::get_id());
        const std::set<std::thread::id> different(threads.begin(), threads.end());
        CHECK(static_cast<index_t>(different.size()) == concurrency);
        CHECK(different.count(std::thread::id()) == 0);
        CHECK(threads_of_workers(pool) == threads);
    }
}

TEST_CASE("thread_pool: one thread after another may call it, each as worker 0", "[parallel][thread_pool]") {
    thread_pool pool(2);
    std::thread::id first_worker, other;
    std::thread caller([&] {
        other = std::this_thread::get_id();
        first_worker = threads_of_workers(pool)[0];
    });
    caller.join();
    CHECK(first_worker == other);
    CHECK(threads_of_workers(pool)[0] == std::this_thread::get_id());
}

TEST_CASE("thread_pool: a loop inside of a task runs on the thread of that task, as worker 0", "[parallel][thread_pool]") {
    thread_pool pool(2);
    std::atomic<index_t> elsewhere{0};
    pool.parallel_for(50, [&](index_t, index_t) {
        const auto here = std::this_thread::get_id();
        pool.parallel_for(50, [&](index_t, index_t worker) { elsewhere += worker != 0 || std::this_thread::get_id() != here ? 1 : 0; });
    });
    CHECK(elsewhere == 0);
}

TEST_CASE("thread_pool: two threads may call it at the same time", "[parallel][thread_pool]") {
    thread_pool pool(3);
    index_t sums[2] = {};
    const auto call = [&](index_t& sum) {
        for (int loop = 0; loop < 300; ++loop) {
            std::atomic<index_t> tasks{0};
            pool.parallel_for(7, [&](index_t, index_t) { ++tasks; });
            sum += tasks;
        }
    };
    std::thread other([&] { call(sums[1]); });
    call(sums[0]);
    other.join();
    CHECK(sums[0] == 2100);
    CHECK(sums[1] == 2100);
}

TEST_CASE("thread_pool: ends whether or not it was used", "[parallel][thread_pool][edge]") {
    std::atomic<index_t> tasks{0};
    for (int i = 0; i < 200; ++i) {
        const thread_pool unused(3);
        thread_pool used(3);
        used.parallel_for(2, [&](index_t, index_t) { ++tasks; });
    }
    CHECK(tasks == 400);
}

TEST_CASE("thread_pool: refuses to be without a worker", "[parallel][thread_pool][contract]") {
    for (const index_t concurrency : {0, -1})
        CHECK_THROWS_WITH(thread_pool(concurrency), "thread_pool: concurrency must be at least 1, it is " + std::to_string(concurrency));
    CHECK_THROWS_AS(thread_pool(0), magr::option_error);
}
