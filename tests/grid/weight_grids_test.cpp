// SPDX-License-Identifier: MIT
#include <magr/grid/weight_grids.hpp>

#include <algorithm>
#include <cfenv>
#include <cmath>
#include <limits>
#include <string>

#include <magr/matrix/matrix.hpp>

#include "support/catch.hpp"

using magr::index_t;
using magr::zero_point;

namespace {

/// One row of four weights in groups of two, all on the codes 0..3 with scale 1.
magr::weight_grids<float> good_grids(zero_point zero = zero_point::integer) {
    magr::weight_grids<float> grids;
    grids.bits = 2;
    grids.zero_point = zero;
    grids.group_size = 2;
    grids.scales = magr::matrix<float>(1, 2);
    grids.zeros = magr::matrix<float>(1, 2);
    grids.scales(0, 0) = grids.scales(0, 1) = 1;
    grids.group_of_column = {0, 0, 1, 1};
    return grids;
}

/// The message with which these grids are refused.
std::string refused(const magr::weight_grids<float>& grids) {
    try {
        magr::require_grids("quantize_optq", grids, 1, 4);
    } catch (const magr::value_error& error) {
        return error.what();
    }
    return "accepted";
}

}  // namespace

TEST_CASE("require_grids: groups without columns are refused", "[quantize][grid][edge]") {
    auto grids = good_grids();
    CHECK(refused(grids) == "accepted");
    for (const index_t size : {index_t{0}, index_t{-1}, std::numeric_limits<index_t>::min()}) {
        grids.group_size = size;
        CHECK(refused(grids) == "quantize_optq: grids: group_size must be at least 1, it is " + std::to_string(size));
    }
    grids.group_size = std::numeric_limits<index_t>::max();
    CHECK(refused(grids) == "accepted");
}

TEST_CASE("require_grids: a zero point that is not one of the middle codes is refused if these are promised", "[quantize][grid][edge]") {
    auto grids = good_grids(zero_point::middle);
    for (int zero = 0; zero <= magr::largest_code(grids.bits); ++zero) {
        grids.zeros(0, 0) = static_cast<float>(1 << (grids.bits - 1));
        grids.zeros(0, 1) = static_cast<float>(zero);
        const int upper = 1 << (grids.bits - 1);
        CHECK(refused(grids) == (zero == upper || zero == upper - 1
                                     ? "accepted"
                                     : "quantize_optq: grids: zero point (row 0, group 1) must be " + std::to_string(upper - 1) + " or " +
                                           std::to_string(upper) + ", it is " + std::to_string(zero)));
    }
}

TEST_CASE("require_grids: grids whose weights overflow are refused", "[quantize][grid][edge]") {
    const float largest = std::numeric_limits<float>::max();
    const auto with = [](zero_point kind, float scale, float zero) {
        auto grids = good_grids(kind);
        grids.scales(0, 1) = scale;
        grids.zeros(0, 1) = zero;
        return grids;
    };
    std::feclearexcept(FE_ALL_EXCEPT);
    const std::string infinite = "quantize_optq: grids: weights (row 0, group 1) must be finite, one is ";
    // the codes 0..3 represent scale * (code - zero), or scale * code + offset
    CHECK(refused(with(zero_point::integer, largest / 3, 0)) == "accepted");
    CHECK(refused(with(zero_point::integer, largest / 2, 0)) == infinite + "inf");
    CHECK(refused(with(zero_point::integer, largest / 2, 3)) == infinite + "-inf");
    CHECK(refused(with(zero_point::integer, largest / 2, 2)) == "accepted");
    CHECK(refused(with(zero_point::real, 1e20f, 1e18f)) == "accepted");
    CHECK(refused(with(zero_point::real, 1e20f, 1e20f)) == infinite + "-inf");
    CHECK(refused(with(zero_point::offset, largest / 6, largest / 2)) == "accepted");
    CHECK(refused(with(zero_point::offset, largest / 4, largest / 2)) == infinite + "inf");
    auto levels = with(zero_point::none, largest / 4, 0);
    levels.levels = {-1, 0, 4};
    CHECK(refused(levels) == "accepted");
    levels.levels = {-8, 0, 4};
    CHECK(refused(levels) == infinite + "-inf");
    CHECK(refused(with(zero_point::offset, largest / 2, -largest)) == infinite + "inf");  // scale * code alone overflows
    CHECK(std::fetestexcept(FE_INVALID | FE_OVERFLOW) == 0);                              // a host may trap these
}

TEST_CASE("require_grids: weights overflow where they do in wider numbers, for scales and zero points of all sizes",
          "[quantize][grid][oracle]") {
    const long double largest = std::numeric_limits<float>::max();
    for (const zero_point kind : {zero_point::real, zero_point::offset})
        for (int s = -126; s < 128; s += 2)
            for (int z = -126; z < 128; z += 2) {
                auto grids = good_grids(kind);
                const float scale = grids.scales(0, 1) = std::ldexp(1.5f, s);
                const float zero = grids.zeros(0, 1) = std::ldexp(-1.5f, z);
                long double reached = 0;
                for (const float code : {0.0f, 3.0f}) {  // in float as far as the library computes in it before it multiplies
                    const long double product = static_cast<long double>(scale) * (kind == zero_point::real ? code - zero : code);
                    reached = std::max({reached, std::abs(product), kind == zero_point::offset ? std::abs(product + zero) : 0.0L});
                }
                CAPTURE(to_string(kind), s, z);
                REQUIRE((refused(grids) == "accepted") == (reached <= largest));
            }
}

TEST_CASE("require_grids: values that are no enumerators are refused", "[quantize][grid][edge]") {
    auto grids = good_grids(static_cast<zero_point>(5));
    CHECK(refused(grids) == "quantize_optq: grids: zero_point must be none, middle, integer, real or offset, it is 5");
    grids = good_grids();
    grids.storage = static_cast<magr::storage_type>(-1);
    CHECK(refused(grids) == "quantize_optq: grids: storage must be native, f32, f16 or bf16, it is -1");
}

TEST_CASE("require_grids: levels are bounded as those of options are", "[quantize][grid][edge]") {
    auto grids = good_grids(zero_point::none);
    grids.levels = {-1e6F, 0, 1};
    CHECK(refused(grids) == "accepted");
    grids.levels = {-2e6F, 0, 1};
    CHECK(refused(grids) == "quantize_optq: grids: levels must be 2 to 2^bits increasing numbers of at most 1e6");
}
