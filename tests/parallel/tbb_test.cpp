// SPDX-License-Identifier: MIT
#include <magr/parallel/tbb.hpp>

#include <tbb/global_control.h>
#include <thread>

#include <magr/error.hpp>

#include "parallel/executor_contract.hpp"
#include "support/catch.hpp"

using magr::index_t;
using magr::tbb_executor;

static_assert(magr::executor<tbb_executor&>);

TEST_CASE("tbb_executor: keeps the contract of executors", "[parallel][tbb][property]") {
    for (const int concurrency : {1, 2, 7}) {
        tbb_executor exec(concurrency);
        tests::check_executor_contract(exec, concurrency);
    }
}

TEST_CASE("tbb_executor: takes what oneTBB takes unless told otherwise, and no thread but the caller's for one worker", "[parallel][tbb]") {
    CHECK(tbb_executor().concurrency() == tbb::this_task_arena::max_concurrency());
    tbb_executor alone(1);
    int elsewhere = 0;
    const auto caller = std::this_thread::get_id();
    alone.parallel_for(500, [&](index_t, index_t) { elsewhere += std::this_thread::get_id() != caller ? 1 : 0; });
    CHECK(elsewhere == 0);
}

TEST_CASE("tbb_executor: keeps its own workers within an arena of the host", "[parallel][tbb]") {
    tbb::task_arena host(4);
    tbb_executor exec(2);
    host.execute([&] { tests::check_workers_are_exclusive(exec); });
}

TEST_CASE("tbb_executor: a worker that waits inside of a task begins no other task of the same loop", "[parallel][tbb]") {
    const tbb::global_control threads(tbb::global_control::max_allowed_parallelism, 4);  // also on machines with fewer processors
    tbb_executor exec(4);
    for (int round = 0; round < 20; ++round) tests::check_loops_inside_of_tasks(exec);
}

TEST_CASE("tbb_executor: refuses to be without a worker", "[parallel][tbb][contract]") {
    CHECK_THROWS_WITH(tbb_executor(0), "tbb_executor: concurrency must be at least 1, it is 0");
    CHECK_THROWS_AS(tbb_executor(-1), magr::option_error);
}
