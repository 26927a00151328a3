// SPDX-License-Identifier: MIT
#include <magr/grid/rounding.hpp>

#include <array>
#include <cmath>
#include <cstdint>

#include "support/catch.hpp"

using magr::index_t;
using magr::round_half_even;
using magr::stochastic_rounding;

// Known answers for counter and key of all zeros, all ones, and digits of pi, as published by the authors of the generator.
TEST_CASE("philox: known answers", "[quantize][rounding][oracle]") {
    using block = std::array<std::uint32_t, 4>;
    CHECK(magr::detail::philox(0, 0, 0) == block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
    CHECK(magr::detail::philox(~0ULL, ~0ULL, ~0ULL) == block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
    CHECK(magr::detail::philox(0x85a308d3243f6a88, 0x0370734413198a2e, 0x299f31d0a4093822) ==
          block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEMPLATE_TEST_CASE("rounding: integers stay, others go to a neighbour", "[quantize][rounding][property]", float, double) {
    using scalar = TestType;
    for (int k = -255; k <= 255; ++k) {
        const auto integer = static_cast<scalar>(k);
        CHECK(round_half_even{}(integer, 3, 4) == integer);
        CHECK(stochastic_rounding{7}(integer, 3, 4) == integer);
        for (const scalar fraction : {scalar(0.01), scalar(0.5), scalar(0.99)}) {
            const scalar rounded = stochastic_rounding{7}(integer + fraction, k, 4);
            CHECK((rounded == integer || rounded == integer + 1));
        }
    }
}

TEMPLATE_TEST_CASE("stochastic_rounding: is right on average, in every fraction", "[quantize][rounding][property]", float, double) {
    using scalar = TestType;
    constexpr index_t draws = 40000;
    for (const scalar fraction : {scalar(0.03125), scalar(0.25), scalar(0.5), scalar(0.875)})
        for (const std::uint64_t seed : {0ULL, 1ULL, 0xffffffffffffffffULL}) {
            double sum = 0;
            for (index_t i = 0; i < draws; ++i)
                sum += static_cast<double>(stochastic_rounding{seed}(scalar(5) + fraction, i % 200, i / 200)) - 5;
            const double p = static_cast<double>(fraction);
            const double deviation = std::sqrt(p * (1 - p) / static_cast<double>(draws));
            CAPTURE(fraction, seed);
            CHECK(std::abs(sum / static_cast<double>(draws) - p) < 4 * deviation);
        }
}

TEST_CASE("stochastic_rounding: depends on seed, row and column, and on nothing else", "[quantize][rounding][property]") {
    int differ_by_seed = 0, differ_by_row = 0, differ_by_column = 0;
    for (index_t i = 0; i < 100; ++i)
        for (index_t j = 0; j < 10; ++j) {
            const double here = stochastic_rounding{1}(0.5, i, j);
            CHECK(stochastic_rounding{1}(0.5, i, j) == here);
            differ_by_seed += stochastic_rounding{2}(0.5, i, j) != here ? 1 : 0;
            differ_by_row += stochastic_rounding{1}(0.5, i + 1, j) != here ? 1 : 0;
            differ_by_column += stochastic_rounding{1}(0.5, i, j + 1) != here ? 1 : 0;
        }
    for (const int differ : {differ_by_seed, differ_by_row, differ_by_column}) CHECK(std::abs(differ - 500) < 70);  // 4.4 deviations
}

TEST_CASE("stochastic_rounding: compares the fraction with the leading bits of the generator", "[quantize][rounding][oracle]") {
    for (const std::uint64_t seed : {0ULL, 7ULL, 0x123456789abcdef0ULL})
        for (const index_t row : {index_t{0}, index_t{5}, index_t{1} << 40})
            for (const index_t column : {index_t{0}, index_t{3}, index_t{1} << 33}) {
                const auto bits = magr::detail::philox(static_cast<std::uint64_t>(row), static_cast<std::uint64_t>(column), seed);
                const double u = static_cast<double>((std::uint64_t{bits[0]} << 32 | bits[1]) >> 11) * 0x1p-53;
                const stochastic_rounding rounding{seed};
                CHECK(rounding(u, row, column) == 0);  // goes up only if u is less than the fraction
                CHECK(rounding(u + 0x1p-53, row, column) == 1);
                const float v = static_cast<float>(bits[0] >> 8) * 0x1p-24f;
                CHECK(rounding(v, row, column) == 0);
                CHECK(rounding(v + 0x1p-24f, row, column) == 1);
            }
}
