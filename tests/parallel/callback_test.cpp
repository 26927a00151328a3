// SPDX-License-Identifier: MIT
#include <magr/parallel/callback.hpp>

#include <atomic>
#include <cstddef>
#include <thread>
#include <vector>

#include <magr/error.hpp>
#include <magr/parallel/thread_pool.hpp>

#include "parallel/executor_contract.hpp"
#include "support/catch.hpp"

using magr::callback_executor;
using magr::index_t;

static_assert(magr::executor<const callback_executor&>);

namespace {

/// The pool of an engine with a C interface, as in the documentation of `callback_executor`. Its functions are noexcept to show that no
/// exception passes through them.
struct engine_pool {
    int threads;
};

void engine_run(engine_pool* pool, void (*job)(void* argument, int thread, int threads), void* argument) noexcept {
    std::vector<std::thread> helpers;
    for (int thread = 1; thread < pool->threads; ++thread) helpers.emplace_back(job, argument, thread, pool->threads);
    job(argument, 0, pool->threads);
    for (std::thread& helper : helpers) helper.join();
}

struct loop {
    std::size_t count;
    callback_executor::task_function task;
    void* task_data;
};

void work(void* argument, int thread, int threads) noexcept {
    const loop& l = *static_cast<loop*>(argument);
    for (auto i = static_cast<std::size_t>(thread); i < l.count; i += static_cast<std::size_t>(threads))
        l.task(l.task_data, i, static_cast<std::size_t>(thread));
}

void run(void* pool, std::size_t count, callback_executor::task_function task, void* task_data) noexcept {
    loop l{count, task, task_data};
    engine_run(static_cast<engine_pool*>(pool), work, &l);
}

/// Another engine, without threads, that runs the last task first.
void run_backwards(void* loops, std::size_t count, callback_executor::task_function task, void* task_data) noexcept {
    ++*static_cast<int*>(loops);
    for (std::size_t i = count; i-- > 0;) task(task_data, i, 0);
}

}  // namespace

TEST_CASE("callback_executor: keeps the contract of executors on the pool of an engine", "[parallel][callback][property]") {
    for (const int threads : {1, 2, 7}) {
        engine_pool pool{threads};
        const callback_executor exec(run, &pool, threads);
        tests::check_executor_contract(exec, threads);
    }
}

TEST_CASE("callback_executor: keeps the contract of executors on a pool in C++", "[parallel][callback][property]") {
    for (const index_t concurrency : {1, 2, 7}) {
        magr::thread_pool pool(concurrency);
        const callback_executor exec(  // a lambda without captures becomes the function
            [](void* context, std::size_t count, auto task, void* task_data) {
                static_cast<magr::thread_pool*>(context)->parallel_for(static_cast<index_t>(count), [=](index_t i, index_t thread) {
                    task(task_data, static_cast<std::size_t>(i), static_cast<std::size_t>(thread));
                });
            },
            &pool, concurrency);
        tests::check_executor_contract(exec, concurrency);
    }
}

TEST_CASE("callback_executor: keeps the contract of executors in descending order", "[parallel][callback][property]") {
    int loops = 0;
    const callback_executor exec(run_backwards, &loops, 1);
    tests::check_executor_contract(exec, 1);

    std::vector<index_t> order;
    loops = 0;
    exec.parallel_for(3, [&](index_t task, index_t) { order.push_back(task); });
    CHECK(order == std::vector<index_t>{2, 1, 0});
    CHECK(loops == 1);
    exec.parallel_for(0, [](index_t, index_t) {});
    CHECK(loops == 1);  // the host is not called without a task
}

TEST_CASE("callback_executor: a pool that cannot be called from within is not", "[parallel][callback]") {
    struct engine {
        std::atomic<bool> busy{false};
        std::atomic<int> calls_from_within{0};
    };
    const auto run_once = [](void* context, std::size_t count, auto task, void* task_data) {
        auto& self = *static_cast<engine*>(context);
        if (self.busy.exchange(true)) ++self.calls_from_within;
        for (std::size_t i = 0; i < count; ++i) task(task_data, i, 0);
        self.busy = false;
    };
    engine one, other;
    const callback_executor exec(run_once, &one, 1), same(run_once, &one, 1), different(run_once, &other, 1);
    int tasks = 0;
    exec.parallel_for(3, [&](index_t, index_t) {
        different.parallel_for(3, [&](index_t, index_t) { same.parallel_for(3, [&](index_t, index_t) { ++tasks; }); });
    });
    CHECK(tasks == 27);
    CHECK(one.calls_from_within == 0);
    CHECK(other.calls_from_within == 0);
    CHECK(!other.busy);
}

TEST_CASE("callback_executor: refuses what cannot run tasks", "[parallel][callback][contract]") {
    CHECK_THROWS_WITH(callback_executor(nullptr, nullptr, 1), "callback_executor: run must be a function, it is null");
    CHECK_THROWS_WITH(callback_executor(run, nullptr, 0), "callback_executor: concurrency must be at least 1, it is 0");
    CHECK_THROWS_AS(callback_executor(run, nullptr, -1), magr::option_error);
}
