#include <magr/quantize/code_map.hpp>

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include <magr/quantize/quantized_matrix.hpp>

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

/// What each kind of zero point says a code stands for.
double weight_of(zero_point kind, int code, double scale, double zero) {
    switch (kind) {
        case zero_point::none: return scale * (code - 8);
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
         {std::pair{zero_point::none, 8.0}, std::pair{zero_point::integer, 5.0}, std::pair{zero_point::real, 4.3},
          std::pair{zero_point::real, -3.7}, std::pair{zero_point::offset, -1.9}, std::pair{zero_point::offset, 0.7}}) {
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
