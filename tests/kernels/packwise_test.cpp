// SPDX-License-Identifier: MIT
#include <magr/kernels/packwise.hpp>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <magr/kernels/block_size.hpp>

#include "support/catch.hpp"

using magr::index_t;

namespace {

template <class T, class Arch>
void check(index_t n, Arch arch) {
    std::mt19937 random(static_cast<unsigned>(n));
    std::normal_distribution<T> normal;
    std::vector<T> a(static_cast<std::size_t>(n)), b = a;
    long double expected = 0, size = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        a[i] = normal(random);
        b[i] = normal(random);
        const long double term = static_cast<long double>(a[i]) * static_cast<long double>(b[i]);
        expected += term;
        size += std::abs(term);
    }
    const double found = magr::kernels::sum_packs<T>(
        n,
        [&](index_t i, auto pack_arch) {
            using traits = magr::simd::pack_traits<T, decltype(pack_arch)>;
            return traits::load(a.data() + i) * traits::load(b.data() + i);
        },
        arch);
    CAPTURE(n);
    const long double roundings = static_cast<long double>(std::min(n, magr::kernels::block_size) + 20);
    CHECK(std::abs(found - expected) <= roundings * std::numeric_limits<T>::epsilon() / 2 * size + 1e-15L);

    std::vector<T> twice(a.size() + 1, T(7));
    magr::kernels::for_each_pack<T>(
        n,
        [&](index_t i, auto pack_arch) {
            using traits = magr::simd::pack_traits<T, decltype(pack_arch)>;
            magr::simd::store(twice.data() + i, traits::load(a.data() + i) + traits::load(a.data() + i));
        },
        arch);
    for (std::size_t i = 0; i < a.size(); ++i) CHECK(twice[i] == 2 * a[i]);
    CHECK(twice.back() == T(7));  // nothing is written past the end
}

}  // namespace

TEMPLATE_TEST_CASE("packwise: sums agree with long double, and every element is visited", "[kernels][oracle]", float, double) {
    for (const index_t n : {0, 1, 2, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 100, 1023, 1024, 1025, 3000}) {
        check<TestType>(n, magr::simd::default_arch{});
        check<TestType>(n, magr::simd::scalar_arch{});
    }
}
