// SPDX-License-Identifier: MIT
#include <magr/kernels/admm_step.hpp>

#include "kernels/samples.hpp"
#include "support/catch.hpp"

using magr::index_t;
using magr::kernels::admm_arrays;
using magr::kernels::admm_step;
using magr::simd::default_arch;
using magr::simd::scalar_arch;

namespace {

static_assert(noexcept(admm_step(admm_arrays<float>{}, 1, 1.0F, 1.0, 0.0F)));

template <class T>
struct state {
    std::vector<T> step, w0, d, z, u, residual;
};

/// A typical iteration: a small step, a dual variable that is not zero everywhere, a metric that spans four decades.
template <class T>
state<T> make_state(index_t n, unsigned seed) {
    std::mt19937 generator(seed);
    state<T> s;
    for (index_t i = 0; i < n; ++i) {
        const double weight = samples::gaussian(generator);
        s.w0.push_back(static_cast<T>(weight));
        s.step.push_back(static_cast<T>(0.1 * samples::gaussian(generator)));
        s.z.push_back(static_cast<T>(std::clamp(weight, -1.5, 1.5)));
        s.u.push_back(static_cast<T>(weight) - s.z.back());
        s.d.push_back(static_cast<T>(std::pow(10.0, 4 * samples::uniform(generator) - 2)));
        s.residual.push_back(std::numeric_limits<T>::quiet_NaN());
    }
    return s;
}

template <class T, class Arch = default_arch>
T run(state<T>& s, double relaxation, double penalty, T hint, Arch arch = {}) {
    const admm_arrays<T> arrays{s.step.data(), s.w0.data(), s.d.data(), s.z.data(), s.u.data(), s.residual.data()};
    return admm_step(arrays, static_cast<index_t>(s.w0.size()), static_cast<T>(relaxation), penalty, hint, arch);
}

/// The same iteration by the formulas, in long double, with the rounding error allowed for each element.
struct textbook {
    std::vector<oracle::element> elements;  // the terms of the threshold equation
    std::vector<long double> v, error;
    long double largest_error = 0;

    template <class T>
    textbook(const state<T>& s, double relaxation) {
        const long double r = static_cast<T>(relaxation), rest = static_cast<T>(T(1) - static_cast<T>(relaxation));
        for (std::size_t i = 0; i < s.w0.size(); ++i) {
            const long double step = s.step[i], w0 = s.w0[i], z = s.z[i], u = s.u[i];
            v.push_back(r * (step + w0) + rest * z + u);
            elements.push_back({std::abs(v.back()), static_cast<long double>(s.d[i])});
            // Three products and three sums, of terms that may cancel.
            error.push_back(6 * samples::unit_roundoff<T> * (r * (std::abs(step) + std::abs(w0)) + std::abs(rest * z) + std::abs(u)));
            largest_error = std::max(largest_error, error.back());
        }
    }
};

/// Lengths with all remainders of unrolled packs, lengths around the blocks of the sums and around the switch to another start of the
/// search, and two rows.
std::vector<index_t> lengths() {
    std::vector<index_t> all = {128, 1023, 1024, 1025, 2048, 2049, 4096, 11008};
    for (index_t n = 1; n <= 70; ++n) all.push_back(n);
    return all;
}

template <class T, class Arch>
void check_against_textbook(index_t n, double relaxation, double share, Arch arch) {
    const auto before = make_state<T>(n, static_cast<unsigned>(n));
    const textbook expected(before, relaxation);
    const auto penalty = static_cast<double>(samples::total_of(expected.elements, share));
    const auto root = oracle::threshold(expected.elements, penalty);
    const auto of_tau = samples::threshold_error<T, Arch>(expected.elements) + expected.largest_error;
    const auto tau_before = static_cast<T>(root);
    for (const T hint : {T(0), tau_before, tau_before * T(0.98), tau_before * T(1.02), T(1e6)}) {
        auto s = before;
        const T tau = run(s, relaxation, penalty, hint, arch);
        INFO("n = " << n << ", r = " << relaxation << ", share " << share << ", root " << root << ", hint " << hint << ", tau " << tau);
        REQUIRE(std::abs(static_cast<long double>(tau) - root) <= of_tau);

        std::vector<long double> z, u, residual, residual_error;
        for (std::size_t i = 0; i < before.w0.size(); ++i) {
            const long double d = before.d[i], w0 = before.w0[i];
            z.push_back(std::clamp(expected.v[i], -root, root));
            u.push_back(expected.v[i] - z.back());
            residual.push_back(d * (z.back() - u.back() - w0));
            residual_error.push_back(d * (2 * (of_tau + expected.error[i]) +
                                          4 * samples::unit_roundoff<T> * (std::abs(z.back()) + std::abs(u.back()) + std::abs(w0))));
        }
        std::vector<long double> error(expected.error);
        for (long double& one : error) one += of_tau;
        REQUIRE(samples::first_difference(s.z, z, error) == "");
        REQUIRE(samples::first_difference(s.u, u, error) == "");
        REQUIRE(samples::first_difference(s.residual, residual, residual_error) == "");
    }
}

template <class T>
bool has_bits(const std::vector<T>& a, const std::vector<T>& b) {
    return samples::first_bit_difference(a, b).empty();
}

}  // namespace

TEMPLATE_TEST_CASE("admm_step: is the textbook sequence of its formulas", "[kernels][admm][oracle]", float, double) {
    for (const index_t n : lengths())
        for (const double relaxation : {1.0, 1.6})
            for (const double share : {1e-3, 0.1, 0.6}) {
                check_against_textbook<TestType>(n, relaxation, share, default_arch{});
                check_against_textbook<TestType>(n, relaxation, share, scalar_arch{});
            }
}

// z is the minimiser iff s = d u is a subgradient of the penalty there: ||s||_1 = penalty, and s is zero except where |z_i| is largest, and
// has its sign. An iteration that does not update the dual variable, or that shrinks the vector, has another s.
TEMPLATE_TEST_CASE("admm_step: the dual variable certifies that z is the minimizer", "[kernels][admm][certificate]", float, double) {
    for (const index_t n : lengths())
        for (const double share : {1e-3, 0.1, 0.6}) {
            auto s = make_state<TestType>(n, static_cast<unsigned>(n) + 1);
            const textbook expected(s, 1.6);
            const auto penalty = samples::total_of(expected.elements, share);
            const TestType tau = run(s, 1.6, static_cast<double>(penalty), TestType(0.5));
            INFO("n = " << n << ", share " << share << ", tau " << tau);
            long double dual_norm = 0, rounding = 0, weight = 0;
            for (std::size_t i = 0; i < s.z.size(); ++i) {
                const long double u = s.u[i], d = s.d[i];
                if (s.u[i] != 0) {
                    REQUIRE(std::abs(s.z[i]) == tau);
                    REQUIRE(std::signbit(s.u[i]) == std::signbit(s.z[i]));
                    weight += d;
                }
                REQUIRE(std::abs(s.z[i]) <= tau);
                dual_norm += d * std::abs(u);
                rounding += d * (expected.error[i] + samples::unit_roundoff<TestType> * std::abs(u));
            }
            REQUIRE(std::abs(dual_norm - penalty) <= weight * samples::threshold_error<TestType>(expected.elements) + rounding);
        }
}

TEMPLATE_TEST_CASE("admm_step: where nothing is clipped the dual variable is zero", "[kernels][admm][edge]", float, double) {
    for (const index_t n : {1, 17, 128, 4096}) {
        const auto before = make_state<TestType>(n, 3);
        auto free = before;
        INFO("n = " << n);
        const TestType largest = run(free, 1.6, 0, TestType(1));
        TestType seen = 0;
        for (const TestType value : free.z) seen = std::max(seen, std::abs(value));
        CHECK(largest == seen);
        CHECK(has_bits(free.u, std::vector<TestType>(free.u.size(), TestType(0))));

        auto penalized = before;
        const TestType tau = run(penalized, 1.6, 1, TestType(1));
        std::size_t untouched = 0;
        for (std::size_t i = 0; i < before.w0.size(); ++i)
            if (std::abs(free.z[i]) <= tau) {
                ++untouched;
                CHECK(penalized.z[i] == free.z[i]);
                CHECK(penalized.u[i] == 0);
            }
        CHECK((untouched > 0 || n == 1));
    }
}

TEMPLATE_TEST_CASE("admm_step: a large penalty leaves nothing but the dual variable", "[kernels][admm][edge]", float, double) {
    for (const index_t n : {1, 17, 128, 4096}) {
        auto s = make_state<TestType>(n, 4);
        auto free = s;
        run(free, 1.6, 0, TestType(0));
        const TestType tau = run(s, 1.6, 1e30, TestType(1));
        INFO("n = " << n);
        CHECK(tau == 0);
        CHECK(samples::first_difference(s.z, std::vector<long double>(s.z.size(), 0), std::vector<long double>(s.z.size(), 0)) == "");
        CHECK(has_bits(s.u, free.z));
    }
}

TEMPLATE_TEST_CASE("admm_step: the residual may overwrite the step", "[kernels][admm][edge]", float, double) {
    for (const index_t n : {1, 7, 65, 1025}) {
        auto apart = make_state<TestType>(n, 5);
        auto together = apart;
        INFO("n = " << n);
        run(apart, 1.6, 1, TestType(1));
        admm_step(admm_arrays<TestType>{together.step.data(), together.w0.data(), together.d.data(), together.z.data(), together.u.data(),
                                        together.step.data()},
                  n, TestType(1.6), 1.0, TestType(1));
        CHECK(has_bits(together.z, apart.z));
        CHECK(has_bits(together.u, apart.u));
        CHECK(has_bits(together.step, apart.residual));
    }
}
