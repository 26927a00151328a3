// SPDX-License-Identifier: MIT
#include <magr/matrix/scalar.hpp>

#include <Eigen/Core>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include <magr/detail/matrix_ref.hpp>
#include <magr/error.hpp>
#include <magr/matrix/matrix_view.hpp>

#include "matrix/same_results.hpp"
#include "support/catch.hpp"

using magr::index_t;
using magr::matrix_layout;
using magr::matrix_view;
using tests::inputs;
using tests::outputs;

static_assert(magr::storage_scalar<float> && magr::storage_scalar<double>);
static_assert(!magr::storage_scalar<int> && !magr::storage_scalar<long double> && !magr::storage_scalar<const float>);

#if MAGR_HAS_FLOAT16 && MAGR_HAS_BF16
#define MAGR_TEST_SCALARS float, double, Eigen::half, Eigen::bfloat16, _Float16, __bf16
#elif MAGR_HAS_FLOAT16
#define MAGR_TEST_SCALARS float, double, Eigen::half, Eigen::bfloat16, _Float16
#else
#define MAGR_TEST_SCALARS float, double, Eigen::half, Eigen::bfloat16
#endif

namespace {

template <class T>
auto elements_of(matrix_view<T> m) {
    return [m](index_t i, index_t j) -> T& { return m(i, j); };
}

/// Weights after MagR, by their bits.
template <class T>
std::vector<std::uint16_t> preprocessed_bits() {
    std::vector<T> w(outputs * inputs);
    std::vector<double> h(inputs * inputs);
    const matrix_view W(w.data(), outputs, inputs);
    const matrix_view H(h.data(), inputs, inputs);
    tests::check_same_results(W, H, elements_of(W), elements_of(H));
    std::vector<std::uint16_t> bits(w.size());
    std::memcpy(bits.data(), w.data(), w.size() * sizeof(T));
    return bits;
}

}  // namespace

TEMPLATE_TEST_CASE("storage_scalar: every element type gives the same bits in every layout", "[matrix][scalar]", MAGR_TEST_SCALARS) {
    static_assert(magr::storage_scalar<TestType>);
    std::vector<TestType> w(4 * outputs * inputs);
    std::vector<float> h(inputs * (inputs + 1));
    const matrix_view H(h.data(), inputs, inputs, inputs + 1, matrix_layout::col_major);
    const auto check = [&](matrix_view<TestType> W) { tests::check_same_results(W, H, elements_of(W), elements_of(H)); };
    TestType* const last = w.data() + w.size() - 1;
    SECTION("by rows") { check({w.data(), outputs, inputs}); }
    SECTION("by padded rows") { check({w.data(), outputs, inputs, inputs + 7}); }
    SECTION("by columns") { check({w.data(), outputs, inputs, outputs, matrix_layout::col_major}); }
    SECTION("by padded columns") { check({w.data(), outputs, inputs, outputs + 3, matrix_layout::col_major}); }
    SECTION("a block") { check(matrix_view(w.data(), outputs + 4, inputs + 8).block(3, 5, outputs, inputs)); }
    SECTION("every other column") { check(matrix_view<TestType>::with_strides(w.data(), outputs, inputs, 3 * inputs, 2)); }
    SECTION("backwards") { check(matrix_view<TestType>::with_strides(last, outputs, inputs, -inputs, -1)); }
    SECTION("backwards by columns") { check(matrix_view<TestType>::with_strides(last, outputs, inputs, -1, -outputs)); }
}

TEST_CASE("storage_scalar: the compiler's 16-bit types give the bits of Eigen's", "[matrix][scalar]") {
#if MAGR_HAS_FLOAT16
    CHECK(preprocessed_bits<_Float16>() == preprocessed_bits<Eigen::half>());
#endif
#if MAGR_HAS_BF16
    CHECK(preprocessed_bits<__bf16>() == preprocessed_bits<Eigen::bfloat16>());
#endif
    SUCCEED();
}

TEMPLATE_TEST_CASE("storage_scalar: NaN and infinity are refused in every element type", "[matrix][scalar][error]", MAGR_TEST_SCALARS) {
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
        std::vector<TestType> w(6, tests::number<TestType>(1));
        w[4] = tests::number<TestType>(bad);
        const std::vector<float> h = {1, 0, 0, 0, 1, 0, 0, 0, 1};
        CHECK_THROWS_AS(magr::preprocess(matrix_view(w.data(), 2, 3), matrix_view(h.data(), 3, 3)), magr::value_error);
        w[4] = tests::number<TestType>(60000);  // large, but finite in all of them
        CHECK_NOTHROW(magr::preprocess(matrix_view(w.data(), 2, 3), matrix_view(h.data(), 3, 3)));
    }
}

TEST_CASE("bfloat16_bits: rounds as Eigen does", "[matrix][scalar]") {
    const auto check = [](float value) {
        INFO(value);
        CHECK(magr::detail::bfloat16_bits(value) == std::bit_cast<std::uint16_t>(Eigen::bfloat16(value)));
    };
    for (const float value : {0.0F, -0.0F, 1.0F, 1.00390625F, 1.01171875F, -1.00390625F, 1e-45F, 3.4e38F, -3.4e38F}) check(value);  // ties
    check(std::numeric_limits<float>::infinity());
    for (std::uint32_t bits = 1; bits < 0x7f800000U; bits += 987653U) check(std::bit_cast<float>(bits));
    CHECK(std::isnan(std::bit_cast<float>(std::uint32_t{magr::detail::bfloat16_bits(std::bit_cast<float>(0x7fffffffU))} << 16)));
    CHECK(std::isnan(std::bit_cast<float>(std::uint32_t{magr::detail::bfloat16_bits(std::bit_cast<float>(0xff800001U))} << 16)));
}
