// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <type_traits>

#include <magr/matrix/matrix_view.hpp>

namespace magr {

/// Runs the tasks of a parallel loop. The library starts no threads: the host passes an executor, and without one everything runs on the
/// caller's thread.
///
///   exec.concurrency()           >= 1: how many tasks may run at once, so how many pieces of scratch memory a loop needs
///   exec.parallel_for(count, f)  calls f(task, worker) once for each task of 0..count-1, in any order and on any threads, and returns
///                                when all are done; f is called by several threads at once, hence const; no task if count <= 0
///
/// An executor promises that 0 <= worker < concurrency(), that two tasks running at the same time have different workers, and that the
/// caller sees everything the tasks wrote.
///
/// The caller promises that tasks do not wait for each other. A task may call parallel_for of the same executor with all executors of the
/// library, but the library itself never does so. Each task writes only to its own part of the result and to the scratch memory of its
/// worker. So results depend neither on the number of workers nor on the order of tasks, as long as all threads treat rounding and
/// subnormal numbers alike. All functions of the library keep to this.
///
/// @par Errors    if tasks throw, parallel_for throws one of their exceptions, once, after all tasks have stopped; the executor stays
///                usable. The executors of the library choose the exception of the lowest task: they skip a task only if a lower one has
///                failed. So the exception does not depend on threads either, unless the tasks' own exceptions do. Without exceptions,
///                `MAGR_FAILURE_HANDLER` is called on the thread whose task fails.
///
/// A function that works in parallel takes any executor as its last argument, as an `executor_ref`, and is serial without one:
///
///   template <class Weights>
///   void f(const Weights& W, executor_ref exec = {});
template <class Executor>
concept executor = requires(std::remove_reference_t<Executor>& exec, index_t count, void (&task)(index_t, index_t)) {
    { exec.concurrency() } -> std::convertible_to<index_t>;
    exec.parallel_for(count, task);
};

/// Runs tasks in ascending order on the caller's thread: a plain loop. The first exception ends it.
struct serial_executor {
    [[nodiscard]] constexpr index_t concurrency() const noexcept { return 1; }

    template <class F>
    constexpr void parallel_for(index_t count, const F& f) const {
        for (index_t task = 0; task < count; ++task) f(task, index_t{0});
    }
};

}  // namespace magr
