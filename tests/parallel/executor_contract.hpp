// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <set>
#include <vector>

#include <magr/parallel/executor.hpp>

#include "support/catch.hpp"

namespace tests {

using magr::index_t;

/// Some work of a few microseconds, so that tasks overlap.
inline double work(index_t task) {
    volatile double x = static_cast<double>(task);
    for (int i = 0; i < 2000; ++i) x = 0.5 * x + 1;
    return x;
}

template <magr::executor Executor>
void check_each_task_runs_once(Executor& exec) {
    for (const index_t count : {-1, 0, 1, 2, 3, 8, 1000}) {
        CAPTURE(count);
        std::vector<std::atomic<int>> calls(static_cast<std::size_t>(std::max<index_t>(count, 0)));
        std::vector<double> results(calls.size());
        std::atomic<int> strays{0};
        exec.parallel_for(count, [&](index_t task, index_t) {
            if (task < 0 || task >= count) {
                ++strays;
                return;
            }
            ++calls[static_cast<std::size_t>(task)];
            results[static_cast<std::size_t>(task)] = work(task);
        });
        CHECK(strays == 0);
        index_t wrong = 0;
        for (std::size_t task = 0; task < calls.size(); ++task)
            wrong += calls[task] != 1 || results[task] != work(static_cast<index_t>(task)) ? 1 : 0;
        CHECK(wrong == 0);
    }
}

template <magr::executor Executor>
void check_workers_are_exclusive(Executor& exec) {
    const auto slots = static_cast<std::size_t>(exec.concurrency());
    std::vector<std::atomic<bool>> in_use(slots);
    std::vector<index_t> tasks_of(slots);  // not atomic, because it stands for scratch memory
    std::atomic<int> strays{0}, clashes{0};
    constexpr index_t count = 2000;
    exec.parallel_for(count, [&](index_t task, index_t worker) {
        if (worker < 0 || worker >= exec.concurrency()) {
            ++strays;
            return;
        }
        const auto slot = static_cast<std::size_t>(worker);
        if (in_use[slot].exchange(true)) ++clashes;
        work(task);
        ++tasks_of[slot];
        in_use[slot] = false;
    });
    CHECK(strays == 0);
    CHECK(clashes == 0);
    index_t sum = 0;
    for (const index_t tasks : tasks_of) sum += tasks;
    CHECK(sum == count);
}

/// Thrown by the tasks of the tests. It is not a standard exception, to test that any type arrives.
struct task_failed {
    index_t task;
};

template <magr::executor Executor>
void check_lowest_failure_arrives(Executor& exec) {
    constexpr index_t count = 300;
    std::set<index_t> some = {17, 18, 40, 41, 42, 299}, last = {299}, all;
    for (index_t task = 0; task < count; ++task) all.insert(task);

    for (int round = 0; round < 20; ++round)
        for (const auto* failing : {&some, &last, &all}) {
            const index_t lowest = *failing->begin();
            CAPTURE(round, lowest);
            std::vector<std::atomic<int>> calls(count);
            std::atomic<int> running{0};
            index_t arrived = -1;
            try {
                exec.parallel_for(count, [&](index_t task, index_t) {
                    ++running;
                    ++calls[static_cast<std::size_t>(task)];
                    work(task);
                    --running;
                    if (failing->count(task) > 0) throw task_failed{task};
                });
            } catch (const task_failed& failure) {
                arrived = failure.task;
            }
            CHECK(arrived == lowest);
            CHECK(running == 0);
            int missing_below = 0, repeated = 0;
            for (index_t task = 0; task < count; ++task) {
                const int called = calls[static_cast<std::size_t>(task)];
                missing_below += task <= lowest && called == 0 ? 1 : 0;
                repeated += called > 1 ? 1 : 0;
            }
            CHECK(missing_below == 0);
            CHECK(repeated == 0);
        }
    check_each_task_runs_once(exec);  // in particular, nothing is thrown again
}

template <magr::executor Executor>
void check_many_small_loops(Executor& exec) {
    std::vector<index_t> sums(static_cast<std::size_t>(exec.concurrency()));
    index_t expected = 0;
    for (index_t loop = 0; loop < 1000; ++loop) {
        const index_t count = loop % 5;
        exec.parallel_for(count, [&](index_t task, index_t worker) { sums[static_cast<std::size_t>(worker)] += loop + task; });
        expected += count * loop + count * (count - 1) / 2;
    }
    index_t sum = 0;
    for (const index_t part : sums) sum += part;
    CHECK(sum == expected);
}

/// Tasks that start loops on their own executor, whose tasks do the same: all of them run, and no two simultaneous tasks of one loop have
/// the same worker.
template <magr::executor Executor>
void check_loops_inside_of_tasks(Executor& exec) {
    constexpr index_t outer = 24, inner = 12, innermost = 3;
    std::vector<std::atomic<bool>> in_use(static_cast<std::size_t>(exec.concurrency()));
    std::atomic<index_t> sum{0}, clashes{0}, failures{0};
    exec.parallel_for(outer, [&](index_t task, index_t worker) {
        if (in_use[static_cast<std::size_t>(worker)].exchange(true)) ++clashes;
        std::vector<std::atomic<bool>> in_use_inside(static_cast<std::size_t>(exec.concurrency()));
        exec.parallel_for(inner, [&](index_t inner_task, index_t inner_worker) {
            if (in_use_inside[static_cast<std::size_t>(inner_worker)].exchange(true)) ++clashes;
            work(inner_task);
            exec.parallel_for(innermost, [&](index_t, index_t) { sum += task + inner_task; });
            in_use_inside[static_cast<std::size_t>(inner_worker)] = false;
        });
        try {
            exec.parallel_for(inner, [](index_t inner_task, index_t) {
                if (inner_task >= 5) throw task_failed{inner_task};
            });
        } catch (const task_failed& failure) {
            failures += failure.task == 5 ? 1 : 0;
        }
        in_use[static_cast<std::size_t>(worker)] = false;
    });
    CHECK(clashes == 0);
    CHECK(failures == outer);
    CHECK(sum == innermost * (inner * outer * (outer - 1) / 2 + outer * inner * (inner - 1) / 2));
}

/// Checks everything that `magr::executor` says in words.
template <magr::executor Executor>
void check_executor_contract(Executor& exec, index_t concurrency) {
    CAPTURE(concurrency);
    CHECK(exec.concurrency() == concurrency);
    check_each_task_runs_once(exec);
    check_workers_are_exclusive(exec);
    check_lowest_failure_arrives(exec);
    check_many_small_loops(exec);
    check_loops_inside_of_tasks(exec);
}

}  // namespace tests
