// SPDX-License-Identifier: MIT
#include <magr/simd/pack.hpp>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "support/catch.hpp"

namespace simd = magr::simd;

namespace {

/// Pairs of numbers with interesting order, sign or zeros.
template <class T>
constexpr std::array<T, 6> left = {T(1), T(-2), T(0), T(-0.0), T(1e-30), T(-1e30)};
template <class T>
constexpr std::array<T, 6> right = {T(-3), T(2), T(-0.0), T(0), T(1e30), T(-1e-30)};

template <class T>
bool same_bits(T a, T b) {
    return std::memcmp(&a, &b, sizeof(T)) == 0;
}

template <class T>
bool equal(T a, T b) {
    return a == b;
}

/// Checks that every lane of `operation(a, b)` equals the same operation on plain numbers.
template <class T, class Arch, class Operation>
void check_lanes(const char* name, Operation&& operation, bool (*same)(T, T)) {
    using traits = simd::pack_traits<T, Arch>;
    std::array<T, static_cast<std::size_t>(traits::lanes) + 1> a, b, result;
    for (std::size_t shift = 0; shift < left<T>.size(); ++shift) {
        for (std::size_t i = 0; i < a.size(); ++i) {
            a[i] = left<T>[(i + shift) % left<T>.size()];
            b[i] = right<T>[(i + shift) % right<T>.size()];
        }
        simd::store(result.data() + 1, operation(traits::load(a.data() + 1), traits::load(b.data() + 1)));  // unaligned
        for (std::size_t i = 1; i < a.size(); ++i) {
            INFO(name << " of " << a[i] << " and " << b[i] << " in lane " << i - 1 << " gives " << result[i]);
            CHECK(same(result[i], operation(a[i], b[i])));
        }
    }
}

template <class T, class Arch>
void check_operations() {
    check_lanes<T, Arch>(
        "abs", [](auto a, auto) { return simd::abs(a); }, same_bits<T>);
    check_lanes<T, Arch>(
        "rint", [](auto a, auto) { return simd::rint(a / decltype(a)(T(2))); }, equal<T>);
    check_lanes<T, Arch>(
        "max", [](auto a, auto b) { return simd::max(a, b); }, equal<T>);  // either of two zeros may be the larger one
    check_lanes<T, Arch>(
        "min", [](auto a, auto b) { return simd::min(a, b); }, equal<T>);
    check_lanes<T, Arch>(
        "copysign", [](auto a, auto b) { return simd::copysign(a, b); }, same_bits<T>);
    check_lanes<T, Arch>(
        "select", [](auto a, auto b) { return simd::select(a > b, a, b); }, same_bits<T>);
    check_lanes<T, Arch>(
        "fma", [](auto a, auto b) { return simd::fma(a, b, b - a); }, same_bits<T>);
}

}  // namespace

TEMPLATE_TEST_CASE("pack: every lane computes what a number does", "[simd][pack][isa]", float, double) {
    check_operations<TestType, simd::default_arch>();
}

TEMPLATE_TEST_CASE("pack: numbers behave as in the standard library", "[simd][pack]", float, double) {
    for (std::size_t i = 0; i < left<TestType>.size(); ++i) {
        const TestType a = left<TestType>[i], b = right<TestType>[i];
        CHECK(same_bits(simd::abs(a), std::abs(a)));
        CHECK(same_bits(simd::copysign(a, b), std::copysign(a, b)));
        CHECK(simd::max(a, b) == std::max(a, b));
        CHECK(simd::min(a, b) == std::min(a, b));
        CHECK(simd::select(a > b, a, b) == std::max(a, b));
    }
}

TEMPLATE_TEST_CASE("pack: reduce_add adds every lane once", "[simd][pack][isa]", float, double) {
    using traits = simd::pack_traits<TestType, simd::default_arch>;
    std::array<TestType, static_cast<std::size_t>(traits::lanes)> powers;
    for (std::size_t i = 0; i < powers.size(); ++i) powers[i] = std::ldexp(TestType(1), static_cast<int>(i));
    CHECK(simd::reduce_add(traits::load(powers.data())) == std::ldexp(TestType(1), static_cast<int>(powers.size())) - 1);
    CHECK(simd::reduce_add(traits::broadcast(TestType(0.5))) == TestType(traits::lanes) / 2);
}

// (1 + e)(1 - e) = 1 - e^2 exactly. Rounding the product alone gives 1, and then the sum is 0 instead of -e^2.
TEMPLATE_TEST_CASE("pack: fma adds the three numbers in their order, and rounds once where the processor does", "[simd][pack][isa]", float,
                   double) {
    using traits = simd::pack_traits<TestType, simd::default_arch>;
    const auto of_packs = [](TestType a, TestType b, TestType c) {
        return simd::reduce_add(simd::fma(traits::broadcast(a), traits::broadcast(b), traits::broadcast(c))) / TestType(traits::lanes);
    };
    CHECK(of_packs(2, 3, 5) == 11);
    CHECK(simd::fma(TestType(2), TestType(3), TestType(5)) == 11);
    const TestType e = std::numeric_limits<TestType>::epsilon();
    volatile TestType a = 1 + e, b = 1 - e, c = -1;  // otherwise the compiler computes the sum, without rounding
#if defined(__FMA__) || defined(__AVX512F__) || defined(__ARM_FEATURE_FMA)
    const TestType expected = -e * e;
#else
    const TestType expected = 0;
#endif
    CHECK(of_packs(a, b, c) == expected);
    CHECK(simd::fma(TestType(a), TestType(b), TestType(c)) == expected);
}

TEMPLATE_TEST_CASE("pack: any finds a single lane", "[simd][pack][isa]", float, double) {
    using traits = simd::pack_traits<TestType, simd::default_arch>;
    std::array<TestType, static_cast<std::size_t>(traits::lanes)> a{};
    CHECK_FALSE(simd::any(traits::load(a.data()) > traits::broadcast(0)));
    for (std::size_t lane = 0; lane < a.size(); ++lane) {
        a[lane] = 1;
        CHECK(simd::any(traits::load(a.data()) > traits::broadcast(0)));
        a[lane] = 0;
    }
}

TEST_CASE("instruction_set: names what this unit is compiled for", "[simd]") {
    std::string name = magr::instruction_set();
    const bool converts_halves = name.ends_with("_f16c");
    if (converts_halves) name.resize(name.size() - 5);
#ifdef __F16C__
    CHECK(converts_halves);
#else
    CHECK_FALSE(converts_halves);
#endif
#if defined(MAGR_NO_XSIMD)
    CHECK(name == "scalar");
#elif defined(__AVX512F__)
    CHECK((name == "avx512" || name == "avx512f"));
#elif defined(__AVX2__) && defined(__FMA__)
    CHECK(name == "avx2_fma");
#elif defined(__x86_64__) && !defined(__SSE3__)
    CHECK(name == "baseline");
#else
    CHECK_FALSE(name.empty());
#endif
}
