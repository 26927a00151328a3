// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cstddef>
#include <type_traits>

#include <magr/parallel/thread_pool.hpp>

#include "layers.hpp"
#include "support/catch.hpp"
#include "support/counted_memory.hpp"

namespace {

using preprocess_layers::index_t;
using preprocess_layers::row_major;

struct shape {
    index_t rows, cols;
};

/// A positive definite matrix: its rows are sums of convex sequences.
template <class T>
row_major<T> any_gram(index_t n) {
    row_major<T> H(n, n);
    for (index_t i = 0; i < n; ++i)
        for (index_t j = 0; j < n; ++j) H(i, j) = static_cast<T>(1 / (1 + std::abs(static_cast<float>(i - j))));
    return H;
}

}  // namespace

TEMPLATE_TEST_CASE("workspace_bytes: what preprocess allocates at its peak", "[preprocess][memory]", float, double, Eigen::half) {
    for (const auto& [rows, cols] : {shape{1, 1}, shape{2000, 40}, shape{97, 400}}) {
        const row_major<TestType> W0 = row_major<float>::Random(rows, cols).template cast<TestType>();
        const auto H = any_gram<TestType>(cols);
        for (const magr::preprocess_options& options : {magr::preprocess_options{.max_iterations = 2},
                                                        {.group_size = 1, .max_iterations = 2},
                                                        {.group_size = 32, .max_iterations = 2},
                                                        {.solver = magr::preprocess_solver::proximal_gradient, .max_iterations = 2},
                                                        {.alpha = 0.0}})
            for (const index_t workers : {1, 2, 7}) {
                CAPTURE(rows, cols, workers, static_cast<int>(options.solver), options.group_size.value_or(0), options.alpha.value_or(1));
                magr::thread_pool pool(workers);
                const auto check = [&, rows = rows, cols = cols](auto observer) {
                    row_major<TestType> W = W0;
                    const auto expected =
                        static_cast<double>(magr::workspace_bytes<TestType, decltype(observer)>(rows, cols, options, workers));
                    const auto peak =
                        static_cast<double>(counted_memory::peak_of([&] { magr::preprocess(W, H, options, observer, pool); }));
                    CHECK(peak <= expected);
                    if (!options.alpha) CHECK(peak >= (std::is_same_v<TestType, double> ? 0.85 : 0.4) * expected);
                };
                check(magr::ignore_progress{});
                check([](const magr::preprocess_progress&) noexcept {});
                check([](const magr::preprocess_progress&) {});
            }
    }
}

TEST_CASE("workspace_bytes: rows that are solved in double stay within it", "[preprocess][memory]") {
    constexpr index_t n = 200;
    const row_major<double> H = preprocess_layers::gram_of({.means = {100.0}}, n, 2 * n, 71);
    for (const index_t rows : {1, 300})
        for (const index_t workers : {1, 7}) {
            row_major<float> W = row_major<float>::Random(rows, n);
            magr::thread_pool pool(workers);
            index_t in_double = 0;
            const auto peak =
                counted_memory::peak_of([&] { in_double = magr::preprocess(W, H, {}, magr::ignore_progress{}, pool).rows_in_double; });
            CHECK(in_double == rows);
            CHECK(peak <= magr::workspace_bytes<float>(rows, n, {}, workers));
        }
}

TEST_CASE("workspace_bytes: one matrix of H's size, and the rows of each worker", "[preprocess][memory]") {
    for (const index_t n : {4096, 11008}) {
        const auto matrix = static_cast<double>(n * n) * sizeof(double);
        const auto one = static_cast<double>(magr::workspace_bytes<float>(4096, n, {}, 1));
        const auto two = static_cast<double>(magr::workspace_bytes<float>(4096, n, {}, 2));
        CHECK(two - one <= 4.8e3 * static_cast<double>(n));  // 5 rows of 96 numbers of 8 bytes for each input, and blocks
        CHECK(one <= matrix * (n == 4096 ? 1.2 : 1.07));
        // the copy of W that an observer needs if it may throw
        const auto copied =
            static_cast<double>(magr::workspace_bytes<Eigen::half, void (*)(const magr::preprocess_progress&)>(4096, n, {}));
        CHECK(copied - one == 4096.0 * static_cast<double>(n) * 2);
    }
}

TEST_CASE("workspace_bytes: bad arguments are refused", "[preprocess][memory][errors]") {
    CHECK_THROWS_AS(magr::workspace_bytes<float>(0, 10, {}), magr::shape_error);
    CHECK_THROWS_AS(magr::workspace_bytes<float>(10, 0, {}), magr::shape_error);
    CHECK_THROWS_AS(magr::workspace_bytes<float>(10, 10, {.group_size = 0}), magr::option_error);
    CHECK_THROWS_AS(magr::workspace_bytes<float>(10, 10, {}, 0), magr::option_error);
}
