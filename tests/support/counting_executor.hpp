// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <vector>

#include <magr/parallel/executor.hpp>

/// Runs tasks on the caller's thread and remembers how many each loop had.
struct counting_executor {
    std::vector<magr::index_t> loops = {};

    [[nodiscard]] magr::index_t concurrency() const noexcept { return 1; }

    template <class F>
    void parallel_for(magr::index_t count, const F& f) {
        loops.push_back(count);
        for (magr::index_t task = 0; task < count; ++task) f(task, magr::index_t{0});
    }

    [[nodiscard]] magr::index_t loops_of(magr::index_t count) const { return std::count(loops.begin(), loops.end(), count); }
};
