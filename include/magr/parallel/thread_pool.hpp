// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include <magr/detail/contract.hpp>
#include <magr/parallel/executor.hpp>
#include <magr/parallel/first_failure.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

/// An `executor` with its own threads, for hosts that have none to offer. They live as long as the pool and sleep between loops.
///
/// Link the system's threads (CMake: `find_package(Threads)`, `Threads::Threads`); `magr::magr` does not. Units compiled for different
/// instruction sets each have their own type of this name; to share a pool between them, pass a `callback_executor` that calls it.
///
/// A loop that starts while another one runs, inside one of its tasks or on another thread, runs on the calling thread.
///
/// @par Cost      a loop allocates nothing; workers take one task at a time from a counter; only as many are woken as there are tasks
class thread_pool {
public:
    /// Starts concurrency - 1 threads: the thread that calls `parallel_for` works too, as worker 0.
    /// @param concurrency  for example `std::thread::hardware_concurrency()`, which may be 0 if unknown
    /// @par Errors         option_error if concurrency < 1; std::system_error if a thread cannot be started
    explicit thread_pool(index_t concurrency) : thread_pool() {  // from here on the destructor joins the threads that were started
        detail::require_option(concurrency >= 1, "thread_pool", "concurrency", "at least 1", concurrency);
        threads_.reserve(static_cast<std::size_t>(concurrency - 1));
        for (index_t worker = 1; worker < concurrency; ++worker) threads_.emplace_back([this, worker] { help(worker); });
    }

    ~thread_pool() {
        {
            const std::lock_guard lock(mutex_);
            closing_ = true;
        }
        wake_.notify_all();
        for (std::thread& thread : threads_) thread.join();
    }

    thread_pool(const thread_pool&) = delete;
    thread_pool& operator=(const thread_pool&) = delete;

    [[nodiscard]] index_t concurrency() const noexcept { return static_cast<index_t>(threads_.size()) + 1; }

    template <class F>
    void parallel_for(index_t count, const F& f) {
        if (!begin()) return serial_executor{}.parallel_for(count, f);
        detail::first_failure failure;
        std::atomic<index_t> next{0};
        const auto work = [&](index_t worker) {
            for (index_t task; (task = next.fetch_add(1, std::memory_order_relaxed)) < count;) failure.run(f, task, worker);
        };
        {
            const std::lock_guard lock(mutex_);
            loop_ = {[](const void* data, index_t worker) { (*static_cast<decltype(&work)>(data))(worker); }, &work};
        }
        for (index_t helper = 1; helper < (std::min)(count, concurrency()); ++helper) wake_.notify_one();
        work(0);
        {
            std::unique_lock lock(mutex_);
            loop_ = {};  // no task is left: a thread that wakes up now goes back to sleep
            done_.wait(lock, [this] { return helpers_ == 0; });
            busy_ = false;
        }
        failure.rethrow();
    }

private:
    /// The work of the caller's thread and of its helpers: it returns when no task is left. Empty between loops.
    struct shared_loop {
        void (*run)(const void* data, index_t worker) = nullptr;
        const void* data = nullptr;
    };

    thread_pool() = default;

    /// Claims the workers for a loop, unless another loop has them.
    [[nodiscard]] bool begin() {
        const std::lock_guard lock(mutex_);
        return !std::exchange(busy_, true);
    }

    void help(index_t worker) {
        std::unique_lock lock(mutex_);
        for (;;) {
            wake_.wait(lock, [this] { return closing_ || loop_.run; });
            if (closing_) return;
            const shared_loop loop = loop_;
            ++helpers_;
            lock.unlock();
            loop.run(loop.data, worker);
            lock.lock();
            loop_ = {};
            if (--helpers_ == 0) done_.notify_one();
        }
    }

    std::mutex mutex_;  // guards everything below except the threads
    std::condition_variable wake_;
    std::condition_variable done_;
    shared_loop loop_;
    index_t helpers_ = 0;  // threads that are inside the loop
    bool busy_ = false;    // whether a loop has the workers
    bool closing_ = false;
    std::vector<std::thread> threads_;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
