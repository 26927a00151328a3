// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>

#include <magr/detail/contract.hpp>
#include <magr/parallel/executor.hpp>
#include <magr/parallel/first_failure.hpp>

namespace magr {
namespace detail {

/// Marks the current thread as inside a task of a `callback_executor`, as long as this object lives.
class callback_task {
public:
    using run_function = void (*)(void*, std::size_t, void (*)(void*, std::size_t, std::size_t), void*);

    MAGR_ALWAYS_INLINE callback_task(run_function run, void* context) noexcept : run_(run), context_(context), outer_(innermost) {
        innermost = this;
    }
    callback_task(const callback_task&) = delete;
    callback_task& operator=(const callback_task&) = delete;
    MAGR_ALWAYS_INLINE ~callback_task() { innermost = outer_; }

    /// Whether the current thread is inside a task of this function and context.
    [[nodiscard]] static MAGR_ALWAYS_INLINE bool is_running(run_function run, void* context) noexcept {
        for (const callback_task* task = innermost; task != nullptr; task = task->outer_)
            if (task->run_ == run && task->context_ == context) return true;
        return false;
    }

private:
    static inline constinit thread_local const callback_task* innermost = nullptr;

    run_function run_;
    void* context_;
    const callback_task* outer_;
};

}  // namespace detail

/// An `executor` that calls a function of the host, for engines with their own threads and a C interface. For a C++ pool, write an executor
/// directly.
///
/// The host's function calls `task(task_data, index, worker)` once for each index of 0..count-1, with workers as `executor` requires, and
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
/// If a task starts a loop on the same function and context, the loop runs on the thread of that task, because not every pool allows nested
/// calls.
///
/// No exception passes through the host's frames: the executor keeps those of tasks and rethrows when the host's function has returned.
class callback_executor {
public:
    using task_function = void (*)(void* task_data, std::size_t index, std::size_t worker);
    using run_function = void (*)(void* context, std::size_t count, task_function task, void* task_data);

    /// @param context      handed to `run`; it must live as long as the executor is used
    /// @param concurrency  greater than the largest worker that `run` passes
    /// @par Errors         option_error if run is null or concurrency < 1
    callback_executor(run_function run, void* context, index_t concurrency) : run_(run), context_(context), concurrency_(concurrency) {
        detail::require_option(run != nullptr, "callback_executor", "run", "a function", "null");
        detail::require_option(concurrency >= 1, "callback_executor", "concurrency", "at least 1", concurrency);
    }

    [[nodiscard]] index_t concurrency() const noexcept { return concurrency_; }

    template <class F>
    void parallel_for(index_t count, const F& f) const {
        if (detail::callback_task::is_running(run_, context_)) return serial_executor{}.parallel_for(count, f);
        loop<F> tasks{f, *this, count, {}};
        if (count > 0) run_(context_, static_cast<std::size_t>(count), &loop<F>::run, &tasks);
        tasks.failure.rethrow();
    }

private:
    template <class F>
    struct loop {
        static void run(void* data, std::size_t index, std::size_t worker) noexcept {
            loop& self = *static_cast<loop*>(data);
            MAGR_ASSERT(index < static_cast<std::size_t>(self.count) && worker < static_cast<std::size_t>(self.exec.concurrency_));
            const detail::callback_task inside(self.exec.run_, self.exec.context_);
            self.failure.run(self.f, static_cast<index_t>(index), static_cast<index_t>(worker));
        }

        const F& f;
        const callback_executor& exec;
        index_t count;
        detail::first_failure failure;
    };

    run_function run_;
    void* context_;
    index_t concurrency_;
};

}  // namespace magr
