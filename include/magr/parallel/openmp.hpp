// SPDX-License-Identifier: MIT
#pragma once

#if !defined(_OPENMP)
#error "magr: <magr/parallel/openmp.hpp> needs OpenMP: compile and link with -fopenmp (CMake: OpenMP::OpenMP_CXX)"
#endif

#include <omp.h>

#include <magr/detail/contract.hpp>
#include <magr/parallel/executor.hpp>
#include <magr/parallel/first_failure.hpp>

namespace magr {

/// An `executor` on the threads of OpenMP. Each loop is its own parallel region with at most `threads` threads, which take one task at a
/// time.
///
/// A loop inside a task, or inside a parallel region of the host, runs on the calling thread, unless OpenMP allows nested regions
/// (`omp_set_max_active_levels`).
class openmp_executor {
public:
    /// @param threads  by default as many as OpenMP would use
    /// @par Errors     option_error if threads < 1
    explicit openmp_executor(int threads = omp_get_max_threads()) : threads_(threads) {
        detail::require_option(threads >= 1, "openmp_executor", "threads", "at least 1", threads);
    }

    [[nodiscard]] index_t concurrency() const noexcept { return threads_; }

    template <class F>
    void parallel_for(index_t count, const F& f) const {
        detail::first_failure failure;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads_)
        for (index_t task = 0; task < count; ++task) failure.run(f, task, omp_get_thread_num());
        failure.rethrow();
    }

private:
    int threads_;
};

}  // namespace magr
