// SPDX-License-Identifier: MIT
#include <magr/parallel/executor.hpp>

#include <array>
#include <thread>
#include <vector>

#include "parallel/executor_contract.hpp"
#include "support/catch.hpp"

using magr::index_t;

namespace {

struct without_concurrency {
    template <class F>
    void parallel_for(index_t, const F&) const {}
};

struct without_worker {
    index_t concurrency() const { return 1; }
    void parallel_for(index_t, void (*)(index_t task)) const {}
};

template <magr::executor Executor = magr::serial_executor>
constexpr index_t sum_of_squares(index_t count, Executor&& exec = {}) {
    std::array<index_t, 8> squares{};
    exec.parallel_for(count, [&](index_t task, index_t) { squares[static_cast<std::size_t>(task)] = task * task; });
    index_t sum = 0;
    for (const index_t square : squares) sum += square;
    return sum;
}

}  // namespace

static_assert(magr::executor<magr::serial_executor>);
static_assert(magr::executor<const magr::serial_executor&>);
static_assert(!magr::executor<int>);
static_assert(!magr::executor<without_concurrency>);
static_assert(!magr::executor<without_worker>);

static_assert(sum_of_squares(8) == 140);  // 7 * 8 * 15 / 6
static_assert(sum_of_squares(8, magr::serial_executor{}) == 140);

TEST_CASE("serial_executor: keeps the contract of executors", "[parallel][serial][property]") {
    const magr::serial_executor exec;
    tests::check_executor_contract(exec, 1);
}

TEST_CASE("serial_executor: tasks in ascending order, on the caller's thread, and none after a failure", "[parallel][serial]") {
    std::vector<index_t> order;
    const auto caller = std::this_thread::get_id();
    const auto run = [&] {
        magr::serial_executor{}.parallel_for(10, [&](index_t task, index_t worker) {
            CHECK(std::this_thread::get_id() == caller);
            CHECK(worker == 0);
            order.push_back(task);
            if (task == 3) throw tests::task_failed{task};
        });
    };
    CHECK_THROWS_AS(run(), tests::task_failed);
    CHECK(order == std::vector<index_t>{0, 1, 2, 3});
}
