// SPDX-License-Identifier: MIT
#include <magr/parallel/executor_ref.hpp>

#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include <magr/calibration/gram.hpp>
#include <magr/parallel/thread_pool.hpp>
#include <magr/parallel/watched.hpp>
#include <magr/preprocess.hpp>
#include <magr/quantize_layer.hpp>

#include "parallel/executor_contract.hpp"
#include "support/catch.hpp"
#include "support/counted_memory.hpp"

using magr::executor_ref;
using magr::index_t;

namespace {

/// A minimal executor: its workers are int, it cannot be copied, is not const, and takes tasks by value and runs the last one first.
struct plain_executor {
    plain_executor() = default;
    plain_executor(const plain_executor&) = delete;

    int concurrency() { return 2; }
    template <class F>
    void parallel_for(index_t count, F f) {
        ++loops;
        for (index_t task = count; task-- > 0;) f(task, static_cast<int>(task % 2));
    }

    int loops = 0;
};

/// An executor that fails by itself.
struct broken_executor {
    index_t concurrency() const { return 4; }
    template <class F>
    void parallel_for(index_t, const F&) const {
        throw std::string("no threads");
    }
};

/// A function with the signature that the library uses: squares of 0..count-1.
std::vector<index_t> squares(index_t count, executor_ref exec = {}) {
    std::vector<index_t> out(static_cast<std::size_t>(count));
    exec.parallel_for(count, [&](index_t task, index_t) { out[static_cast<std::size_t>(task)] = task * task; });
    return out;
}

const std::vector<index_t> five_squares = {0, 1, 4, 9, 16};

}  // namespace

static_assert(magr::executor<executor_ref>);
static_assert(magr::executor<plain_executor>);
static_assert(std::is_convertible_v<magr::thread_pool&, executor_ref>);
static_assert(std::is_convertible_v<const magr::serial_executor&, executor_ref>);
static_assert(!std::is_convertible_v<int, executor_ref>);
static_assert(!std::is_convertible_v<const plain_executor&, executor_ref>);  // running loops needs a non-const one
static_assert(std::is_trivially_copyable_v<executor_ref> && sizeof(executor_ref) == 2 * sizeof(void*));

TEST_CASE("executor_ref: keeps the contract of executors on a pool, on another reference and without an executor", "[parallel][property]") {
    magr::thread_pool pool(3);
    executor_ref on_pool(pool);
    tests::check_executor_contract(on_pool, 3);
    executor_ref copy = on_pool;
    tests::check_executor_contract(copy, 3);
    executor_ref serial;
    tests::check_executor_contract(serial, 1);
}

TEST_CASE("executor_ref: without an executor tasks run in ascending order on the caller's thread", "[parallel]") {
    std::vector<index_t> order;
    const auto caller = std::this_thread::get_id();
    executor_ref().parallel_for(4, [&](index_t task, index_t worker) {
        CHECK(std::this_thread::get_id() == caller);
        CHECK(worker == 0);
        order.push_back(task);
    });
    CHECK(order == std::vector<index_t>{0, 1, 2, 3});
}

TEST_CASE("executor_ref: functions take lvalues, constants, temporaries, references and nothing", "[parallel]") {
    plain_executor plain;
    const magr::serial_executor constant;
    CHECK(squares(5) == five_squares);
    CHECK(squares(5, {}) == five_squares);
    CHECK(squares(5, plain) == five_squares);
    CHECK(plain.loops == 1);
    CHECK(squares(5, plain_executor{}) == five_squares);
    CHECK(squares(5, constant) == five_squares);
    CHECK(squares(5, magr::thread_pool(2)) == five_squares);
    CHECK(squares(5, executor_ref(plain)) == five_squares);
    CHECK(plain.loops == 2);
    CHECK(executor_ref(plain).concurrency() == 2);
}

TEST_CASE("executor_ref: exceptions of tasks and of the executor itself arrive", "[parallel]") {
    magr::thread_pool pool(2);
    const auto fail = [](index_t task, index_t) {
        if (task >= 3) throw tests::task_failed{task};
    };
    const auto failed_task = [&](executor_ref exec) -> index_t {
        try {
            exec.parallel_for(10, fail);
        } catch (const tests::task_failed& failure) {
            return failure.task;
        }
        return -1;
    };
    CHECK(failed_task({}) == 3);
    CHECK(failed_task(pool) == 3);
    CHECK_THROWS_AS(executor_ref(broken_executor{}).parallel_for(1, fail), std::string);
}

TEST_CASE("executor_ref: allocates nothing", "[parallel][allocation]") {
    magr::thread_pool pool(2);
    plain_executor plain;
    const std::size_t before = counted_memory::allocations;
    index_t sums[2] = {};
    const auto add = [&](index_t task, index_t worker) { sums[worker] += task; };
    executor_ref().parallel_for(10, add);
    executor_ref(plain).parallel_for(10, add);
    executor_ref(pool).parallel_for(10, add);
    CHECK(counted_memory::allocations == before);
    CHECK(sums[0] + sums[1] == 3 * 45);
}

namespace {

struct without_workers {
    index_t concurrency() const { return 0; }
    template <class F>
    void parallel_for(index_t count, const F& f) const {
        for (index_t task = 0; task < count; ++task) f(task, index_t{0});
    }
};

}  // namespace

TEST_CASE("executor_ref: an executor without workers is refused", "[parallel][errors][regression]") {
    const without_workers none;
    CHECK_THROWS_AS(magr::executor_ref(none).concurrency(), magr::option_error);
    magr::gram_accumulator<float> sum(4);
    CHECK_THROWS_AS(sum.add(magr::matrix<float>(400, 4), none), magr::option_error);
    CHECK(sum.tokens() == 0);
    magr::matrix<float> W(2, 4);
    W(0, 0) = W(1, 3) = 1;
    magr::matrix<double> H(4, 4);
    for (index_t j = 0; j < 4; ++j) H(j, j) = 1;
    CHECK_THROWS_AS(magr::preprocess(W, H, {.alpha = 0.1}, magr::ignore_progress{}, none), magr::option_error);
    CHECK((W(0, 0) == 1 && W(1, 3) == 1));
    CHECK_THROWS_AS(magr::quantize_layer(W, H, {}, none), magr::option_error);
    int calls = 0;
    magr::watched_executor watched(none, [&](const magr::loop_progress&) { ++calls; });
    CHECK_THROWS_AS(watched.parallel_for(3, [](index_t, index_t) {}), magr::option_error);
    CHECK(calls == 0);
}
