// SPDX-License-Identifier: MIT
#include <magr/kernels/prox.hpp>

#include <magr/kernels/metric.hpp>
#include <magr/kernels/source.hpp>

#include "kernels/samples.hpp"
#include "oracle/certificate.hpp"
#include "support/catch.hpp"

using magr::index_t;
using samples::project;

namespace {

static_assert(noexcept(magr::project_l1_ball(std::span<float>{}, 1.0)));
static_assert(noexcept(magr::project_l1_ball(std::span<double>{}, std::span<const double>{}, 1.0)));
static_assert(noexcept(magr::kernels::project_l1_ball<float>(magr::kernels::contiguous_source<float>{}, magr::kernels::unit_metric{}, 1,
                                                             1.0)));

/// Whether x passes as the projection of s.v, up to the rounding errors allowed to the kernel.
template <class T>
bool is_projection(const samples::sample<T>& s, const std::vector<T>& x, long double radius) {
    const auto elements = oracle::projection_elements(s.v, s.d);
    const auto [infeasibility, gap] = oracle::projection_violation(s.v, x, s.d, radius);
    const auto errors = samples::shrink_errors<T>(elements);
    long double l1 = 0;  // error of ||x||_1, and of sums of x_i g_i with |g_i| <= 1
    for (std::size_t i = 0; i < x.size(); ++i) l1 += x[i] != 0 ? errors[i] : 0;
    const auto largest = samples::largest_of(elements);
    const auto normal = samples::threshold_error<T>(elements) + 4 * samples::unit_roundoff<T> * largest;  // error of d_i |v_i - x_i|
    UNSCOPED_INFO("||x||_1 - radius = " << infeasibility << " of " << radius << ", gap " << gap << " of " << radius * largest);
    return infeasibility <= l1 && gap <= 2 * (radius * normal + largest * l1);
}

/// Scaling into the ball: feasible, but not the nearest point.
template <class T>
std::vector<T> rescale(const samples::sample<T>& s, long double radius) {
    long double l1 = 0;
    for (const T value : s.v) l1 += std::abs(static_cast<long double>(value));
    std::vector<T> x = s.v;
    for (T& value : x) value = static_cast<T>(static_cast<long double>(value) * std::min(radius / l1, 1.0L));
    return x;
}

template <class T>
long double distance(const samples::sample<T>& s, const std::vector<T>& a, const std::vector<T>& b) {
    long double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        const auto difference = static_cast<long double>(a[i]) - static_cast<long double>(b[i]);
        sum += (s.d.empty() ? 1 : static_cast<long double>(s.d[i])) * difference * difference;
    }
    return std::sqrt(sum);
}

/// How far rounding may move a projection, in the same norm.
template <class T>
long double projection_error(const samples::sample<T>& s) {
    const auto elements = oracle::projection_elements(s.v, s.d);
    const auto errors = samples::shrink_errors<T>(elements);
    long double sum = 0;
    for (std::size_t i = 0; i < errors.size(); ++i) sum += errors[i] * errors[i] / elements[i].weight;
    return std::sqrt(sum);
}

}  // namespace

TEMPLATE_TEST_CASE("project_l1_ball: is the projection that sorting finds", "[kernels][l1_ball][oracle]", float, double) {
    for (const auto& s : samples::all<TestType>(samples::sizes())) {
        const auto elements = oracle::projection_elements(s.v, s.d);
        const auto errors = samples::shrink_errors<TestType>(elements);
        for (const double share : samples::shares()) {
            const auto radius = static_cast<double>(samples::total_of(elements, share));
            INFO(s.name << ", share " << share);
            CHECK(samples::first_difference(project(s, radius), oracle::project_l1_ball(s.v, s.d, radius), errors) == "");
        }
    }
}

TEMPLATE_TEST_CASE("project_l1_ball: satisfies the variational inequality, which a rescaled vector does not",
                   "[kernels][l1_ball][certificate]", float, double) {
    for (const auto& s : samples::all<TestType>({2, 17, 128, 1025, 4096})) {
        const auto elements = oracle::projection_elements(s.v, s.d);
        for (const double share : samples::shares()) {
            const auto radius = static_cast<double>(samples::total_of(elements, share));
            INFO(s.name << ", share " << share);
            CHECK(is_projection(s, project(s, radius), radius));
        }
    }
    for (const char* name :
         {"gaussian", "uniform", "heavy-tailed", "two clusters", "small integers"})  // where scaling is far from projecting
        for (const bool weighted : {false, true}) {
            const auto s = samples::make<TestType>(samples::named(name), 128, weighted);
            const auto radius = samples::total_of(oracle::projection_elements(s.v, s.d), 0.3);
            INFO(s.name);
            CHECK(is_projection(s, project(s, radius), radius));
            CHECK_FALSE(is_projection(s, rescale(s, radius), radius));
        }
}

TEMPLATE_TEST_CASE("project_l1_ball: projecting again changes nothing but rounding", "[kernels][l1_ball][property]", float, double) {
    for (const auto& s : samples::all<TestType>({1, 2, 17, 128, 1025}))
        for (const double share : samples::shares()) {
            const auto radius = samples::total_of(oracle::projection_elements(s.v, s.d), share);
            const auto once = project(s, radius);
            const auto twice = project(samples::sample<TestType>{s.name, once, s.d}, radius);
            INFO(s.name << ", share " << share);
            CHECK(distance(s, once, twice) <= 4 * projection_error(s));
        }
}

TEMPLATE_TEST_CASE("project_l1_ball: brings no two vectors further apart", "[kernels][l1_ball][property]", float, double) {
    for (const auto& from : samples::distributions())
        for (const bool weighted : {false, true}) {
            const auto a = samples::make<TestType>(from, 257, weighted, 1);
            auto b = samples::make<TestType>(from, 257, weighted, 2);
            b.d = a.d;
            for (const double share : samples::shares()) {
                const auto radius = samples::total_of(oracle::projection_elements(a.v, a.d), share);
                INFO(a.name << ", share " << share);
                CHECK(distance(a, project(a, radius), project(b, radius)) <=
                      distance(a, a.v, b.v) + 2 * (projection_error(a) + projection_error(b)));
            }
        }
}

TEMPLATE_TEST_CASE("project_l1_ball: signs, scales by powers of two and order do not matter", "[kernels][l1_ball][property]", float,
                   double) {
    std::mt19937 generator(7);
    for (const auto& s : samples::all<TestType>({2, 17, 129, 1025})) {
        const auto elements = oracle::projection_elements(s.v, s.d);
        const auto radius = samples::total_of(elements, 0.3);
        const auto x = project(s, radius);
        INFO(s.name);

        auto mirrored = s;
        for (TestType& value : mirrored.v) value = -value;
        auto expected = x;
        for (TestType& value : expected) value = -value;
        CHECK(samples::first_bit_difference(project(mirrored, radius), expected) == "");

        auto scaled = s;
        for (TestType& value : scaled.v) value *= 4;
        expected = x;
        for (TestType& value : expected) value *= 4;
        CHECK(samples::first_bit_difference(project(scaled, 4 * static_cast<double>(radius)), expected) == "");

        std::vector<std::size_t> order(s.v.size());
        for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
        std::shuffle(order.begin(), order.end(), generator);
        auto permuted = s;
        const auto errors = samples::shrink_errors<TestType>(elements);
        std::vector<long double> allowed;  // sums are added up in another order
        for (std::size_t i = 0; i < order.size(); ++i) {
            allowed.push_back(2 * errors[order[i]]);
            permuted.v[i] = s.v[order[i]];
            expected[i] = x[order[i]];
            if (!s.d.empty()) permuted.d[i] = s.d[order[i]];
        }
        CHECK(samples::first_difference(project(permuted, radius), expected, allowed) == "");
    }
}

TEMPLATE_TEST_CASE("project_l1_ball: a vector inside stays as it is, bit for bit", "[kernels][l1_ball][edge]", float, double) {
    for (auto& s : samples::all<TestType>(samples::sizes())) {
        s.v.front() = TestType(-0.0);
        const auto l1 = samples::total_of(oracle::projection_elements(s.v, s.d), 1);
        for (const long double radius :
             {1.001L * l1, 2 * l1 + 1, 1e300L, static_cast<long double>(std::numeric_limits<double>::infinity())}) {
            INFO(s.name << ", radius " << radius);
            TestType tau = -1;
            CHECK(samples::first_bit_difference(project(s, radius, &tau), s.v) == "");
            CHECK(tau == 0);
        }
    }
}

TEMPLATE_TEST_CASE("project_l1_ball: radius zero leaves zeros with the signs of the vector", "[kernels][l1_ball][edge]", float, double) {
    for (const auto& s : samples::all<TestType>(samples::sizes())) {
        std::vector<TestType> zeros;
        for (const TestType value : s.v) zeros.push_back(std::copysign(TestType(0), value));
        INFO(s.name);
        CHECK(samples::first_bit_difference(project(s, 0), zeros) == "");
    }
}

TEMPLATE_TEST_CASE("project_l1_ball: zeros keep their sign outside of the ball", "[kernels][l1_ball][edge]", float, double) {
    samples::sample<TestType> s{"signed zeros", std::vector<TestType>(37, TestType(-0.0)), {}};
    s.v[5] = TestType(0);
    s.v[20] = TestType(-3);
    auto expected = s.v;
    expected[20] = TestType(-1);
    CHECK(samples::first_bit_difference(project(s, 1), expected) == "");
}

TEMPLATE_TEST_CASE("project_l1_ball: denormal numbers are projected exactly", "[kernels][l1_ball][edge]", float, double) {
    constexpr auto unit = std::numeric_limits<TestType>::denorm_min();
    samples::sample<TestType> s{"denormal", {}, {}};
    for (int i = 0; i < 40; ++i) s.v.push_back(static_cast<TestType>(i % 5) * unit);  // 8 of each; tau = 2 leaves 8 * 1 + 8 * 2
    TestType tau = 0;
    const auto x = project(s, 24 * static_cast<long double>(unit), &tau);
    CHECK(tau == 2 * unit);
    for (int i = 0; i < 40; ++i) CHECK(x[static_cast<std::size_t>(i)] == static_cast<TestType>(std::max(i % 5 - 2, 0)) * unit);
}

TEMPLATE_TEST_CASE("project_l1_ball: an empty vector is projected", "[kernels][l1_ball][edge]", float, double) {
    CHECK(magr::project_l1_ball(std::span<TestType>{}, 1.0) == 0);
    CHECK(magr::project_l1_ball(std::span<TestType>{}, std::span<const TestType>{}, 0.0) == 0);
}

TEMPLATE_TEST_CASE("project_l1_ball: alignment changes no bit", "[kernels][l1_ball][edge]", float, double) {
    for (const auto& s : samples::all<TestType>({17, 64, 129, 1025})) {
        const auto radius = static_cast<double>(samples::total_of(oracle::projection_elements(s.v, s.d), 0.3));
        const auto expected = project(s, radius);
        for (std::size_t offset = 1; offset < 4; ++offset) {
            std::vector<TestType> v(offset), d(offset);
            v.insert(v.end(), s.v.begin(), s.v.end());
            d.insert(d.end(), s.d.begin(), s.d.end());
            const auto tail = std::span(v).subspan(offset);
            if (s.d.empty())
                magr::project_l1_ball(tail, radius);
            else
                magr::project_l1_ball(tail, std::span(d).subspan(offset), radius);
            INFO(s.name << ", offset " << offset);
            CHECK(samples::first_bit_difference(std::vector<TestType>(tail.begin(), tail.end()), expected) == "");
        }
    }
}
