// SPDX-License-Identifier: MIT
#include <magr/kernels/hadamard.hpp>

#include <bit>
#include <cstddef>
#include <random>
#include <vector>

#include "support/catch.hpp"

using magr::index_t;

namespace {

/// Small whole numbers, whose sums are exact in float, too.
template <class T>
std::vector<T> whole_numbers(index_t n, unsigned seed) {
    std::mt19937 random(seed);
    std::vector<T> x(static_cast<std::size_t>(n));
    for (T& value : x) value = static_cast<T>(static_cast<int>(random() % 201) - 100);
    return x;
}

template <class T, class Arch>
std::vector<T> transformed(std::vector<T> x, index_t count, index_t run, Arch arch) {
    x.push_back(T(7));
    magr::kernels::hadamard(x.data(), count, run, arch);
    CHECK(x.back() == T(7));  // nothing is written past the end
    x.pop_back();
    return x;
}

}  // namespace

TEMPLATE_TEST_CASE("hadamard: the sum over all signs, for every size and width", "[kernels][hadamard][oracle]", float, double) {
    for (const index_t count : {1, 2, 4, 8, 16, 32, 64, 128, 256, 512})
        for (const index_t run : {1, 2, 3, 8, 12, 33}) {
            const auto x = whole_numbers<TestType>(count * run, static_cast<unsigned>(count + run));
            std::vector<TestType> expected(x.size());
            for (index_t i = 0; i < count; ++i)
                for (index_t j = 0; j < count; ++j)
                    for (index_t k = 0; k < run; ++k) {
                        const bool odd = std::popcount(static_cast<std::size_t>(i & j)) % 2 == 1;
                        const TestType value = x[static_cast<std::size_t>(j * run + k)];
                        expected[static_cast<std::size_t>(i * run + k)] += odd ? -value : value;
                    }
            CAPTURE(count, run);
            CHECK(transformed(x, count, run, magr::simd::default_arch{}) == expected);
            CHECK(transformed(x, count, run, magr::simd::scalar_arch{}) == expected);
        }
}

TEMPLATE_TEST_CASE("hadamard: packs give the bits of single numbers", "[kernels][hadamard]", float, double) {
    std::mt19937 random(3);
    std::normal_distribution<TestType> normal;
    for (const index_t count : {64, 1024, 4096})
        for (const index_t run : {1, 5}) {
            std::vector<TestType> x(static_cast<std::size_t>(count * run));
            for (TestType& value : x) value = normal(random);
            CHECK(transformed(x, count, run, magr::simd::default_arch{}) == transformed(x, count, run, magr::simd::scalar_arch{}));
        }
}
