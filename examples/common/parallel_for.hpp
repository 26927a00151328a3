// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace examples {

/// Calls body(0), ..., body(count - 1) on up to `threads` threads, in no particular order. Results do not depend on the number of
/// threads as long as each index writes only to its own place. The first exception of a body is thrown again here.
template <class Body>
void parallel_for(std::size_t count, int threads, const Body& body) {
    std::atomic<std::size_t> next{0};
    std::mutex mutex;
    std::exception_ptr failure;
    const auto work = [&] {
        for (std::size_t i; (i = next.fetch_add(1)) < count;) {
            try {
                body(i);
            } catch (...) {
                const std::lock_guard lock(mutex);
                if (!failure) failure = std::current_exception();
                next = count;
            }
        }
    };
    {
        std::vector<std::jthread> helpers;  // joined at the end of this scope
        const std::size_t workers = std::min(count, static_cast<std::size_t>(std::max(threads, 1)));
        for (std::size_t t = 1; t < workers; ++t) helpers.emplace_back(work);
        work();
    }
    if (failure) std::rethrow_exception(failure);
}

}  // namespace examples
