// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include <magr/error.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/parallel/observer_flow.hpp>

namespace magr {

/// What the observer of a `watched_executor` is told after some tasks of a loop.
struct loop_progress {
    index_t loop = 0;   ///< number of the loop since the executor was made, from 1; loops without tasks do not count
    index_t done = 0;   ///< tasks of this loop that are done
    index_t tasks = 0;  ///< tasks of this loop
};

/// A callable that takes `const loop_progress&` and returns `observer_flow` or nothing.
template <class Observer>
concept loop_observer = std::invocable<Observer&, const loop_progress&> &&
                        (std::same_as<std::invoke_result_t<Observer&, const loop_progress&>, observer_flow> ||
                         std::is_void_v<std::invoke_result_t<Observer&, const loop_progress&>>);

/// Thrown through a function whose observer said stop.
class cancelled : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// Another executor, with an observer that sees every loop and can cancel what is going on: any function that takes an executor, in any of
/// its steps.
///
///   magr::thread_pool pool(8);
///   const auto observer = [&](const magr::loop_progress&) {
///       return stop_requested ? magr::observer_flow::stop : magr::observer_flow::proceed;
///   };
///   magr::watched_executor watched(pool, observer);
///   const auto result = magr::quantize_layer(W, H, options, watched);  // throws magr::cancelled soon after the request
///
/// The observer is called on the caller's thread, after every few tasks for each worker. After `observer_flow::stop` no other task begins,
/// and `cancelled` leaves the function, which returns nothing. What a function works on in place is then valid but half done: `preprocess`
/// leaves each row as it was or solved (its own observer says which), the proximal operators leave each vector as it was or done, the
/// refinements leave a matrix that is no worse than before, and an accumulator refuses to be used again.
///
/// Watch one call at a time. It does not own the other executor.
///
/// @par Numerics  the same bits as with the other executor
/// @par Errors    throws `cancelled`; what the observer throws passes through. Without exceptions the program ends instead
template <loop_observer Observer>
class watched_executor {
public:
    watched_executor(executor_ref exec, Observer observer) : exec_(exec), observer_(std::move(observer)) {}

    [[nodiscard]] index_t concurrency() const { return exec_.concurrency(); }

    template <class F>
    void parallel_for(index_t count, const F& f) {
        if (count <= 0) return;
        ++loops_;
        const index_t batch = 4 * exec_.concurrency();
        for (index_t first = 0; first < count; first += batch) {
            const index_t size = count - first < batch ? count - first : batch;
            exec_.parallel_for(size, [&](index_t task, index_t worker) { f(first + task, worker); });
            if (!proceeds({loops_, first + size, count})) detail::raise<cancelled>("cancelled by the observer");
        }
    }

private:
    [[nodiscard]] bool proceeds(const loop_progress& progress) {
        if constexpr (std::is_void_v<std::invoke_result_t<Observer&, const loop_progress&>>) {
            observer_(progress);
            return true;
        } else {
            return observer_(progress) == observer_flow::proceed;
        }
    }

    executor_ref exec_;
    Observer observer_;
    index_t loops_ = 0;
};

}  // namespace magr
