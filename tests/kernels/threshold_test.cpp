// SPDX-License-Identifier: MIT
#include <magr/kernels/threshold.hpp>

#include <Eigen/Core>
#include <sstream>

#include <magr/kernels/metric.hpp>
#include <magr/kernels/source.hpp>

#include "kernels/samples.hpp"
#include "support/catch.hpp"

using magr::index_t;
using magr::kernels::contiguous_source;
using magr::kernels::diagonal_metric;
using magr::kernels::dual_diagonal_metric;
using magr::kernels::find_threshold;
using magr::kernels::unit_metric;
using magr::simd::default_arch;
using magr::simd::scalar_arch;

namespace {

enum class equation { of_prox, of_projection };

std::vector<oracle::element> elements_of(equation which, const auto& s) {
    return which == equation::of_prox ? oracle::prox_elements(s.v, s.d) : oracle::projection_elements(s.v, s.d);
}

/// find_threshold of a sample in its metric, through a source made by `make_source`.
template <class T, class Arch, class MakeSource>
T search(equation which, const samples::sample<T>& s, double total, T hint, Arch arch, MakeSource&& make_source) {
    const auto source = make_source(s.v.data());
    const auto n = static_cast<index_t>(s.v.size());
    if (s.d.empty()) return find_threshold(source, unit_metric{}, n, total, hint, arch);
    if (which == equation::of_prox) return find_threshold(source, diagonal_metric<T>{s.d.data()}, n, total, hint, arch);
    return find_threshold(source, dual_diagonal_metric<T>{s.d.data()}, n, total, hint, arch);
}

template <class T, class Arch>
T search(equation which, const samples::sample<T>& s, double total, T hint, Arch arch) {
    return search(which, s, total, hint, arch, [](const T* v) { return contiguous_source<const T>{v}; });
}

/// Counts the passes over a vector.
template <class T>
struct counting_source {
    const T* data;
    int* passes;
    const T* block(index_t i, index_t, const T*) const noexcept {
        if (i == 0) ++*passes;
        return data + i;
    }
};

/// find_threshold and the number of its passes.
template <class T>
int passes_of(equation which, const samples::sample<T>& s, double total, T hint, T* tau = nullptr) {
    int passes = 0;
    const T found = search(which, s, total, hint, default_arch{}, [&](const T* v) { return counting_source<T>{v, &passes}; });
    if (tau) *tau = found;
    return passes;
}

static_assert(noexcept(find_threshold(contiguous_source<float>{}, unit_metric{}, 1, 1.0, 0.0F, default_arch{})));
static_assert(noexcept(find_threshold(contiguous_source<double>{}, diagonal_metric<double>{}, 1, 1.0, 0.0, scalar_arch{})));

}  // namespace

TEMPLATE_TEST_CASE("find_threshold: is the root that sorting finds", "[kernels][threshold][oracle]", float, double) {
    for (const auto& s : samples::all<TestType>(samples::sizes()))
        for (const auto which : {equation::of_prox, equation::of_projection}) {
            const auto elements = elements_of(which, s);
            for (const double share : samples::shares()) {
                const auto total = static_cast<double>(samples::total_of(elements, share));
                const auto expected = oracle::threshold(elements, total);
                INFO(s.name << ", equation " << static_cast<int>(which) << ", share " << share << ", root " << expected);
                const auto simd = search(which, s, total, TestType(0), default_arch{});
                CHECK(std::abs(static_cast<long double>(simd) - expected) <= samples::threshold_error<TestType>(elements));
                const auto scalar = search(which, s, total, TestType(0), scalar_arch{});
                CHECK(std::abs(static_cast<long double>(scalar) - expected) <= samples::threshold_error<TestType, scalar_arch>(elements));
            }
        }
}

TEMPLATE_TEST_CASE("find_threshold: a total of zero gives the largest magnitude", "[kernels][threshold][edge]", float, double) {
    for (const auto& s : samples::all<TestType>(samples::sizes())) {
        INFO(s.name);
        const auto largest = static_cast<TestType>(samples::largest_of(oracle::prox_elements(s.v, s.d)));
        CHECK(search(equation::of_prox, s, 0, TestType(0), default_arch{}) == largest);
        CHECK(search(equation::of_prox, s, 0, TestType(1), scalar_arch{}) == largest);
    }
}

// Not bit-identical: the last step uses sums near the root in any case, but at a slightly different tau, so they are rounded differently.
TEMPLATE_TEST_CASE("find_threshold: the hint changes nothing but rounding", "[kernels][threshold][property]", float, double) {
    using limits = std::numeric_limits<TestType>;
    for (const auto& s : samples::all<TestType>({1, 2, 17, 129, 1025, 4096}))
        for (const auto which : {equation::of_prox, equation::of_projection}) {
            const auto elements = elements_of(which, s);
            const auto error = samples::threshold_error<TestType>(elements);
            const auto largest = static_cast<TestType>(samples::largest_of(elements));
            for (const double share : samples::shares()) {
                const auto total = static_cast<double>(samples::total_of(elements, share));
                const auto root = oracle::threshold(elements, total);
                const auto tau = static_cast<TestType>(root);
                for (const TestType hint : {limits::denorm_min(), tau / 2, tau * TestType(0.999), tau, tau * TestType(1.001), 2 * tau,
                                            largest, largest * TestType(1.05), 2 * largest, limits::max()}) {
                    const auto found = search(which, s, total, hint, default_arch{});
                    INFO(s.name << ", equation " << static_cast<int>(which) << ", share " << share << ", root " << root << ", hint "
                                << hint);
                    CHECK(std::abs(static_cast<long double>(found) - root) <= error);
                    if (root == 0) CHECK(found == 0);
                }
            }
        }
}

TEST_CASE("find_threshold: the sums of long float vectors are accurate", "[kernels][threshold][property]") {
    for (const auto& s : samples::all<float>({11008}))
        for (const auto which : {equation::of_prox, equation::of_projection}) {
            const auto elements = elements_of(which, s);
            for (const double share : {0.03, 0.1, 0.3, 0.6}) {
                const auto total = samples::total_of(elements, share);
                const float tau = search(which, s, static_cast<double>(total), 0.0F, default_arch{});
                const auto relative_error = (oracle::excess(elements, tau) - total) / total;
                INFO(s.name << ", equation " << static_cast<int>(which) << ", share " << share << ", tau " << tau);
                CHECK(std::abs(relative_error) < 1e-5L);
            }
        }
}

TEMPLATE_TEST_CASE("find_threshold: needs few passes", "[kernels][threshold][property]", float, double) {
    for (const auto& s : samples::all<TestType>({4096, 11008}))
        for (const auto which : {equation::of_prox, equation::of_projection}) {
            const auto elements = elements_of(which, s);
            for (const double share : {1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.5, 0.9, 0.999}) {
                const auto total = static_cast<double>(samples::total_of(elements, share));
                TestType tau;
                const int cold = passes_of(which, s, total, TestType(0), &tau);
                const int warm = passes_of(which, s, total, tau);
                INFO(s.name << ", equation " << static_cast<int>(which) << ", share " << share);
                CHECK(cold <= 14);
                CHECK(warm <= 4);
            }
        }
}

TEMPLATE_TEST_CASE("find_threshold: a hint above all elements costs two passes at most", "[kernels][threshold][property]", float, double) {
    for (const auto& s : samples::all<TestType>({4096, 11008}))
        for (const auto which : {equation::of_prox, equation::of_projection}) {
            const auto elements = elements_of(which, s);
            const auto largest = static_cast<TestType>(samples::largest_of(elements));
            for (const double share : {1e-5, 1e-3, 0.1, 0.9}) {
                const auto total = static_cast<double>(samples::total_of(elements, share));
                const int cold = passes_of(which, s, total, TestType(0));
                INFO(s.name << ", equation " << static_cast<int>(which) << ", share " << share);
                CHECK(passes_of(which, s, total, largest * TestType(1.01)) <= cold + 2);
                CHECK(passes_of(which, s, total, largest * TestType(1000)) <= cold + 2);
            }
        }
}

namespace {

/// Gaussian elements of at most 0.8, and `count` elements from 1 to 1 + spread among them.
template <class T>
samples::sample<T> with_largest(index_t n, index_t count, double spread, bool weighted) {
    auto s = samples::make<T>(samples::named("gaussian"), n, weighted, 43);
    for (T& value : s.v) value = std::min(std::max(value, T(-0.8)), T(0.8));
    for (index_t k = 0; k < count; ++k) {
        const double magnitude = 1 + (count > 1 ? spread * static_cast<double>(k) / static_cast<double>(count - 1) : 0.0);
        s.v[static_cast<std::size_t>(k * (n / count))] = static_cast<T>(k % 3 == 0 ? -magnitude : magnitude);
    }
    return s;
}

}  // namespace

TEMPLATE_TEST_CASE("find_threshold: two passes are enough from just above equal largest elements", "[kernels][threshold][property]", float,
                   double) {
    for (const index_t n : {4, 1025, 4096, 11008})
        for (const index_t count : {index_t{1}, index_t{3}, n / 8, n})
            for (const bool weighted : {false, true}) {
                if (count < 1) continue;
                const auto s = with_largest<TestType>(n, count, 0, weighted);
                const auto elements = oracle::prox_elements(s.v, s.d);
                const auto total = static_cast<double>(oracle::excess(elements, 0.97L));  // comes from the largest elements alone
                for (const TestType hint : {TestType(0.98), TestType(1.001), TestType(1.1)}) {
                    INFO(s.name << ", largest " << count << ", hint " << hint);
                    TestType tau;
                    const int passes = passes_of(equation::of_prox, s, total, hint, &tau);
                    CHECK(std::abs(static_cast<long double>(tau) - 0.97L) <= samples::threshold_error<TestType>(elements));
                    if (hint > TestType(1)) CHECK(passes == 2);
                    const TestType scalar = search(equation::of_prox, s, total, hint, scalar_arch{});
                    CHECK(std::abs(static_cast<long double>(scalar) - 0.97L) <= samples::threshold_error<TestType, scalar_arch>(elements));
                }
            }
}

TEMPLATE_TEST_CASE("find_threshold: without a hint equal elements take one pass, and a sample", "[kernels][threshold][property]", float,
                   double) {
    for (const index_t n : {4, 2048, 4096, 11008})
        for (const bool weighted : {false, true}) {
            const auto s = with_largest<TestType>(n, n, 0, weighted);
            const auto elements = oracle::prox_elements(s.v, s.d);
            for (const long double root : {0.001L, 0.1L, 0.5L, 0.9L, 0.999L}) {
                INFO(s.name << ", n " << n << ", root " << root);
                TestType tau;
                // The threshold of a sample is that of all elements only if their weights are equal, too. A small threshold is left to
                // wider sums.
                CHECK(passes_of(equation::of_prox, s, static_cast<double>(oracle::excess(elements, root)), TestType(0), &tau) <=
                      (weighted ? 3 : 2) + (root < 0.3L ? 2 : 0));
                CHECK(std::abs(static_cast<long double>(tau) - root) <= samples::threshold_error<TestType>(elements));
            }
        }
}

// Elements that are nearly equal must not be treated as equal.
TEMPLATE_TEST_CASE("find_threshold: largest elements that are nearly equal", "[kernels][threshold][oracle]", float, double) {
    const double epsilon = static_cast<double>(std::numeric_limits<TestType>::epsilon());
    for (const index_t n : {64, 4096, 11008})
        for (const index_t count : {2, 5, 40})
            for (const double spread : {2 * epsilon, 32 * epsilon, 1e-4, 1e-2, 0.5})
                for (const bool weighted : {false, true}) {
                    const auto s = with_largest<TestType>(n, count, spread, weighted);
                    const auto elements = oracle::prox_elements(s.v, s.d);
                    const auto largest = static_cast<TestType>(samples::largest_of(elements));
                    for (const long double expected : {1 - 0.01L, 1 + 0.3L * static_cast<long double>(spread)}) {
                        const auto total = static_cast<double>(oracle::excess(elements, expected));
                        for (const TestType hint :
                             {TestType(0), TestType(0.001), TestType(0.9), largest * TestType(1.01), largest * TestType(1e6)}) {
                            INFO(s.name << ", largest " << count << ", spread " << spread << ", root " << expected << ", hint " << hint);
                            const auto simd = search(equation::of_prox, s, total, hint, default_arch{});
                            CHECK(std::abs(static_cast<long double>(simd) - expected) <= samples::threshold_error<TestType>(elements));
                            const auto scalar = search(equation::of_prox, s, total, hint, scalar_arch{});
                            CHECK(std::abs(static_cast<long double>(scalar) - expected) <=
                                  samples::threshold_error<TestType, scalar_arch>(elements));
                        }
                    }
                }
}

namespace {

/// Elements with weights, scale, spread and number drawn anew for each seed, and a penalty.
template <class T>
struct adversarial {
    samples::sample<T> s;
    double share;

    explicit adversarial(unsigned seed) {
        std::mt19937 g(seed);
        const auto power = [&](double decades) { return std::pow(10.0, decades * samples::uniform(g)); };
        const double most = samples::uniform(g);
        const auto n = static_cast<index_t>(1 + samples::uniform(g) * (most < 0.6 ? 8 : most < 0.9 ? 300 : most < 0.98 ? 5000 : 20000));
        const double spread = 1 / power(12), ratio = power(14);
        const int kind = static_cast<int>(4 * samples::uniform(g));
        const double decades = std::numeric_limits<T>::max_exponent10 - 9;
        const double scale = samples::uniform(g) < 0.5 ? 1 : power(2 * decades) * std::pow(10.0, -decades);
        const double scale_of_weights = samples::uniform(g) < 0.5 ? 1 : power(decades) * std::pow(10.0, -decades / 2);
        for (index_t i = 0; i < n; ++i) {
            const double near_one = 1 + spread * samples::gaussian(g);
            const double drawn[] = {samples::gaussian(g), near_one, power(12), i % 97 == 0 ? near_one : 0.1 * samples::gaussian(g)};
            s.v.push_back(static_cast<T>(drawn[kind] * scale));
            const double weight = samples::uniform(g) < 0.02 ? 1 : std::pow(ratio, -samples::uniform(g));
            s.d.push_back(std::max(static_cast<T>(scale_of_weights * weight), 4 * std::numeric_limits<T>::min()));
        }
        if (samples::uniform(g) < 0.3) s.d.clear();
        share = samples::uniform(g) < 0.5 ? 1 / power(14) : samples::uniform(g);
        std::ostringstream name;
        name << "seed " << seed << ", n = " << n << (s.d.empty() ? "" : ", weighted") << ", kind " << kind << ", scale " << scale
             << ", weights of " << scale_of_weights << " down to 1 / " << ratio << " of it, spread " << spread << ", share " << share;
        s.name = name.str();
    }
};

/// Error of a threshold in units of the last place of the root.
template <class T>
long double ulps(T tau, long double root) {
    const auto unit = std::max(root * static_cast<long double>(std::numeric_limits<T>::epsilon()),
                               static_cast<long double>(std::numeric_limits<T>::denorm_min()));
    return std::abs(static_cast<long double>(tau) - root) / unit;
}

}  // namespace

// 16, because the elements above may be twice as far from tau as tau is from zero before wider sums take over, and each of them is off by a
// few ulp.
TEMPLATE_TEST_CASE("find_threshold: is a few ulp from the root for all weights, scales, penalties and hints",
                   "[kernels][threshold][oracle]", float, double) {
    using limits = std::numeric_limits<TestType>;
    constexpr auto most = static_cast<long double>(limits::max());
    int compared = 0;
    for (unsigned seed = 0; seed < 1500; ++seed) {
        const adversarial<TestType> drawn(seed);
        for (const auto which : {equation::of_prox, equation::of_projection}) {
            const auto elements = elements_of(which, drawn.s);
            const auto total = static_cast<double>(samples::total_of(elements, drawn.share));
            const auto largest = samples::largest_of(elements);
            if (!(total > 0 && std::isfinite(total) && largest < most)) continue;
            const auto root = oracle::threshold(elements, total);
            const auto tau = static_cast<TestType>(root);
            for (const TestType hint : {TestType(0), limits::denorm_min(), tau, std::nextafter(tau, TestType(0)), tau * TestType(0.98),
                                        static_cast<TestType>(std::min(root * 1.02L, most)),
                                        static_cast<TestType>(std::min(largest * 1.01L, most)), limits::max()}) {
                const auto simd = search(which, drawn.s, total, hint, default_arch{});
                const auto scalar = search(which, drawn.s, total, hint, scalar_arch{});
                ++compared;
                if (ulps(simd, root) <= 16 && ulps(scalar, root) <= 16) continue;
                INFO(drawn.s.name << ", equation " << static_cast<int>(which) << ", root " << root << ", hint " << hint);
                CHECK(ulps(simd, root) <= 16);
                CHECK(ulps(scalar, root) <= 16);
            }
        }
    }
    CHECK(compared > 15000);
}

TEST_CASE("find_threshold: weights that T cannot hold beside each other do not bring it to zero", "[kernels][threshold][edge]") {
    const std::pair<samples::sample<float>, double> cases[] = {
        {{"", {0.998333931F, 0.994012892F, 0.99641037F, 0.991538584F}, {2.18027374e-08F, 2.31059687e-07F, 0.51674366F, 1.41785279e-07F}},
         3.74508701e-08},
        {{"", {0.999348223F, -0.992077887F}, {0.000108318876F, 0.45584023F}}, 7.9850468195707025e-07},
        {{"", {-1.32188976F, -0.661422908F, -1.59095144F}, {0.93044889F, 0.0332027897F, 1.07685628e-05F}}, 2.9244868408750568e-06}};
    for (const auto& [s, total] : cases)
        CHECK(ulps(search(equation::of_prox, s, total, 0.0F, default_arch{}), oracle::threshold(oracle::prox_elements(s.v, s.d), total)) <=
              1);
}

TEST_CASE("find_threshold: elements are not taken for equal where their difference is of the size of the penalty",
          "[kernels][threshold][edge]") {
    const samples::sample<float> s{"", {1.0F, 0.999997F}, {}};
    for (const double total : {1e-6, 1.5e-6, 2.5e-6})
        CHECK(ulps(search(equation::of_prox, s, total, 0.0F, default_arch{}), oracle::threshold(oracle::prox_elements(s.v, s.d), total)) <=
              1);
}

namespace {

/// Counts the elements that are read.
template <class T>
struct element_counting_source {
    const T* data;
    index_t* elements;
    const T* block(index_t i, index_t m, const T*) const noexcept {
        *elements += m;
        return data + i;
    }
};

}  // namespace

TEMPLATE_TEST_CASE("find_threshold: one pass is enough where few elements are above it", "[kernels][threshold][property]", float, double) {
    for (const index_t n : {4096, 11008})
        for (const index_t above : {1, 3}) {
            std::vector<TestType> v(static_cast<std::size_t>(n));
            std::mt19937 generator(41);
            std::normal_distribution<double> normal;
            for (TestType& value : v) value = static_cast<TestType>(normal(generator));
            for (index_t k = 0; k < above; ++k) v[static_cast<std::size_t>(n / 2 + 5 * k)] = TestType(-1000) - static_cast<TestType>(k);
            index_t elements = 0;
            const TestType tau = find_threshold(element_counting_source<TestType>{v.data(), &elements}, unit_metric{}, n, 100.0,
                                                TestType(0), default_arch{});
            const double sum = static_cast<double>(1000 * above + above * (above - 1) / 2);
            CHECK(static_cast<double>(tau) == Approx((sum - 100) / static_cast<double>(above)).epsilon(1e-6));
            // A sample, all elements, and the neighbours of the largest. The three groups of the longer vector need more room than some
            // register sets have.
            CHECK(elements <= 256 + (above == 3 && n > 4096 ? 2 * n : n + n / 16));
            // a total so small that the threshold rounds to the largest element, above which there is nothing
            CHECK(find_threshold(contiguous_source<const TestType>{v.data()}, unit_metric{}, n, 1e-30, TestType(0), default_arch{}) ==
                  TestType(999 + above));
        }
}

TEMPLATE_TEST_CASE("find_threshold: a strided source in any storage type gives the bits of its contiguous copy",
                   "[kernels][threshold][property]", float, double, Eigen::half, Eigen::bfloat16) {
    using compute = magr::compute_t<TestType>;
    for (auto s : samples::all<compute>({5, 1025, 3000})) {
        if (s.name.starts_with("scale") || s.name.starts_with("one huge")) continue;  // not representable in 16 bits
        for (const index_t stride : {1, 3}) {
            std::vector<TestType> stored(s.v.size() * static_cast<std::size_t>(stride));
            for (std::size_t i = 0; i < s.v.size(); ++i) {
                stored[i * static_cast<std::size_t>(stride)] = static_cast<TestType>(s.v[i]);
                s.v[i] = static_cast<compute>(static_cast<TestType>(s.v[i]));
            }
            const auto total = static_cast<double>(samples::total_of(oracle::prox_elements(s.v, s.d), 0.1));
            INFO(s.name << ", stride " << stride);
            const auto contiguous = search(equation::of_prox, s, total, compute(0), default_arch{});
            const auto strided = search(equation::of_prox, s, total, compute(0), default_arch{}, [&](const compute*) {
                return magr::kernels::strided_source<compute, TestType>{stored.data(), stride};
            });
            CHECK(strided == contiguous);
        }
    }
}
