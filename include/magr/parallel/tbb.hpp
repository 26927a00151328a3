// SPDX-License-Identifier: MIT
#pragma once

#include <tbb/parallel_for.h>
#include <tbb/partitioner.h>
#include <tbb/task_arena.h>

#include <magr/detail/contract.hpp>
#include <magr/parallel/executor.hpp>
#include <magr/parallel/first_failure.hpp>

namespace magr {

/// An `executor` on the threads of oneTBB, in its own arena. Link the library (CMake: `find_package(TBB)`, `TBB::tbb`).
///
/// A task may start another loop, which the idle threads of the arena share.
class tbb_executor {
public:
    /// @param concurrency  by default as many as oneTBB would use; the thread that calls `parallel_for` is one of them
    /// @par Errors         option_error if concurrency < 1
    explicit tbb_executor(int concurrency = tbb::this_task_arena::max_concurrency()) : concurrency_(concurrency), arena_(concurrency) {
        detail::require_option(concurrency >= 1, "tbb_executor", "concurrency", "at least 1", concurrency);
    }

    [[nodiscard]] index_t concurrency() const noexcept { return concurrency_; }

    template <class F>
    void parallel_for(index_t count, const F& f) {
        detail::first_failure failure;
        const auto run = [&](index_t task) { failure.run(f, task, tbb::this_task_arena::current_thread_index()); };
        arena_.execute([&] {
            // isolated, because a thread that waits for a loop inside a task could otherwise start another task of the outer loop
            tbb::this_task_arena::isolate([&] { tbb::parallel_for(index_t{0}, count, run, tbb::simple_partitioner()); });
        });
        failure.rethrow();
    }

private:
    int concurrency_;
    tbb::task_arena arena_;
};

}  // namespace magr
