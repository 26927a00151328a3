#include <magr/quantize/fit_grid.hpp>

#include <cmath>
#include <limits>
#include <random>
#include <span>
#include <vector>

#include "quantize/oracle.hpp"
#include "support/catch.hpp"

using magr::affine_grid;
using magr::fit_grid;
using magr::grid_options;
using magr::range_search;
using magr::range_candidates;
using magr::zero_point;

namespace {

template <class Scalar>
affine_grid<Scalar> fit(const std::vector<Scalar>& weights, const grid_options& options) {
    return fit_grid(std::span<const Scalar>(weights), options);
}

oracle::row to_row(const std::vector<double>& weights) { return {weights.begin(), weights.end()}; }

oracle::grid_rules rules_of(const grid_options& options) {
    return {.bits = options.bits,
            .symmetric = options.zero_point == zero_point::none,
            .mse = options.range == range_search::mse,
            .beta = options.beta};
}

}  // namespace

// The numbers were computed once from the published rules of OPTQ's grid search (power 2.4, 80 shrinks of 1/100) in double, and are
// derived again here in long double by the oracle.
TEST_CASE("fit_grid: worked rows", "[quantize][fit_grid][oracle]") {
    struct worked_row {
        std::vector<double> weights;
        grid_options options;
        double scale;
        double zero;
        double power_error;  // 0: not given
    };
    const std::vector<double> a{-0.2, 0.6, 1.4, -0.75};
    const std::vector<double> b{0.9, -1.1, 0.35, 0.05};
    const worked_row rows[] = {
        {a, {.bits = 3}, 0.3071428571, 2, 0},
        {a, {.bits = 3, .range = range_search::mse, .candidates = range_candidates::shrink}, 0.29485714, 2, 0.01782713},
        {a, {.bits = 3, .zero_point = zero_point::none, .range = range_search::mse, .candidates = range_candidates::shrink}, 0.396, 4, 0.06373138},
        {b, {.bits = 2, .range = range_search::mse, .candidates = range_candidates::shrink}, 0.59333333, 2, 0.09583409},
    };
    for (const worked_row& r : rows) {
        const affine_grid<double> grid = fit(r.weights, r.options);
        CHECK(grid.scale == Approx(r.scale).epsilon(1e-7));
        CHECK(grid.zero == r.zero);
        const oracle::grid expected = oracle::fit(to_row(r.weights), rules_of(r.options));
        CHECK(grid.scale == Approx(static_cast<double>(expected.scale)).epsilon(1e-14));
        CHECK(grid.zero == expected.zero);
        if (r.power_error > 0)
            CHECK(static_cast<double>(oracle::power_error(to_row(r.weights), expected, r.options.bits)) ==
                  Approx(r.power_error).epsilon(1e-6));
    }
}

TEST_CASE("fit_grid: follows the published rules for every option", "[quantize][fit_grid][oracle]") {
    std::mt19937 random(3);
    std::student_t_distribution<double> heavy_tailed(4);
    for (const int bits : {2, 3, 4, 5, 8})
        for (const auto zero : {zero_point::integer, zero_point::none})
            for (const auto range : {range_search::min_max, range_search::mse})
                for (const double beta : {1.0, 0.8}) {
                    if (range == range_search::mse && beta != 1) continue;
                    for (const std::size_t n : {1u, 2u, 7u, 64u, 257u}) {
                        std::vector<double> weights(n);
                        for (double& w : weights) w = heavy_tailed(random);
                        const grid_options options{.bits = bits, .zero_point = zero, .range = range, .candidates = range_candidates::shrink, .beta = beta};
                        const affine_grid<double> grid = fit(weights, options);
                        const oracle::grid expected = oracle::fit(to_row(weights), rules_of(options));
                        CAPTURE(bits, n, beta, zero == zero_point::none, range == range_search::mse);
                        CHECK(grid.scale == Approx(static_cast<double>(expected.scale)).epsilon(1e-12));
                        CHECK(grid.zero == expected.zero);
                    }
                }
}

TEST_CASE("fit_grid: the mse search is never worse than min-max and clips outliers", "[quantize][fit_grid][property]") {
    std::mt19937 random(4);
    std::normal_distribution<double> normal;
    for (int trial = 0; trial < 20; ++trial) {
        std::vector<double> weights(100);
        for (double& w : weights) w = normal(random);
        weights[17] = 12;
        const auto wide = fit(weights, {.bits = 3});
        const auto narrow = fit(weights, {.bits = 3, .range = range_search::mse, .candidates = range_candidates::shrink});
        CHECK(narrow.scale < wide.scale);
        CHECK(narrow.zero == wide.zero);
        const auto error = [&](affine_grid<double> g) {
            return oracle::power_error(to_row(weights), {g.scale, static_cast<int>(g.zero)}, 3);
        };
        CHECK(error(narrow) < error(wide));
    }
}

TEMPLATE_TEST_CASE("fit_grid: zero is on every grid and no weight inside the range is further away than half a step",
                   "[quantize][fit_grid][property]", float, double) {
    using scalar = TestType;
    const std::vector<std::vector<scalar>> rows{
        {0, 0, 0},          {scalar(0.7), scalar(0.7)}, {scalar(-0.7), scalar(-0.7)}, {1, 2, 3}, {-1, -2, -3}, {scalar(-0.0), 0}, {5}, {-5},
        {scalar(-1e-3), 1}, {scalar(1e-3), -1}};
    for (const int bits : {2, 4, 8})
        for (const auto zero : {zero_point::integer, zero_point::none})
            for (const auto& row : rows) {
                const auto grid = fit(row, {.bits = bits, .zero_point = zero});
                const auto largest = static_cast<scalar>(magr::largest_code(bits));
                CAPTURE(bits, zero == zero_point::none, row);
                CHECK(grid.scale >= std::numeric_limits<scalar>::min());
                CHECK(std::isfinite(grid.scale));
                CHECK(grid.zero == std::nearbyint(grid.zero));
                CHECK((grid.zero >= 0 && grid.zero <= largest));
                for (const scalar w : row) {
                    const magr::detail::code_map<zero_point::integer, scalar> map{grid.scale, grid.zero, largest};
                    const scalar value = map.weight(magr::detail::steps_on_grid(map, w, 0, 0));
                    CHECK(std::abs(value - w) <= scalar(0.5001) * grid.scale);
                }
            }
}

TEST_CASE("fit_grid: a row of one sign keeps its zero point among the codes when beta shrinks the scale", "[quantize][fit_grid][edge]") {
    // the published rule gives round(7 / 0.8) = 9 for 3 bits: a code that does not exist
    const auto grid = fit<double>({-1, -0.5, -0.25}, {.bits = 3, .beta = 0.8});
    CHECK(grid.zero == 7);
    CHECK(grid.scale == Approx(0.8 / 7));
}

TEMPLATE_TEST_CASE("fit_grid: weights at the ends of the number range", "[quantize][fit_grid][edge]", float, double) {
    using scalar = TestType;
    using limits = std::numeric_limits<scalar>;
    for (const auto range : {range_search::min_max, range_search::mse}) {
        const auto tiny = fit<scalar>({limits::denorm_min(), -limits::denorm_min()}, {.bits = 4, .range = range});
        CHECK(tiny.scale == limits::min());
        const auto huge = fit<scalar>({limits::max(), -limits::max()}, {.bits = 4, .range = range});
        CHECK(std::isfinite(huge.scale));
        CHECK(huge.scale > limits::max() / 16);
    }
}

TEMPLATE_TEST_CASE("fit_grid: weights times a power of two give the scale times it", "[quantize][fit_grid][property]", float, double) {
    using scalar = TestType;
    std::mt19937 random(5);
    std::normal_distribution<scalar> normal;
    std::vector<scalar> weights(50);
    for (scalar& w : weights) w = normal(random);
    for (const auto range : {range_search::min_max, range_search::mse})
        for (const int exponent : {-100, 100}) {
            std::vector<scalar> scaled = weights;
            for (scalar& w : scaled) w = std::ldexp(w, exponent);
            const auto grid = fit(weights, {.bits = 3, .range = range});
            const auto other = fit(scaled, {.bits = 3, .range = range});
            CHECK(other.scale == std::ldexp(grid.scale, exponent));
            CHECK(other.zero == grid.zero);
        }
}
