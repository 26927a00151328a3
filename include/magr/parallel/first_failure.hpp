// SPDX-License-Identifier: MIT
#pragma once

#include <atomic>
#include <exception>
#include <limits>
#include <mutex>

#include <magr/matrix/matrix_view.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Keeps the exception of the lowest task of one parallel loop until all workers have stopped. A task is skipped only if a lower one has
/// failed, so the lowest task that throws always runs, in every order.
class first_failure {
public:
    /// Calls f(task, worker), or does nothing after a failure of a lower task. Any number of threads may call this.
    template <class F>
    void run(const F& f, index_t task, index_t worker) noexcept {
#if defined(__cpp_exceptions)
        if (task > task_.load(std::memory_order_relaxed)) return;
        try {
            f(task, worker);
        } catch (...) {
            const std::lock_guard lock(mutex_);
            if (task < task_.load(std::memory_order_relaxed)) {
                task_.store(task, std::memory_order_relaxed);
                exception_ = std::current_exception();
            }
        }
#else
        f(task, worker);
#endif
    }

    /// Rethrows the kept exception, if there is one. Call it when all tasks have ended.
    void rethrow() const {
#if defined(__cpp_exceptions)
        if (exception_) std::rethrow_exception(exception_);
#endif
    }

#if defined(__cpp_exceptions)
private:
    std::atomic<index_t> task_{(std::numeric_limits<index_t>::max)()};
    std::mutex mutex_;
    std::exception_ptr exception_;
#endif
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
