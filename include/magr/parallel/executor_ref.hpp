// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <type_traits>

#include <magr/error.hpp>
#include <magr/parallel/executor.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

/// A type-erased `executor` of two pointers, and an `executor` itself. Functions that work in parallel take it by value, so that they are
/// compiled once for all executors. By default it runs everything on the caller's thread.
///
/// It does not own the executor, which must outlive it: make it a parameter, not a member.
///
/// @par Errors    option_error if the executor says that its concurrency is below 1; exceptions of the executor or of a task pass through
/// @par Cost      one call through a pointer for each loop and one for each task; allocates nothing
class executor_ref {
public:
    executor_ref() noexcept : executor_ref(serial) {}

    template <class Executor>
        requires(!std::is_same_v<std::remove_cvref_t<Executor>, executor_ref> && executor<Executor>)
    executor_ref(Executor&& exec) noexcept
        : exec_(const_cast<void*>(static_cast<const void*>(&exec))), functions_(&functions_of<std::remove_reference_t<Executor>>) {}

    [[nodiscard]] index_t concurrency() const { return functions_->concurrency(exec_); }

    template <class F>
    void parallel_for(index_t count, const F& f) const {
        const auto call = [&f](index_t task, index_t worker) { f(task, worker); };
        functions_->parallel_for(exec_, count, {&run_task<decltype(call)>, &call});
    }

private:
    /// The tasks of a loop, independent of their type.
    struct tasks {
        void (*run)(const void* data, index_t task, index_t worker);
        const void* data;

        void operator()(index_t task, index_t worker) const { run(data, task, worker); }
    };

    struct functions {
        index_t (*concurrency)(void* exec);
        void (*parallel_for)(void* exec, index_t count, const tasks& f);
    };

    template <class F>
    static void run_task(const void* data, index_t task, index_t worker) {
        (*static_cast<const F*>(data))(task, worker);
    }
    template <class Executor>
    static index_t concurrency_of(void* exec) {
        const auto workers = static_cast<index_t>(static_cast<Executor*>(exec)->concurrency());
        if (workers < 1) detail::raise<option_error>("executor: concurrency() must be at least 1, it is " + std::to_string(workers));
        return workers;
    }
    template <class Executor>
    static void run_on(void* exec, index_t count, const tasks& f) {
        static_cast<Executor*>(exec)->parallel_for(count, f);
    }

    template <class Executor>
    static constexpr functions functions_of{&concurrency_of<Executor>, &run_on<Executor>};
    static constexpr serial_executor serial{};

    void* exec_;
    const functions* functions_;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
