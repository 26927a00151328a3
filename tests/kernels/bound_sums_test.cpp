// SPDX-License-Identifier: MIT
#include <magr/kernels/bound_sums.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <magr/kernels/block_size.hpp>

#include "support/catch.hpp"

using magr::index_t;

namespace {

/// A sum in long double, and the sum of the magnitudes of its terms.
struct exact_sum {
    long double value = 0, size = 0;
};

template <class T, class Arch>
void check(index_t n, bool whole, Arch arch) {
    std::mt19937 random(static_cast<unsigned>(n));
    std::normal_distribution<T> normal;
    std::vector<T> arrays[8];  // w0, z, u, metric, y, g, weight, apart
    for (auto& values : arrays) {
        values.resize(static_cast<std::size_t>(n));
        for (T& value : values) value = normal(random);
    }
    const auto& [w0, z, u, metric, y, g, weight, apart] = arrays;
    exact_sum expected[9];
    for (std::size_t i = 0; i < w0.size(); ++i) {
        const auto x = [i](const std::vector<T>& values) { return static_cast<long double>(values[i]); };
        const long double s = x(metric) * x(u), e = x(z) - x(w0) - x(y), f = s + x(g);
        // the size of a difference is the sum of the sizes of its parts, because these are rounded
        const long double size_e = std::abs(x(z)) + std::abs(x(w0)) + std::abs(x(y)), size_f = std::abs(s) + std::abs(x(g));
        const auto add = [&](int k, long double value, long double size) {
            expected[k].value += value;
            expected[k].size += size;
        };
        add(0, x(y) * x(g), std::abs(x(y) * x(g)));
        add(1, e * x(g), size_e * std::abs(x(g)));
        add(2, e * x(metric) * e, size_e * size_e * std::abs(x(metric)));
        add(3, f * x(y), size_f * std::abs(x(y)));
        const long double rest = whole ? f : f - x(apart), size_rest = whole ? size_f : size_f + std::abs(x(apart));
        add(4, rest * x(weight) * rest, size_rest * size_rest * std::abs(x(weight)));
        add(5, s * x(w0), std::abs(s * x(w0)));
        add(6, x(g) * x(w0), std::abs(x(g) * x(w0)));
        add(7, std::abs(s), std::abs(s));
        add(8, std::abs(x(g)), std::abs(x(g)));
    }
    magr::kernels::bound_sums sums;
    sums.yg = 1;  // the result is added to this
    const auto norms = magr::kernels::add_bound_sums(n, w0.data(), z.data(), u.data(), metric.data(), y.data(), g.data(), weight.data(),
                                                     whole ? nullptr : apart.data(), sums, arch);
    const double found[9] = {sums.yg - 1, sums.eg, sums.ee, sums.fy, sums.ff, sums.sw, sums.gw, norms.s, norms.g};
    // each term is rounded at most 8 times, and enters at most as many additions as a block has elements, and 16 for the lanes
    const long double roundings = static_cast<long double>(std::min(n, magr::kernels::block_size) + 8 + 16);
    for (int k = 0; k < 9; ++k) {
        CAPTURE(n, k);
        CHECK(std::abs(found[k] - expected[k].value) <= roundings * std::numeric_limits<T>::epsilon() / 2 * expected[k].size + 1e-15L);
    }
}

}  // namespace

TEMPLATE_TEST_CASE("add_bound_sums: agrees with sums in long double", "[kernels][oracle]", float, double) {
    for (const index_t n : {1, 2, 7, 8, 15, 16, 17, 31, 33, 100, 1023, 1024, 1025, 3000}) {
        for (const bool whole : {true, false}) {
            check<TestType>(n, whole, magr::simd::default_arch{});
            check<TestType>(n, whole, magr::simd::scalar_arch{});
        }
    }
}
