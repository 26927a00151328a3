// SPDX-License-Identifier: MIT
// Parallel loops without exceptions: they work, and an error in a task goes to the program's handler, on the thread of the task.
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <thread>

[[noreturn]] void on_failure(const char* message);
#define MAGR_FAILURE_HANDLER on_failure

#include <magr/parallel/callback.hpp>
#include <magr/parallel/thread_pool.hpp>
#include <magr/prox.hpp>

namespace {
std::thread::id failing_thread;

void run_serially(void*, std::size_t count, magr::callback_executor::task_function task, void* task_data) {
    for (std::size_t i = 0; i < count; ++i) task(task_data, i, 0);
}
}  // namespace

void on_failure(const char* message) {
    const bool expected = std::strcmp(message, "prox_linf: t must be at least 0, it is -1") == 0;
    std::_Exit(expected && std::this_thread::get_id() == failing_thread ? 0 : 2);
}

int main() {
    magr::thread_pool pool(2);
    const magr::callback_executor callback(run_serially, nullptr, 1);
    std::atomic<magr::index_t> sum{0};
    const auto add = [&](magr::index_t task, magr::index_t) { sum += task; };
    pool.parallel_for(100, add);
    callback.parallel_for(100, add);
    magr::serial_executor{}.parallel_for(100, add);
    if (sum != 3 * 4950) return 1;  // 99 * 100 / 2 each

    std::atomic<int> begun{0};
    pool.parallel_for(2, [&](magr::index_t, magr::index_t worker) {
        ++begun;
        while (begun < 2) std::this_thread::yield();  // each thread has a task, and the caller's does not fail
        if (worker == 0) {
            for (;;) std::this_thread::yield();
        }
        failing_thread = std::this_thread::get_id();
        float weights[] = {1, -2, 3};
        magr::prox_linf(magr::matrix_view(weights, 1, 3), -1.0);
    });
    return 3;  // the handler should have ended the program
}
