// SPDX-License-Identifier: MIT
#include <magr/kernels/prox.hpp>

#include <magr/kernels/metric.hpp>
#include <magr/kernels/source.hpp>

#include "kernels/samples.hpp"
#include "oracle/certificate.hpp"
#include "support/catch.hpp"

using magr::index_t;
using samples::project;
using samples::prox;

namespace {

static_assert(noexcept(magr::prox_linf(std::span<float>{}, 1.0)));
static_assert(noexcept(magr::prox_linf(std::span<double>{}, std::span<const double>{}, 1.0)));
static_assert(noexcept(magr::kernels::prox_linf<float>(magr::kernels::contiguous_source<float>{}, magr::kernels::unit_metric{}, 1, 1.0)));

/// The largest entry.
template <class T>
T linf(const std::vector<T>& x) {
    T largest = 0;
    for (const T value : x) largest = std::max(largest, std::abs(value));
    return largest;
}

/// Whether x passes as the prox at s.v, up to the rounding errors allowed to the kernel.
template <class T>
bool is_prox(const samples::sample<T>& s, const std::vector<T>& x, long double t) {
    const auto elements = oracle::prox_elements(s.v, s.d);
    const auto [infeasibility, gap] = oracle::prox_violation(s.v, x, s.d, t);
    const auto error = samples::threshold_error<T>(elements);
    const auto largest = samples::largest_of(elements);
    long double weight = 0;  // of the clipped elements, whose d_i (v_i - x_i) inherit the error of the threshold
    for (std::size_t i = 0; i < x.size(); ++i) weight += x[i] != s.v[i] ? elements[i].weight : 0;
    UNSCOPED_INFO("||s||_1 - t = " << infeasibility << " of " << t << ", gap " << gap << " of " << t * largest);
    return infeasibility <= weight * error && gap <= 2 * (t + weight * largest) * error;
}

/// The part of v that is left after subtracting v rescaled into the l1 ball of radius t, instead of the projection of v.
template <class T>
std::vector<T> rescale_complement(const samples::sample<T>& s, long double t) {
    const auto total = samples::total_of(oracle::prox_elements(s.v, s.d), 1);
    std::vector<T> x = s.v;
    for (T& value : x) value = static_cast<T>(static_cast<long double>(value) * (1 - std::min(t / total, 1.0L)));
    return x;
}

}  // namespace

TEMPLATE_TEST_CASE("prox_linf: is the clipping that sorting finds", "[kernels][linf][oracle]", float, double) {
    for (const auto& s : samples::all<TestType>(samples::sizes())) {
        const auto elements = oracle::prox_elements(s.v, s.d);
        const std::vector errors(s.v.size(), samples::threshold_error<TestType>(elements));
        for (const double share : samples::shares()) {
            const auto t = static_cast<double>(samples::total_of(elements, share));
            INFO(s.name << ", share " << share);
            CHECK(samples::first_difference(prox(s, t), oracle::prox_linf(s.v, s.d, t), errors) == "");
        }
    }
}

TEMPLATE_TEST_CASE("prox_linf: satisfies the optimality conditions, which a rescaled vector does not", "[kernels][linf][certificate]",
                   float, double) {
    for (const auto& s : samples::all<TestType>({2, 17, 128, 1025, 4096}))
        for (const double share : samples::shares()) {
            const auto t = static_cast<double>(samples::total_of(oracle::prox_elements(s.v, s.d), share));
            INFO(s.name << ", share " << share);
            CHECK(is_prox(s, prox(s, t), t));
        }
    for (const char* name :
         {"gaussian", "uniform", "heavy-tailed", "two clusters", "small integers"})  // where scaling is far from projecting
        for (const bool weighted : {false, true}) {
            const auto s = samples::make<TestType>(samples::named(name), 128, weighted);
            const auto t = samples::total_of(oracle::prox_elements(s.v, s.d), 0.3);
            INFO(s.name);
            CHECK(is_prox(s, prox(s, t), t));
            CHECK_FALSE(is_prox(s, rescale_complement(s, t), t));
        }
}

// In the metric D: prox(v) = v - D^-1 P(D v) with the projection P onto the l1 ball of radius t in the metric D^-1.
TEMPLATE_TEST_CASE("prox_linf: with a projection onto the l1 ball it adds up to the vector (Moreau)", "[kernels][linf][certificate]", float,
                   double) {
    for (const auto& s : samples::all<TestType>(samples::sizes())) {
        const auto elements = oracle::prox_elements(s.v, s.d);
        const auto of_threshold = samples::threshold_error<TestType>(elements);
        std::vector<long double> allowed;
        for (const auto& [m, e] : elements) allowed.push_back(2 * of_threshold + 8 * samples::unit_roundoff<TestType> * m);
        for (const double share : samples::shares()) {
            const auto t = samples::total_of(elements, share);
            auto dual = s;
            for (std::size_t i = 0; i < s.d.size(); ++i) {
                dual.v[i] = s.d[i] * s.v[i];
                dual.d[i] = 1 / s.d[i];
            }
            auto sum = project(dual, t);
            const auto x = prox(s, t);
            for (std::size_t i = 0; i < sum.size(); ++i) sum[i] = x[i] + (s.d.empty() ? sum[i] : sum[i] / s.d[i]);
            INFO(s.name << ", share " << share);
            CHECK(samples::first_difference(sum, s.v, allowed) == "");
        }
    }
}

TEMPLATE_TEST_CASE("prox_linf: the threshold is the largest entry of the result", "[kernels][linf][property]", float, double) {
    for (const auto& s : samples::all<TestType>(samples::sizes())) {
        const auto elements = oracle::prox_elements(s.v, s.d);
        for (const double share : samples::shares()) {
            TestType tau = -1;
            const auto x = prox(s, samples::total_of(elements, share), &tau);
            INFO(s.name << ", share " << share);
            if (x != s.v) CHECK(linf(x) == tau);  // otherwise t is below the resolution of the largest entry
            CHECK(linf(x) <= tau);
            CHECK(static_cast<long double>(tau - linf(x)) <= samples::threshold_error<TestType>(elements));
        }
    }
}

TEMPLATE_TEST_CASE("prox_linf: brings no two vectors further apart", "[kernels][linf][property]", float, double) {
    for (const auto& from : samples::distributions())
        for (const bool weighted : {false, true}) {
            const auto a = samples::make<TestType>(from, 257, weighted, 1);
            auto b = samples::make<TestType>(from, 257, weighted, 2);
            b.d = a.d;
            for (const double share : samples::shares()) {
                const auto elements = oracle::prox_elements(a.v, a.d);
                const auto t = samples::total_of(elements, share);
                const auto x = prox(a, t), y = prox(b, t);
                const auto error =
                    samples::threshold_error<TestType>(elements) + samples::threshold_error<TestType>(oracle::prox_elements(b.v, b.d));
                long double before = 0, after = 0, rounding = 0;
                for (std::size_t i = 0; i < x.size(); ++i) {
                    const auto squared = [](TestType p, TestType q) {
                        return (static_cast<long double>(p) - static_cast<long double>(q)) *
                               (static_cast<long double>(p) - static_cast<long double>(q));
                    };
                    before += elements[i].weight * squared(a.v[i], b.v[i]);
                    after += elements[i].weight * squared(x[i], y[i]);
                    rounding += elements[i].weight * error * error;
                }
                INFO(a.name << ", share " << share);
                CHECK(std::sqrt(after) <= std::sqrt(before) + std::sqrt(rounding));
            }
        }
}

TEMPLATE_TEST_CASE("prox_linf: signs, scales by powers of two and order do not matter", "[kernels][linf][property]", float, double) {
    std::mt19937 generator(7);
    for (const auto& s : samples::all<TestType>({2, 17, 129, 1025})) {
        const auto elements = oracle::prox_elements(s.v, s.d);
        const auto t = samples::total_of(elements, 0.03);
        const auto x = prox(s, t);
        INFO(s.name);

        auto mirrored = s;
        for (TestType& value : mirrored.v) value = -value;
        auto expected = x;
        for (TestType& value : expected) value = -value;
        CHECK(samples::first_bit_difference(prox(mirrored, t), expected) == "");

        auto scaled = s;
        for (TestType& value : scaled.v) value *= 4;
        expected = x;
        for (TestType& value : expected) value *= 4;
        CHECK(samples::first_bit_difference(prox(scaled, 4 * static_cast<double>(t)), expected) == "");

        std::vector<std::size_t> order(s.v.size());
        for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
        std::shuffle(order.begin(), order.end(), generator);
        auto permuted = s;
        for (std::size_t i = 0; i < order.size(); ++i) {
            permuted.v[i] = s.v[order[i]];
            expected[i] = x[order[i]];
            if (!s.d.empty()) permuted.d[i] = s.d[order[i]];
        }
        const std::vector allowed(s.v.size(), 2 * samples::threshold_error<TestType>(elements));  // sums are added up in another order
        CHECK(samples::first_difference(prox(permuted, t), expected, allowed) == "");
    }
}

TEMPLATE_TEST_CASE("prox_linf: t = 0 leaves the vector as it is, bit for bit", "[kernels][linf][edge]", float, double) {
    for (auto& s : samples::all<TestType>(samples::sizes())) {
        s.v.front() = TestType(-0.0);
        TestType tau = -1;
        INFO(s.name);
        CHECK(samples::first_bit_difference(prox(s, 0, &tau), s.v) == "");
        CHECK(tau == linf(s.v));
    }
}

TEMPLATE_TEST_CASE("prox_linf: a large t gives zeros with the signs of the vector", "[kernels][linf][edge]", float, double) {
    for (const auto& s : samples::all<TestType>(samples::sizes())) {
        const auto total = samples::total_of(oracle::prox_elements(s.v, s.d), 1);
        std::vector<TestType> zeros;
        for (const TestType value : s.v) zeros.push_back(std::copysign(TestType(0), value));
        for (const long double t : {1.001L * total + 1e-40L, 1e300L, static_cast<long double>(std::numeric_limits<double>::infinity())}) {
            TestType tau = -1;
            INFO(s.name << ", t " << t);
            CHECK(samples::first_bit_difference(prox(s, t, &tau), zeros) == "");
            CHECK(tau == 0);
        }
    }
}

TEMPLATE_TEST_CASE("prox_linf: entries below the threshold keep their bits", "[kernels][linf][edge]", float, double) {
    for (const auto& s : samples::all<TestType>({17, 129, 1025})) {
        TestType tau = 0;
        const auto x = prox(s, samples::total_of(oracle::prox_elements(s.v, s.d), 0.1), &tau);
        auto expected = s.v;
        for (TestType& value : expected) value = std::abs(value) > tau ? std::copysign(tau, value) : value;
        INFO(s.name);
        CHECK(samples::first_bit_difference(x, expected) == "");
    }
}

TEMPLATE_TEST_CASE("prox_linf: denormal numbers are clipped exactly", "[kernels][linf][edge]", float, double) {
    constexpr auto unit = std::numeric_limits<TestType>::denorm_min();
    samples::sample<TestType> s{"denormal", {}, {}};
    for (int i = 0; i < 40; ++i) s.v.push_back(static_cast<TestType>(i % 5) * unit);  // 8 of each; above tau = 2 lie 8 * 1 + 8 * 2
    const auto x = prox(s, 24 * static_cast<long double>(unit));
    for (int i = 0; i < 40; ++i) CHECK(x[static_cast<std::size_t>(i)] == static_cast<TestType>(std::min(i % 5, 2)) * unit);
}

TEMPLATE_TEST_CASE("prox_linf: an empty vector has a prox", "[kernels][linf][edge]", float, double) {
    CHECK(magr::prox_linf(std::span<TestType>{}, 1.0) == 0);
    CHECK(magr::prox_linf(std::span<TestType>{}, std::span<const TestType>{}, 0.0) == 0);
}
