// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>

#include <magr/detail/contract.hpp>
#include <magr/parallel/executor.hpp>
#include <magr/parallel/first_failure.hpp>

namespace magr {

/// An `executor` on a function of the host, for engines with threads of their own and a C interface. For a pool in C++ it is as simple to
/// write an executor.
///
/// The host's function calls `task(task_data, index, worker)` once for each index of 0..count-1, with what `executor` asks of workers, and
/// returns when all are done. With a pool `engine_run(pool, job, argument)` that calls `job(argument, thread, threads)` on each of its
/// threads:
///
///   struct loop {
///       std::size_t count;
///       magr::callback_executor::task_function task;
///       void* task_data;
///   };
///   void work(void* argument, int thread, int threads) {   // every thread takes its share
///       const loop& l = *static_cast<loop*>(argument);
///       for (auto i = static_cast<std::size_t>(thread); i < l.count; i += static_cast<std::size_t>(threads))
///           l.task(l.task_data, i, static_cast<std::size_t>(thread));
///   }
///   void run(void* pool, std::size_t count, magr::callback_executor::task_function task, void* task_data) {
///       loop l{count, task, task_data};
///       engine_run(static_cast<engine_pool*>(pool), work, &l);
///   }
///   const magr::callback_executor exec(run, pool, threads);
///
/// No exception passes through the host's frames: those of tasks are kept and thrown again when its function has returned.
class callback_executor {
public:
    using task_function = void (*)(void* task_data, std::size_t index, std::size_t worker);
    using run_function = void (*)(void* context, std::size_t count, task_function task, void* task_data);

    /// @param context      handed to `run`; it must live as long as the executor is used
    /// @param concurrency  more than the largest worker that `run` names
    /// @par Errors         option_error if run is null or concurrency < 1
    callback_executor(run_function run, void* context, index_t concurrency) : run_(run), context_(context), concurrency_(concurrency) {
        detail::require_option(run != nullptr, "callback_executor", "run", "a function", "null");
        detail::require_option(concurrency >= 1, "callback_executor", "concurrency", "at least 1", concurrency);
    }

    [[nodiscard]] index_t concurrency() const noexcept { return concurrency_; }

    template <class F>
    void parallel_for(index_t count, const F& f) const {
        loop<F> tasks{f, count, concurrency_, {}};
        if (count > 0) run_(context_, static_cast<std::size_t>(count), &loop<F>::run, &tasks);
        tasks.failure.rethrow();
    }

private:
    template <class F>
    struct loop {
        static void run(void* data, std::size_t index, std::size_t worker) noexcept {
            loop& self = *static_cast<loop*>(data);
            MAGR_ASSERT(index < static_cast<std::size_t>(self.count) && worker < static_cast<std::size_t>(self.concurrency));
            self.failure.run(self.f, static_cast<index_t>(index), static_cast<index_t>(worker));
        }

        const F& f;
        index_t count;
        index_t concurrency;
        detail::first_failure failure;
    };

    run_function run_;
    void* context_;
    index_t concurrency_;
};

}  // namespace magr
