// SPDX-License-Identifier: MIT
// Runs all functions on a thread with 64 KiB of stack, half of what musl gives a thread, and checks for the same bits with every executor.
// Compiled twice: the second time with OpenMP, with which Eigen would split products by itself.
#include <pthread.h>

#include <cstddef>

#include <magr/parallel/executor.hpp>
#if defined(_OPENMP)
#include <magr/parallel/openmp.hpp>
#endif

#include "host/every_function.hpp"
#include "support/catch.hpp"

TEST_CASE("64 KiB of stack are enough for every function", "[host][small_stack]") {
    const tests::layer l = tests::make_layer();
    struct job {
        const tests::layer& l;
        tests::numbers result;
    } on_small_stack{l, {}};
    pthread_attr_t attributes;
    REQUIRE(pthread_attr_init(&attributes) == 0);
    REQUIRE(pthread_attr_setstacksize(&attributes, std::size_t{64} * 1024) == 0);
    pthread_t thread;
    const auto work = [](void* data) -> void* {
        auto& j = *static_cast<job*>(data);
        j.result = tests::run_all(j.l, magr::serial_executor{});
        return nullptr;
    };
    REQUIRE(pthread_create(&thread, &attributes, work, &on_small_stack) == 0);
    REQUIRE(pthread_join(thread, nullptr) == 0);
    CHECK(pthread_attr_destroy(&attributes) == 0);
    CHECK(on_small_stack.result.all == tests::run_all(l, magr::serial_executor{}).all);
}

#if defined(_OPENMP)
TEST_CASE("with OpenMP in the host, the bits are the same for every executor and every number of threads", "[host][openmp]") {
    const tests::layer l = tests::make_layer();
    omp_set_num_threads(1);
    const tests::numbers one = tests::run_all(l, magr::serial_executor{});
    omp_set_num_threads(4);
    CHECK(tests::run_all(l, magr::serial_executor{}).all == one.all);
    CHECK(tests::run_all(l, magr::openmp_executor(2)).all == one.all);
}
#endif
