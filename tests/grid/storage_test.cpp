// SPDX-License-Identifier: MIT
#include <magr/grid/storage.hpp>

#include <Eigen/Core>
#include <cmath>
#include <limits>
#include <random>

#include "support/catch.hpp"

using magr::round_to_storage;
using magr::storage_type;

namespace {

constexpr storage_type all_types[] = {storage_type::native, storage_type::f32, storage_type::f16, storage_type::bf16};

/// Bits of the significand, and smallest and largest exponents of the normal numbers, from the definitions of the formats.
struct format {
    int digits;
    int lowest;
    int highest;
};

format format_of(storage_type storage) {
    switch (storage) {
        case storage_type::f16: return {11, -14, 15};
        case storage_type::bf16: return {8, -126, 127};
        case storage_type::f32: return {24, -126, 127};
        case storage_type::native: break;
    }
    return {53, -1022, 1023};
}

/// Spacing of the format's numbers around x.
double spacing(double x, format f) { return std::ldexp(1.0, std::max(std::ilogb(x), f.lowest) - f.digits + 1); }

}  // namespace

TEST_CASE("round_to_storage: the nearest number of the format, and itself if it is one", "[quantize][storage][property]") {
    std::mt19937 random(1);
    std::uniform_real_distribution<double> mantissa(-2, 2);
    for (const storage_type storage : all_types) {
        const format f = format_of(storage);
        for (int exponent = -30; exponent <= 14; ++exponent)
            for (int trial = 0; trial < 50; ++trial) {
                const double x = std::ldexp(mantissa(random), exponent);
                const double rounded = round_to_storage<double>(x, storage);
                CAPTURE(static_cast<int>(storage), x);
                // f16 and bf16 are rounded to float first, which can add half of its own spacing
                CHECK(std::abs(rounded - x) <= 0.5 * spacing(x, f) * (1 + 1e-4));
                CHECK(std::remainder(rounded, spacing(rounded == 0 ? x : rounded, f)) == 0);
                CHECK(round_to_storage<double>(rounded, storage) == rounded);
            }
    }
}

TEST_CASE("round_to_storage: limits to the largest finite number", "[quantize][storage][edge]") {
    for (const storage_type storage : all_types)
        for (const double sign : {-1.0, 1.0}) {
            const format f = format_of(storage);
            const double largest = (2 - std::ldexp(1.0, 1 - f.digits)) * std::ldexp(1.0, f.highest);
            CHECK(magr::largest_stored<double>(storage) == largest);
            CHECK(round_to_storage<double>(sign * largest, storage) == sign * largest);
            if (storage != storage_type::native) CHECK(round_to_storage<double>(sign * 2 * largest, storage) == sign * largest);
            CHECK(round_to_storage<double>(sign * HUGE_VAL, storage) == sign * largest);
        }
    CHECK(round_to_storage<float>(1e300, storage_type::native) == std::numeric_limits<float>::max());
}

TEST_CASE("store_scale: is never zero", "[quantize][storage][edge]") {
    for (const storage_type storage : all_types) {
        const double smallest = magr::smallest_stored_scale<double>(storage);
        CHECK(smallest > 0);
        CHECK(magr::store_scale<double>(smallest, storage, 15) == smallest);
        CHECK(magr::store_scale<double>(smallest / 1e3, storage, 15) == smallest);
        CHECK(magr::store_scale<double>(0, storage, 15) == smallest);
        CHECK(magr::store_scale<double>(3 * smallest, storage, 15) == 3 * smallest);
    }
    CHECK(magr::smallest_stored_scale<double>(storage_type::f16) == std::ldexp(1.0, -24));  // the smallest subnormal number
    CHECK(magr::store_scale<float>(1e-5, storage_type::f16, 15) == static_cast<float>(Eigen::half(1e-5F)));
}

TEST_CASE("store_scale: a scale that is too large for the largest weight to be finite is lowered", "[quantize][storage][edge]") {
    for (const storage_type storage : all_types)
        for (const double multiple : {0.5, 3.0, 255.0, 1e6}) {
            const float scale = magr::store_scale<float>(1e300, storage, multiple);
            CHECK(std::isfinite(scale * static_cast<float>(multiple)));
            CHECK(static_cast<double>(scale) * multiple > (storage == storage_type::f16 ? 3e4 : 3.3e38 * std::min(1.0, multiple)));
            CHECK(scale == magr::round_to_storage<float>(static_cast<double>(scale), storage));
        }
}
