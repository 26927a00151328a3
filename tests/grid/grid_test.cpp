// SPDX-License-Identifier: MIT
#include <magr/grid/code_map.hpp>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "support/catch.hpp"

using magr::grid_options;
using magr::zero_point;

namespace {

template <class Scalar>
Scalar steps_on_grid(Scalar weight, Scalar scale, Scalar zero, Scalar largest) {
    return magr::detail::steps_on_grid(magr::detail::code_map<zero_point::integer, Scalar>{scale, zero, largest}, weight, 0, 0);
}

}  // namespace

TEST_CASE("steps_on_grid: half-way cases go to the even step", "[quantize][grid][edge]") {
    for (int k = -4; k < 4; ++k) {
        const int even = k % 2 == 0 ? k : k + 1;
        CAPTURE(k);
        CHECK(steps_on_grid(0.25 * (k + 0.5), 0.25, 8.0, 15.0) == even);
        CHECK(steps_on_grid(0.25F * (static_cast<float>(k) + 0.5F), 0.25F, 8.0F, 15.0F) == static_cast<float>(even));
    }
}

TEST_CASE("steps_on_grid: limiting before rounding equals rounding before limiting", "[quantize][grid][property]") {
    for (int i = -3000; i <= 3000; ++i) {
        const double weight = i / 256.0;
        const double scale = 0.75;
        const double expected = std::fmin(std::fmax(std::nearbyint(weight / scale) + 3, 0), 7) - 3;
        CHECK(steps_on_grid(weight, scale, 3.0, 7.0) == expected);
    }
}

TEMPLATE_TEST_CASE("steps_on_grid: weights far outside go to the ends of the grid", "[quantize][grid][edge]", float, double) {
    using scalar = TestType;
    using limits = std::numeric_limits<scalar>;
    CHECK(steps_on_grid(limits::max(), limits::min(), scalar(3), scalar(7)) == 4);
    CHECK(steps_on_grid(-limits::max(), limits::min(), scalar(3), scalar(7)) == -3);
    CHECK(steps_on_grid(limits::denorm_min(), limits::min(), scalar(3), scalar(7)) == 0);
}

TEMPLATE_TEST_CASE("steps_on_grid: a weight that is NaN goes to the low end", "[quantize][grid][edge]", float, double) {
    CHECK(steps_on_grid<TestType>(std::numeric_limits<TestType>::quiet_NaN(), 1, 3, 7) == -3);
}

TEST_CASE("grid_options: every value outside of its range is refused by name", "[quantize][grid][edge]") {
    for (const int bits : {-1, 0, 1, 9, 32}) CHECK_THROWS_AS(validate(grid_options{.bits = bits}), magr::option_error);
    for (int bits = 2; bits <= 8; ++bits) CHECK_NOTHROW(validate(grid_options{.bits = bits}));
    for (const magr::index_t size : {0, -1, -128}) CHECK_THROWS_AS(validate(grid_options{.group_size = size}), magr::option_error);
    CHECK_NOTHROW(validate(grid_options{.group_size = 1}));
    for (const double beta : {0.0, -0.5, 1.5, std::nan(""), HUGE_VAL})
        CHECK_THROWS_AS(validate(grid_options{.range_factor = beta}), magr::option_error);
    CHECK_NOTHROW(validate(grid_options{.range_factor = 0.8}));
    CHECK_THROWS_AS(validate(grid_options{.range = magr::range_search::mse, .range_factor = 0.8}), magr::option_error);
    CHECK_THROWS_WITH(validate(grid_options{.bits = 9}), "grid_options: bits must be in 2..8, it is 9");
}

TEST_CASE("grid_options: levels out of order, too many, or with a zero point are refused", "[quantize][grid][edge]") {
    const auto with = [](std::vector<double> levels, zero_point zero = zero_point::none) {
        return grid_options{.bits = 2, .zero_point = zero, .levels = std::move(levels)};
    };
    CHECK_NOTHROW(validate(with({-1, 0, 0.5, 1})));
    CHECK_NOTHROW(validate(with({-1, 1})));
    for (const std::vector<double>& levels :
         {std::vector<double>{1}, {-2, -1, 0, 1, 2}, {0, 0}, {1, 0}, {0, std::nan("")}, {0, HUGE_VAL}, {-1e-9, 1e-9}})
        CHECK_THROWS_AS(validate(with(levels)), magr::option_error);
    for (const std::vector<double>& levels : {std::vector<double>{1, 1 + 1e-12}, {-1, -1e-50, 0, 1}})  // neighbours become equal in float
        CHECK_THROWS_AS(validate(with(levels)), magr::option_error);
    CHECK_THROWS_AS(validate(with({-1, 1}, zero_point::integer)), magr::option_error);
}

TEST_CASE("problems: all of them at once", "[quantize][grid][edge]") {
    CHECK(problems(grid_options{}).empty());
    const auto found = problems(grid_options{.bits = 9, .group_size = 0, .error_exponent = 0.5, .range_factor = 2});
    REQUIRE(found.size() == 4);
    CHECK(found[0] == "grid_options: bits must be in 2..8, it is 9");
    CHECK(found[1] == "grid_options: group_size must be at least 1, it is 0");
    CHECK(found[2] == "grid_options: error_exponent must be in [1, 8], it is 0.5");
    CHECK(found[3] == "grid_options: range_factor must be in (0, 1], it is 2");
    CHECK_THROWS_WITH(validate(grid_options{.bits = 9, .group_size = 0}), found[0] + "; " + found[1]);
}

TEST_CASE("grid_options: groups of a row, the last one shorter", "[quantize][grid]") {
    CHECK(magr::groups_per_row({}, 10) == 1);
    CHECK(magr::columns_per_group({}, 10) == 10);
    CHECK(magr::groups_per_row({.group_size = 4}, 10) == 3);
    CHECK(magr::groups_per_row({.group_size = 5}, 10) == 2);
    CHECK(magr::groups_per_row({.group_size = 64}, 10) == 1);
    CHECK(magr::columns_per_group({.group_size = 64}, 10) == 10);
}
