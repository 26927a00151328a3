// SPDX-License-Identifier: MIT
#include <magr/parallel/openmp.hpp>

#include <omp.h>

#include <magr/error.hpp>

#include "parallel/executor_contract.hpp"
#include "support/catch.hpp"

using magr::index_t;
using magr::openmp_executor;

static_assert(magr::executor<const openmp_executor&>);

/// For the leak sanitizer: LLVM's OpenMP leaks its own memory when a team grows, even in a bare program.
extern "C" const char* __lsan_default_suppressions() { return "leak:libomp"; }

TEST_CASE("openmp_executor: keeps the contract of executors", "[parallel][openmp][property]") {
    for (const int threads : {1, 2, 7}) {
        const openmp_executor exec(threads);
        tests::check_executor_contract(exec, threads);
    }
}

TEST_CASE("openmp_executor: runs as many threads as OpenMP gives, and never more than it says", "[parallel][openmp]") {
    CHECK(openmp_executor().concurrency() == omp_get_max_threads());
    for (const int threads : {1, 2, 7}) {
        int given = 0;
        openmp_executor(threads).parallel_for(1, [&](index_t, index_t) { given = omp_get_num_threads(); });
        CHECK(given >= 1);
        CHECK(given <= threads);
        if (omp_get_dynamic() == 0 && omp_get_thread_limit() >= threads) CHECK(given == threads);
    }
}

TEST_CASE("openmp_executor: each thread of a parallel region of the host may run a loop of its own", "[parallel][openmp]") {
    constexpr int regions = 3;
    constexpr index_t count = 200;
    index_t sums[regions] = {};
#pragma omp parallel for num_threads(regions)
    for (int r = 0; r < regions; ++r) {
        const openmp_executor exec(2);
        index_t by_worker[2] = {};
        exec.parallel_for(count, [&](index_t task, index_t worker) { by_worker[worker] += task; });
        sums[r] = by_worker[0] + by_worker[1];
    }
    for (const index_t sum : sums) CHECK(sum == count * (count - 1) / 2);
}

TEST_CASE("openmp_executor: loops inside of tasks where OpenMP allows nested regions", "[parallel][openmp]") {
    const int before = omp_get_max_active_levels();
    omp_set_max_active_levels(3);
    const openmp_executor exec(2);
    tests::check_loops_inside_of_tasks(exec);
    omp_set_max_active_levels(before);
}

TEST_CASE("openmp_executor: refuses to be without a thread", "[parallel][openmp][contract]") {
    CHECK_THROWS_WITH(openmp_executor(0), "openmp_executor: threads must be at least 1, it is 0");
    CHECK_THROWS_AS(openmp_executor(-1), magr::option_error);
}
