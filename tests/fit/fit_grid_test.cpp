// SPDX-License-Identifier: MIT
#include <magr/fit/fit_grid.hpp>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <span>
#include <vector>

#include <magr/grid/quantized_matrix.hpp>
#include <magr/grid/storage.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/quantize/rtn.hpp>

#include "quantize/layers.hpp"
#include "quantize/oracle.hpp"
#include "support/catch.hpp"

using magr::affine_grid;
using magr::fit_grid;
using magr::grid_options;
using magr::index_t;
using magr::range_candidates;
using magr::range_search;
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
            .beta = options.range_factor};
}

}  // namespace

// The numbers were computed once from the published rules of OPTQ's grid search (power 2.4, 80 shrinks of 1/100), in double. The oracle
// derives them again here in long double.
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
        {a,
         {.bits = 3, .zero_point = zero_point::none, .range = range_search::mse, .candidates = range_candidates::shrink},
         0.396,
         4,
         0.06373138},
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
                        const grid_options options{
                            .bits = bits, .zero_point = zero, .range = range, .candidates = range_candidates::shrink, .range_factor = beta};
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
    const auto grid = fit<double>({-1, -0.5, -0.25}, {.bits = 3, .range_factor = 0.8});
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

namespace {

/// The weight of code c, in long double.
oracle::real value_of(const grid_options& options, affine_grid<double> g, int code) {
    if (!options.levels.empty())
        return static_cast<oracle::real>(g.scale) * static_cast<oracle::real>(options.levels[static_cast<std::size_t>(code)]);
    if (options.zero_point == zero_point::offset) return static_cast<oracle::real>(g.scale) * code + static_cast<oracle::real>(g.zero);
    return static_cast<oracle::real>(g.scale) * (code - static_cast<oracle::real>(g.zero));
}

/// Errors of all weights on the grid, each weight rounded to the nearest of all codes.
oracle::row errors_on(const grid_options& options, affine_grid<double> g, const std::vector<double>& weights) {
    const int codes = options.levels.empty() ? 1 << options.bits : static_cast<int>(options.levels.size());
    oracle::row errors;
    for (const double w : weights) {
        oracle::real best = HUGE_VALL;
        for (int c = 0; c < codes; ++c) {
            const oracle::real error = value_of(options, g, c) - static_cast<oracle::real>(w);
            if (std::abs(error) < std::abs(best)) best = error;
        }
        errors.push_back(best);
    }
    return errors;
}

std::vector<double> heavy_tailed_row(std::size_t n, unsigned seed, double shift = 0) {
    std::mt19937 random(seed);
    std::student_t_distribution<double> heavy_tailed(4);
    std::vector<double> weights(n);
    for (double& w : weights) w = shift + heavy_tailed(random);
    return weights;
}

constexpr zero_point all_zero_points[] = {zero_point::none, zero_point::middle, zero_point::integer, zero_point::real, zero_point::offset};
constexpr magr::storage_type all_storage[] = {magr::storage_type::native, magr::storage_type::f32, magr::storage_type::f16,
                                              magr::storage_type::bf16};

}  // namespace

TEST_CASE("fit_grid: scale, real zero point and offset are numbers that the storage type holds", "[quantize][fit_grid][property]") {
    for (const zero_point zero : all_zero_points)
        for (const auto storage : all_storage)
            for (const auto range : {range_search::min_max, range_search::mse})
                for (unsigned seed = 0; seed < 10; ++seed) {
                    const grid_options options{.bits = 3, .zero_point = zero, .storage = storage, .range = range};
                    const auto grid = fit(heavy_tailed_row(40, seed, 0.5), options);
                    CHECK(grid.scale == magr::round_to_storage<double>(grid.scale, storage));
                    if (zero == zero_point::real || zero == zero_point::offset)
                        CHECK(grid.zero == magr::round_to_storage<double>(grid.zero, storage));
                    else
                        CHECK((grid.zero == std::nearbyint(grid.zero) && grid.zero >= 0 && grid.zero <= 7));
                }
}

TEST_CASE("fit_grid: real zero points and offsets reach exactly from the smallest to the largest weight", "[quantize][fit_grid][oracle]") {
    const std::vector<double> weights{0.25, 1.5, 0.5, 2.125};  // zero is outside of the range
    for (const int bits : {2, 4}) {
        const int largest = magr::largest_code(bits);
        const auto real = fit(weights, {.bits = bits, .zero_point = zero_point::real});
        CHECK(real.scale == Approx(1.875 / largest));
        CHECK(real.scale * (0 - real.zero) == Approx(0.25));
        CHECK(real.scale * (largest - real.zero) == Approx(2.125));
        const auto offset = fit(weights, {.bits = bits, .zero_point = zero_point::offset});
        CHECK(offset.scale == Approx(1.875 / largest));
        CHECK(offset.zero == 0.25);
    }
    // a constant row is exact
    for (const double w : {0.7, -0.7, 0.0})
        for (const zero_point zero : all_zero_points) {
            const grid_options options{.bits = 3, .zero_point = zero};
            const auto grid = fit<double>({w, w, w}, options);
            if (zero != zero_point::none) CHECK(std::abs(static_cast<double>(errors_on(options, grid, {w})[0])) < 1e-14);
        }
}

TEST_CASE("fit_grid: of two middle codes the zero point leaves one code more to the larger weights", "[quantize][fit_grid][oracle]") {
    for (const int bits : {2, 3, 4, 5, 8}) {
        const int upper = 1 << (bits - 1);
        CAPTURE(bits);
        for (const double factor : {1.0, 0.75})
            for (const auto anchor : {magr::range_point::low, magr::range_point::zero, magr::range_point::centre}) {
                const grid_options options{
                    .bits = bits, .zero_point = zero_point::middle, .range_factor = factor, .shrink_towards = anchor};
                const auto negative = fit<double>({-2, 0.5, 0.9}, options), positive = fit<double>({2, 0.25, -0.9}, options);
                CHECK(negative.zero == upper);
                CHECK(positive.zero == upper - 1);
                CHECK(negative.scale == Approx(factor * 2 / upper));  // the largest weight is that of the first code, or of the last
                CHECK(positive.scale == negative.scale);
            }
        // the other side may need the larger steps
        const auto both = fit<double>({-2, 1.95}, {.bits = bits, .zero_point = zero_point::middle});
        CHECK(both.zero == upper);
        CHECK(both.scale == Approx(std::max(2.0 / upper, 1.95 / (upper - 1))));
        const auto none = fit<double>({0, 0}, {.bits = bits, .zero_point = zero_point::middle});
        CHECK((none.scale > 0 && none.zero == upper));
    }
}

TEST_CASE("fit_grid: the search tries both middle codes", "[quantize][fit_grid][oracle]") {
    // negated weights have the negated grid, so each row and its negative cover both zero points
    for (const int bits : {2, 3, 4})
        for (unsigned seed = 0; seed < 12; ++seed)
            for (const double sign : {1.0, -1.0}) {
                auto weights = heavy_tailed_row(32, seed, 0.3);
                for (double& w : weights) w *= sign;
                double largest = 0;
                for (const double w : weights) largest = std::max(largest, std::abs(w));
                const auto error = [&](const grid_options& options, affine_grid<double> g) {
                    oracle::real sum = 0;
                    for (const oracle::real e : errors_on(options, g, weights)) sum += e * e;
                    return static_cast<double>(sum);
                };
                const grid_options middle{.bits = bits, .zero_point = zero_point::middle, .range = range_search::mse, .error_exponent = 2};
                grid_options none = middle;
                none.zero_point = zero_point::none;
                double least = HUGE_VAL;  // of many scales with both zero points
                for (const int zero : {(1 << (bits - 1)) - 1, 1 << (bits - 1)})
                    for (int k = 1; k <= 600; ++k)
                        least = std::min(least, error(middle, {largest * k / 300 / (1 << (bits - 1)), static_cast<double>(zero)}));
                const auto found = fit(weights, middle);
                CAPTURE(bits, seed, sign);
                CHECK((found.zero == (1 << (bits - 1)) || found.zero == (1 << (bits - 1)) - 1));
                CHECK(error(middle, found) <= 1.01 * least);
                CHECK(error(middle, found) <= 1.01 * error(none, fit(weights, none)));
            }
}

TEST_CASE("fit_grid: the search finds a grid whose ends are equally far from 0", "[quantize][fit_grid]") {
    // weights as symmetric formats have them, scale * -127..127 at 8 bits
    for (const int bits : {3, 4, 5, 6, 7, 8})
        for (unsigned seed = 0; seed < 6; ++seed)
            for (const double sign : {1.0, -1.0}) {
                const int end = (1 << (bits - 1)) - 1;
                std::vector<double> weights = heavy_tailed_row(32, seed, 0.3);
                const double largest = std::abs(
                    *std::max_element(weights.begin(), weights.end(), [](double a, double b) { return std::abs(a) < std::abs(b); }));
                for (double& w : weights) w = sign * 0.015625 * std::round(end * w / largest);
                const auto found =
                    fit(weights, {.bits = bits, .zero_point = zero_point::middle, .range = range_search::mse, .error_exponent = 2});
                CAPTURE(bits, seed, sign);
                for (const oracle::real e : errors_on({.bits = bits, .zero_point = zero_point::middle}, found, weights))
                    CHECK(std::abs(static_cast<double>(e)) < 1e-12);
            }
}

TEST_CASE("fit_grid: the search finds the grid of weights that have one bit less", "[quantize][fit_grid]") {
    for (const auto zero : {zero_point::offset, zero_point::real})
        for (const int bits : {3, 4, 5, 6, 7, 8})
            for (unsigned seed = 0; seed < 12; ++seed) {
                auto weights = heavy_tailed_row(32, seed, 0.3);
                const auto [low, high] = std::minmax_element(weights.begin(), weights.end());
                const double lowest = *low, step = (*high - *low) / (std::ldexp(1, bits - 1) - 1);
                for (double& w : weights) w = lowest + step * std::round((w - lowest) / step);
                const grid_options options{.bits = bits, .zero_point = zero, .range = range_search::mse};
                CAPTURE(to_string(zero), bits, seed);
                for (const oracle::real e : errors_on(options, fit(weights, options), weights))
                    CHECK(std::abs(static_cast<double>(e)) < 1e-9 * step);
            }
}

TEST_CASE("fit_grid: beta leaves the anchor where it is", "[quantize][fit_grid][oracle]") {
    const std::vector<double> weights{-1, 0.3, 3};  // range 4, middle 1
    const auto ends = [&](magr::range_point anchor, zero_point zero) {
        const auto grid = fit(weights, {.bits = 4, .zero_point = zero, .range_factor = 0.5, .shrink_towards = anchor});
        const double low = zero == zero_point::offset ? grid.zero : -grid.scale * grid.zero;
        CHECK(grid.scale == Approx(0.5 * 4 / 15));
        return std::pair{low, low + 15 * grid.scale};
    };
    for (const zero_point zero : {zero_point::real, zero_point::offset}) {
        const auto [low_a, high_a] = ends(magr::range_point::low, zero);
        CHECK(low_a == Approx(-1));
        CHECK(high_a == Approx(1));
        const auto [low_b, high_b] = ends(magr::range_point::zero, zero);
        CHECK(low_b == Approx(-0.5));
        CHECK(high_b == Approx(1.5));
        const auto [low_c, high_c] = ends(magr::range_point::centre, zero);
        CHECK(low_c == Approx(0).margin(1e-12));
        CHECK(high_c == Approx(2));
    }
    // an integer zero point is the code nearest to that
    CHECK(fit(weights, {.bits = 4, .range_factor = 0.5, .shrink_towards = magr::range_point::low}).zero == 8);   // 7.5, to even
    CHECK(fit(weights, {.bits = 4, .range_factor = 0.5, .shrink_towards = magr::range_point::zero}).zero == 4);  // 3.75
    CHECK(fit(weights, {.bits = 4, .range_factor = 0.5, .shrink_towards = magr::range_point::centre}).zero == 0);
}

TEST_CASE("fit_grid: a search never ends above the range it starts from, nor joint above shrink", "[quantize][fit_grid][property]") {
    double shrunk = 0, joint = 0;
    for (const zero_point zero : all_zero_points)
        for (const int bits : {2, 3, 4})
            for (const double norm : {1.0, 2.0, 2.4, 4.0})
                for (unsigned seed = 0; seed < 6; ++seed) {
                    const auto weights = heavy_tailed_row(60, seed, 0.4);
                    grid_options options{.bits = bits, .zero_point = zero};
                    const auto error = [&](affine_grid<double> g) {
                        oracle::real sum = 0;
                        for (const oracle::real e : errors_on(options, g, weights))
                            sum += std::pow(std::abs(e), static_cast<oracle::real>(norm));
                        return static_cast<double>(sum);
                    };
                    const double plain = error(fit(weights, options));
                    options.range = range_search::mse;
                    options.error_exponent = norm;
                    options.candidates = range_candidates::shrink;
                    const double shrink = error(fit(weights, options));
                    options.candidates = range_candidates::joint;
                    const double both = error(fit(weights, options));
                    CAPTURE(static_cast<int>(zero), bits, norm, seed, plain, shrink, both);
                    CHECK(shrink <= plain * (1 + 1e-12));
                    CHECK(both <= shrink * (1 + 1e-12));
                    shrunk += shrink / plain;
                    joint += both / plain;
                }
    CHECK(joint < 0.98 * shrunk);  // the search is worth its time
}

TEST_CASE("fit_grid: the joint search at 2 bits finds what trying everything finds", "[quantize][fit_grid][oracle]") {
    for (unsigned seed = 0; seed < 10; ++seed) {
        const auto weights = heavy_tailed_row(30, seed, 0.6);
        const grid_options options{.bits = 2, .range = range_search::mse, .error_exponent = 2};
        const auto error = [&](affine_grid<double> g) {
            oracle::real sum = 0;
            for (const oracle::real e : errors_on(options, g, weights)) sum += e * e;
            return static_cast<double>(sum);
        };
        const double whole = fit(weights, {.bits = 2}).scale;
        double best = HUGE_VAL;
        for (int zero = 0; zero < 4; ++zero)
            for (int k = 1; k <= 2000; ++k) best = std::min(best, error({whole * k / 2000, static_cast<double>(zero)}));
        CHECK(error(fit(weights, options)) <= 1.02 * best);
    }
}

TEST_CASE("fit_grid: the output-error search weighs columns by their importance", "[quantize][fit_grid][property]") {
    std::vector<double> weights = heavy_tailed_row(50, 3);
    weights[20] = 9;
    const grid_options options{.bits = 3, .range = range_search::output_error};
    const auto with_importance = [&](double outlier) {
        std::vector<double> importance(50, 1.0);
        importance[20] = outlier;
        return fit_grid(std::span<const double>(weights), options, importance);
    };
    const auto small = with_importance(0);
    const auto large = with_importance(1e4);
    const auto error_at = [&](affine_grid<double> g) { return std::abs(static_cast<double>(errors_on(options, g, weights)[20])); };
    CHECK(small.scale < large.scale);
    CHECK(error_at(large) < 0.1 * error_at(small));
    // multiplying all importances by a positive factor changes nothing, and empty importances give the plain sum of squares
    std::vector<double> importance(50, 1.0);
    const auto expected = fit_grid(std::span<const double>(weights), options, importance);
    for (double& v : importance) v = 1e-200;
    const auto tiny = fit_grid(std::span<const double>(weights), options, importance);
    CHECK(tiny.scale == expected.scale);
    CHECK(fit(weights, {.bits = 3, .range = range_search::mse, .error_exponent = 2}).scale == expected.scale);
    for (double& v : importance) v = 0;
    CHECK(fit_grid(std::span<const double>(weights), options, importance).scale == expected.scale);
}

TEST_CASE("fit_grid: what the storage type cannot hold is limited, counted, and never NaN", "[quantize][fit_grid][edge]") {
    using magr::storage_type;
    for (const zero_point zero : all_zero_points)
        for (const auto range : {range_search::min_max, range_search::mse})
            for (const double scale : {1e-30, 1e-38, 1e-42, 1e30, 1e38})
                for (const auto storage : all_storage) {
                    std::vector<float> weights;
                    for (const double w : heavy_tailed_row(20, 7)) weights.push_back(static_cast<float>(w / 10 * scale));
                    const auto grid = fit(weights, {.bits = 4, .zero_point = zero, .storage = storage, .range = range});
                    CAPTURE(static_cast<int>(zero), static_cast<int>(storage), scale);
                    CHECK(grid.scale > 0);
                    CHECK(std::isfinite(grid.scale));
                    CHECK(std::isfinite(grid.zero));
                }
    // rows of 1e6, 1e-12, 1e-5 and 1 in f16: too large, too small, subnormal, and fine
    Eigen::MatrixXf W(4, 8);
    for (int j = 0; j < 8; ++j) W.col(j) << 1e6F, 1e-12F, 1e-5F, 1;
    W.col(3) *= -1;
    const auto count = [&](zero_point zero, storage_type storage) {
        const auto limits = magr::count_storage_limits(magr::fit_grids(W, {.bits = 4, .zero_point = zero, .storage = storage}));
        return std::vector<index_t>{limits.largest, limits.smallest, limits.subnormal};
    };
    for (const zero_point zero : all_zero_points) {
        CHECK(count(zero, storage_type::f16) == std::vector<index_t>{1, 1, 2});
        CHECK(count(zero, storage_type::bf16) == std::vector<index_t>{0, 0, 0});
        CHECK(count(zero, storage_type::f32) == std::vector<index_t>{0, 0, 0});
    }
}

TEST_CASE("fit_grid: levels reach from the smallest to the largest weight", "[quantize][fit_grid][oracle]") {
    const std::vector<double> levels{-1, -0.3, 0.1, 0.5};
    const auto scale = [&](std::vector<double> weights) {
        return fit(weights, {.bits = 2, .zero_point = zero_point::none, .levels = levels}).scale;
    };
    CHECK(scale({-2, 0.5}) == Approx(2));
    CHECK(scale({-2, 3}) == Approx(6));
    CHECK(scale({0.1, 3}) == Approx(6));
    CHECK(scale({-0.25, -0.5}) == Approx(0.5));
    CHECK(scale({0, 0}) == Approx(2));                                                                       // as for the range -1 to 1
    CHECK(fit<double>({-3, -2}, {.bits = 2, .zero_point = zero_point::none, .levels = {0, 1}}).scale == 1);  // no scale fits
    const grid_options search{.bits = 2, .zero_point = zero_point::none, .range = range_search::mse, .error_exponent = 2, .levels = levels};
    const auto weights = heavy_tailed_row(80, 5);
    const auto error = [&](affine_grid<double> g) {
        oracle::real sum = 0;
        for (const oracle::real e : errors_on(search, g, weights)) sum += e * e;
        return static_cast<double>(sum);
    };
    grid_options plain = search;
    plain.range = range_search::min_max;
    CHECK(error(fit(weights, search)) < 0.9 * error(fit(weights, plain)));
}

TEST_CASE("fit_grids: each search has the least error in its own measure", "[quantize][fit_grid][property]") {
    double sums[3][3] = {};  // by search, by measure
    for (unsigned seed = 0; seed < 8; ++seed) {
        const auto [W, H] = layers::make_layer(6, 48, layers::inputs::outliers, seed);
        int s = 0;
        for (const auto range : {range_search::mse, range_search::output_error, range_search::row_output_error}) {
            const grid_options options{.bits = 3, .group_size = 16, .range = range, .error_exponent = 2};
            const auto grids = magr::fit_grids(W, H, options);
            for (index_t i = 0; i < 6; ++i)
                for (index_t g = 0; g < 3; ++g) {
                    std::vector<double> weights;
                    for (index_t j = 16 * g; j < 16 * (g + 1); ++j) weights.push_back(W(i, j));
                    const auto e = errors_on(options, {grids.scales(i, g), grids.zeros(i, g)}, weights);
                    Eigen::VectorXd error(16);
                    for (Eigen::Index j = 0; j < 16; ++j) error[j] = static_cast<double>(e[static_cast<std::size_t>(j)]);
                    const Eigen::MatrixXd block = H.block(16 * g, 16 * g, 16, 16);
                    sums[s][0] += error.squaredNorm();
                    sums[s][1] += error.dot(block.diagonal().cwiseProduct(error)) / block.diagonal().maxCoeff();
                    sums[s][2] += error.dot(block * error) / block.diagonal().maxCoeff();
                }
            ++s;
        }
    }
    for (int measure = 0; measure < 3; ++measure)
        for (int search = 0; search < 3; ++search)
            if (search != measure) CHECK(sums[measure][measure] < sums[search][measure]);
}

TEST_CASE("fit_grids: refuses what it cannot work with", "[quantize][fit_grid][edge]") {
    const auto [W, H] = layers::make_layer(3, 8, layers::inputs::neighbours, 1);
    CHECK_THROWS_AS(magr::fit_grids(W, {.bits = 4, .range = range_search::output_error}), magr::option_error);
    CHECK_THROWS_AS(magr::fit_grids(W, {.bits = 4, .range = range_search::row_output_error}), magr::option_error);
    CHECK_THROWS_AS(magr::fit_grids(W, Eigen::MatrixXd(H.topLeftCorner(7, 7)), {}), magr::shape_error);
    Eigen::MatrixXd bad = W;
    bad(1, 2) = std::nan("");
    CHECK_THROWS_WITH(magr::fit_grids(bad), "fit_grids: W must be finite, entry (row 1, column 2) is nan");
    CHECK_THROWS_WITH(magr::fit_grids(bad, H, {}), "fit_grids: W must be finite, entry (row 1, column 2) is nan");
}

TEST_CASE("fit_grids: weights near the end of the number range stay finite", "[quantize][fit_grid][edge][regression]") {
    const float largest = std::numeric_limits<float>::max();
    Eigen::MatrixXf W(3, 4);
    W << -largest, -0.0F, -1.9375F, -6, largest, -largest, 1, 0, largest, 0.3F * largest, 0.999F * largest, largest;
    for (const zero_point zero : all_zero_points)
        for (const int bits : {2, 4, 8})
            for (const auto range : {range_search::min_max, range_search::mse}) {
                const auto grids = magr::fit_grids(W, {.bits = bits, .zero_point = zero, .range = range});
                magr::quantized_matrix<float> q{grids, magr::matrix<std::uint8_t>(3, 4)};
                for (const int code : {0, magr::largest_code(bits)}) {
                    std::fill_n(q.codes.data(), 12, static_cast<std::uint8_t>(code));
                    const auto values = q.dequantize();
                    CAPTURE(static_cast<int>(zero), bits, code);
                    for (index_t i = 0; i < 3; ++i) CHECK(std::isfinite(values(i, 0)));
                }
            }
}

TEMPLATE_TEST_CASE("fit_grids: weights near the largest number have the grids and codes of the same in another unit",
                   "[quantize][fit_grid][edge]", float, double) {
    using matrix = Eigen::Matrix<TestType, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    constexpr index_t cols = 24;
    std::mt19937 random(19);
    std::uniform_real_distribution<TestType> uniform(-1, 1);
    matrix W(6, cols);
    for (index_t i = 0; i < W.rows(); ++i)
        for (index_t j = 0; j < cols; ++j) W(i, j) = i % 2 == 0 ? uniform(random) : (3 + uniform(random)) / 4;
    const TestType unit = std::ldexp(TestType(1), std::numeric_limits<TestType>::max_exponent - 2);
    const matrix huge = unit * W;  // distances up to half of the largest number
    const Eigen::MatrixXd H = Eigen::MatrixXd::Constant(cols, cols, 0.5) + Eigen::MatrixXd::Identity(cols, cols);
    for (const auto zero : {zero_point::none, zero_point::middle, zero_point::integer, zero_point::real, zero_point::offset})
        for (const auto range : {magr::range_search::min_max, magr::range_search::mse, magr::range_search::output_error,
                                 magr::range_search::row_output_error}) {
            CAPTURE(static_cast<int>(zero), static_cast<int>(range));
            const grid_options options{.bits = 3, .zero_point = zero, .group_size = 8, .range = range};
            const auto q = magr::quantize_rtn(W, H, options), of_huge = magr::quantize_rtn(huge, H, options);
            CHECK(std::equal(q.codes.data(), q.codes.data() + W.size(), of_huge.codes.data()));
            for (index_t k = 0; k < q.scales.rows() * q.scales.cols(); ++k) {
                CHECK(of_huge.scales.data()[k] == unit * q.scales.data()[k]);
                CHECK(of_huge.zeros.data()[k] == q.zeros.data()[k] * (zero == zero_point::offset ? unit : 1));
            }
        }
}
