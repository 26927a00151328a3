// SPDX-License-Identifier: MIT
#include <magr/grid/code_map.hpp>

#include <algorithm>
#include <cfenv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include <magr/grid/quantized_matrix.hpp>

#include "support/catch.hpp"

using magr::index_t;
using magr::zero_point;

namespace {

magr::weight_grids<double> grids(zero_point kind, std::vector<double> levels = {}) {
    magr::weight_grids<double> out;
    out.bits = 4;
    out.zero_point = kind;
    out.levels = std::move(levels);
    return out;
}

/// The weight of a code by the definition of each kind of zero point.
double weight_of(zero_point kind, int code, double scale, double zero) {
    switch (kind) {
        case zero_point::none: return scale * (code - 8);
        case zero_point::middle:
        case zero_point::integer:
        case zero_point::real: return scale * (code - zero);
        case zero_point::offset: break;
    }
    return scale * code + zero;
}

}  // namespace

TEST_CASE("code_map: codes stand for the weights that the zero point says, and weights go to the nearest code",
          "[quantize][code_map][property]") {
    std::mt19937 random(2);
    std::normal_distribution<double> normal(0, 2);
    const double scale = 0.3;
    for (const auto& [kind, zero] :
         {std::pair{zero_point::none, 8.0}, std::pair{zero_point::middle, 7.0}, std::pair{zero_point::integer, 5.0},
          std::pair{zero_point::real, 4.3}, std::pair{zero_point::real, -3.7}, std::pair{zero_point::offset, -1.9},
          std::pair{zero_point::offset, 0.7}}) {
        const zero_point k = kind;
        const double z = zero;
        magr::detail::with_code_map(grids(k), [&](const auto& map_of) {
            const auto map = map_of(scale, z);
            for (int code = 0; code < 16; ++code) {
                const double steps = code - map.code(0);
                CHECK(map.code(steps) == code);
                CHECK(map.weight(steps) == Approx(weight_of(k, code, scale, z)).margin(1e-15));
            }
            for (int trial = 0; trial < 500; ++trial) {
                const double w = normal(random);
                const double value = map.weight(magr::detail::steps_on_grid(map, w, 0, 0));
                double nearest = HUGE_VAL;
                for (int code = 0; code < 16; ++code) nearest = std::min(nearest, std::abs(weight_of(k, code, scale, z) - w));
                CAPTURE(static_cast<int>(k), z, w);
                CHECK(std::abs(value - w) == Approx(nearest).margin(1e-12));
            }
        });
    }
}

TEMPLATE_TEST_CASE("code_map: steps of ordinary weights are those of the formula, bit for bit", "[quantize][code_map][property]", float,
                   double) {
    std::mt19937 random(3);
    std::uniform_real_distribution<TestType> exponent(-20, 20), sign(-1, 1);
    for (int trial = 0; trial < 20000; ++trial) {
        const TestType w = sign(random) * std::exp2(exponent(random)), zero = sign(random) * std::exp2(exponent(random));
        const TestType scale = std::exp2(exponent(random)) * (1 + sign(random) / 4);
        const TestType steps = magr::detail::code_map<zero_point::integer, TestType>{scale, 3, 15}.steps(w);
        const TestType of_real = magr::detail::code_map<zero_point::real, TestType>{scale, zero, 15}.steps(w);
        const TestType of_offset = magr::detail::code_map<zero_point::offset, TestType>{scale, zero, 15}.steps(w);
        if (steps == w / scale && of_real == w / scale + zero && of_offset == (w - zero) / scale) continue;
        CAPTURE(w, scale, zero, steps, of_real, of_offset);
        CHECK(steps == w / scale);
        CHECK(of_real == w / scale + zero);
        CHECK(of_offset == (w - zero) / scale);
    }
}

TEMPLATE_TEST_CASE("code_map: no weight overflows on its way to the nearest code, however far outside of the grid it is",
                   "[quantize][code_map][edge]", float, double) {
    using limits = std::numeric_limits<TestType>;
    const TestType largest = limits::max(), smallest = limits::denorm_min();
    std::vector<TestType> numbers = {0};
    for (const TestType size : {smallest, limits::min(), TestType(1e-30), TestType(1), TestType(1.9), TestType(2), TestType(1e30),
                                largest / 4096, largest / 256, largest / 16, largest / 4, largest / 2, largest / 100 * 99, largest}) {
        numbers.push_back(size);
        numbers.push_back(-size);
    }
    for (const zero_point kind : {zero_point::none, zero_point::middle, zero_point::integer, zero_point::real, zero_point::offset})
        for (const TestType scale : numbers)
            for (const TestType zero : numbers) {
                magr::weight_grids<TestType> grid;
                grid.bits = 4;
                grid.zero_point = kind;
                const TestType stored = kind == zero_point::none      ? TestType(8)
                                        : kind == zero_point::middle  ? TestType(7)
                                        : kind == zero_point::integer ? TestType(3)
                                                                      : zero;
                const long double step = scale, origin = stored;
                const auto weight = [&](int code) { return kind == zero_point::offset ? step * code + origin : step * (code - origin); };
                if (!(scale > 0) || std::abs(weight(0)) > largest || std::abs(weight(15)) > largest) continue;  // not a valid grid
                magr::detail::with_code_map(grid, [&](const auto& map_of) {
                    for (const TestType w : numbers) {
                        std::feclearexcept(FE_ALL_EXCEPT);
                        const auto map = map_of(scale, stored);
                        const TestType steps = map.steps(w);
                        const TestType code = map.code(magr::detail::steps_on_grid(map, w, 0, 0));
                        const int raised = std::fetestexcept(FE_INVALID | FE_DIVBYZERO | FE_OVERFLOW);
                        const long double exact = kind == zero_point::offset ? (w - origin) / step : w / step + origin;
                        const long double rounding = 4 * limits::epsilon() * std::abs(origin / (kind == zero_point::offset ? step : 1));
                        const bool is_outside = exact < -1 - rounding || exact > 16 + rounding;
                        if (raised == 0 && std::abs(code - std::clamp(exact, 0.0L, 15.0L)) <= 0.501L + rounding &&
                            (!is_outside || !(std::abs(steps - magr::detail::limited_steps(map, steps)) <= TestType(0.5))))
                            continue;
                        CAPTURE(static_cast<int>(kind), scale, stored, w, steps, code, exact, raised);
                        CHECK(false);
                    }
                });
            }
}

TEMPLATE_TEST_CASE("level_map: no weight overflows on its way to the nearest level", "[quantize][code_map][edge]", float, double) {
    using limits = std::numeric_limits<TestType>;
    magr::weight_grids<TestType> grid;
    grid.bits = 2;
    grid.levels = {TestType(-1e6), 0, limits::denorm_min(), 1};
    magr::detail::with_code_map(grid, [&](const auto& map_of) {
        for (const TestType scale : {limits::denorm_min(), limits::min(), TestType(1), limits::max() / TestType(2e6)})
            for (const TestType w : {limits::max(), TestType(1), limits::min(), TestType(0), TestType(-1), -limits::max()}) {
                CAPTURE(scale, w);
                std::feclearexcept(FE_ALL_EXCEPT);
                const auto map = map_of(scale, TestType(0));
                const TestType level = grid.levels[static_cast<std::size_t>(magr::detail::steps_on_grid(map, w, 0, 0))];
                CHECK(std::fetestexcept(FE_INVALID | FE_DIVBYZERO | FE_OVERFLOW) == 0);
                const long double exact = static_cast<long double>(w) / scale;
                long double nearest = HUGE_VALL;
                for (const TestType l : grid.levels) nearest = std::min(nearest, std::abs(l - exact));
                CHECK(std::abs(level - exact) <= nearest * (1 + 4 * limits::epsilon()));
            }
    });
}

TEST_CASE("level_map: weights go to the nearest level, however uneven", "[quantize][code_map][property]") {
    std::mt19937 random(3);
    std::normal_distribution<double> normal(0, 3);
    for (const std::vector<double>& levels :
         {std::vector<double>{-1, 1}, std::vector<double>{-1, -0.1, 0, 0.05, 0.3, 2}, std::vector<double>{0.5, 0.75, 4}}) {
        magr::detail::with_code_map(grids(zero_point::none, levels), [&](const auto& map_of) {
            const auto map = map_of(1.5, 0.0);
            for (int trial = 0; trial < 500; ++trial) {
                const double w = normal(random);
                const double value = map.weight(magr::detail::steps_on_grid(map, w, 0, 0));
                double nearest = HUGE_VAL;
                for (const double level : levels) nearest = std::min(nearest, std::abs(1.5 * level - w));
                CHECK(std::abs(value - w) == Approx(nearest).margin(1e-12));
            }
            for (const double w : {1e300, -1e300}) {
                const double value = map.weight(magr::detail::steps_on_grid(map, w, 0, 0));
                CHECK(value == 1.5 * (w > 0 ? levels.back() : levels.front()));
            }
        });
    }
}

// The table that dINT4 (arXiv 2311.05161) implies for step 1: fourteen integers and two halves.
TEST_CASE("level_map: integers with two halves", "[quantize][code_map][oracle]") {
    std::vector<double> levels;
    for (int k = -7; k <= 6; ++k) levels.push_back(k);
    levels.insert(levels.begin() + 7, -0.5);
    levels.insert(levels.begin() + 9, 0.5);
    magr::detail::with_code_map(grids(zero_point::none, levels), [&](const auto& map_of) {
        const auto map = map_of(1.0, 0.0);
        const auto value = [&](double w) { return map.weight(magr::detail::steps_on_grid(map, w, 0, 0)); };
        for (const auto& [w, expected] : {std::pair{0.2, 0.0},
                                          {0.3, 0.5},
                                          {0.7, 0.5},
                                          {0.76, 1.0},
                                          {-0.26, -0.5},
                                          {-0.6, -0.5},
                                          {-0.8, -1.0},
                                          {6.4, 6.0},
                                          {9.0, 6.0},
                                          {-9.0, -7.0}})
            CHECK(value(w) == expected);
    });
}
