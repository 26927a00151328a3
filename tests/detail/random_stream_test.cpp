// SPDX-License-Identifier: MIT
#include <magr/detail/random_stream.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "support/catch.hpp"

using magr::index_t;
using magr::detail::random_stream;

TEST_CASE("random_stream: the words of Philox in order, one sequence for each seed and stream", "[detail][random]") {
    random_stream random(9, 4);
    for (std::uint64_t block = 0; block < 3; ++block)
        for (const std::uint32_t word : magr::detail::philox(block, 4, 9)) CHECK(random.bits() == word);
    CHECK(random_stream(9, 4).bits() != random_stream(9, 5).bits());
    CHECK(random_stream(9, 4).bits() != random_stream(8, 4).bits());
}

TEST_CASE("random_stream: numbers below n are uniform, also beyond 32 bits", "[detail][random][statistics]") {
    random_stream random(1, 1);
    std::vector<int> counts(6);
    for (int k = 0; k < 60000; ++k) ++counts[random.below(6)];
    for (const int count : counts) CHECK(std::abs(count - 10000) < 4 * 92);
    CHECK(random.below(1) == 0);
    const std::uint64_t large = std::uint64_t{3} << 40;
    double mean = 0;
    for (int k = 0; k < 10000; ++k) {
        const std::uint64_t value = random.below(large);
        REQUIRE(value < large);
        mean += static_cast<double>(value) / static_cast<double>(large) / 10000;
    }
    CHECK(mean == Approx(0.5).margin(0.012));
}

TEST_CASE("random_stream: permutations are uniform", "[detail][random][statistics]") {
    random_stream random(2, 1);
    std::vector<int> counts(27);
    for (int k = 0; k < 12000; ++k) {
        const auto p = random.permutation(3);
        ++counts[static_cast<std::size_t>(p[0] * 9 + p[1] * 3 + p[2])];
    }
    for (const int at : {5, 7, 11, 15, 19, 21}) CHECK(std::abs(counts[static_cast<std::size_t>(at)] - 2000) < 4 * 41);
    auto p = random.permutation(1000);
    CHECK(!std::is_sorted(p.begin(), p.end()));
    std::sort(p.begin(), p.end());
    for (index_t k = 0; k < 1000; ++k) CHECK(p[static_cast<std::size_t>(k)] == k);
    CHECK(random.permutation(1) == std::vector<index_t>{0});
}

TEST_CASE("random_stream: directions are uniform", "[detail][random][statistics]") {
    constexpr int samples = 40000;
    for (const index_t n : {2, 3, 4, 7}) {
        random_stream random(3, static_cast<std::uint64_t>(n));
        double first = 0, last = 0, mixed = 0, mean = 0;
        for (int k = 0; k < samples; ++k) {
            const std::vector<double> x = random.direction(n);
            double square = 0;
            for (const double value : x) square += value * value;
            if (n % 2 == 0) CHECK(std::abs(square - 1) < 1e-14);
            mean += x[0] / std::sqrt(square);
            first += std::pow(x.front(), 4) / (square * square);
            last += std::pow(x.back(), 4) / (square * square);
            mixed += std::pow(x.front() * x.back(), 2) / (square * square);
        }
        const double m = static_cast<double>(n), margin = 4 / std::sqrt(double{samples});
        CHECK(mean / samples == Approx(0).margin(margin / std::sqrt(m)));
        CHECK(first / samples == Approx(3 / (m * (m + 2))).margin(margin / m));
        CHECK(last / samples == Approx(3 / (m * (m + 2))).margin(margin / m));
        CHECK(mixed / samples == Approx(1 / (m * (m + 2))).margin(margin / m));
    }
}
