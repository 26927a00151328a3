// SPDX-License-Identifier: MIT
// Every number and every enumerator in every options struct: values outside of the range are refused, by name and with the value.
#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include <magr/compensate_drift.hpp>
#include <magr/preprocess.hpp>
#include <magr/prox.hpp>
#include <magr/quantize.hpp>
#include <magr/quantize_automatic.hpp>
#include <magr/quantize_layer.hpp>

#include "support/catch.hpp"
#include "support/names.hpp"

namespace {

using magr::index_t;
using std::vector;

constexpr double infinity = std::numeric_limits<double>::infinity();
const double not_a_number = std::nan("");
constexpr double smallest = std::numeric_limits<double>::denorm_min();
constexpr double largest_number = std::numeric_limits<double>::max();

/// A field, the problems of options in which it has a given value, and values inside and outside of its range.
struct field {
    std::string name;
    std::function<vector<std::string>(double)> problems_with;
    vector<double> good;
    vector<double> bad;
};

/// Makes a field for a member that is a number, an integer, or one of these in an optional or a vector.
template <class Options, class Value>
field of(const char* name, Value Options::*member, vector<double> good, vector<double> bad, Options other = {}) {
    return {name,
            [=](double number) {
                Options options = other;
                if constexpr (requires { typename Value::iterator; })
                    options.*member = {number};
                else if constexpr (requires { typename Value::value_type; })
                    options.*member = static_cast<typename Value::value_type>(number);
                else
                    options.*member = static_cast<Value>(number);
                return problems(options);
            },
            std::move(good), std::move(bad)};
}

const vector<double> not_fractions = {-smallest, -1, 1, 2, infinity, -infinity, not_a_number};
const vector<double> not_amounts = {-smallest, -1, -largest_number, infinity, -infinity, not_a_number};
const vector<double> fractions = {0, smallest, 0.5, 1 - 1e-15};
const vector<double> amounts = {0, smallest, 1, 1e3};
const vector<double> counts = {1, 2, 1e6};
const vector<double> not_counts = {0, -1, -1e5};

vector<field> fields() {
    const double above_one = 1 + std::numeric_limits<double>::epsilon();
    using magr::automatic_options, magr::code_refinement_options, magr::drift_options, magr::grid_options, magr::layer_options,
        magr::optq_options, magr::preprocess_options, magr::refinement_options, magr::scale_refinement_options;
    return {
        of("grid_options: bits", &grid_options::bits, {2, 8}, {0, 1, 9, -4, 1e5}),
        of("grid_options: group_size", &grid_options::group_size, counts, not_counts),
        of("grid_options: error_exponent", &grid_options::error_exponent, {1, 2.4, 8},
           {0, 1 - 1e-15, 8 + 1e-14, -1, infinity, -infinity, not_a_number}),
        of("grid_options: range_factor", &grid_options::range_factor, {smallest, 0.5, 1},
           {0, -smallest, above_one, infinity, -infinity, not_a_number}),
        of("grid_options: dead_threshold", &grid_options::dead_threshold, fractions, not_fractions),
        of("optq_options: damping", &optq_options::damping, amounts, not_amounts),
        of("optq_options: block_size", &optq_options::block_size, counts, not_counts),
        of("optq_options: dead_threshold", &optq_options::dead_threshold, fractions, not_fractions),
        of("scale_refinement_options: max_passes", &scale_refinement_options::max_passes, counts, not_counts),
        of("scale_refinement_options: damping", &scale_refinement_options::damping, amounts, not_amounts),
        of("scale_refinement_options: dead_threshold", &scale_refinement_options::dead_threshold, fractions, not_fractions),
        of("code_refinement_options: max_passes", &code_refinement_options::max_passes, counts, not_counts),
        of("code_refinement_options: damping", &code_refinement_options::damping, amounts, not_amounts),
        of("code_refinement_options: denominator_offset", &code_refinement_options::denominator_offset, amounts, not_amounts),
        of("code_refinement_options: dead_threshold", &code_refinement_options::dead_threshold, fractions, not_fractions),
        of("drift_options: fraction", &drift_options::fraction, {0, 0.5, 1}, {-smallest, above_one, infinity, -infinity, not_a_number}),
        of("drift_options: damping", &drift_options::damping, amounts, not_amounts),
        of("drift_options: dead_threshold", &drift_options::dead_threshold, fractions, not_fractions),
        of("preprocess_options: alpha", &preprocess_options::alpha, amounts, not_amounts),
        of("preprocess_options: group_size", &preprocess_options::group_size, counts, not_counts),
        of("preprocess_options: damping", &preprocess_options::damping, amounts, not_amounts),
        of("preprocess_options: max_iterations", &preprocess_options::max_iterations, counts, not_counts),
        of("preprocess_options: tolerance", &preprocess_options::tolerance, amounts, {-smallest, -1, -infinity, infinity, not_a_number}),
        of("preprocess_options: rho", &preprocess_options::rho, {1e-6, 1, 1e3}, {0, -smallest, -1, infinity, -infinity, not_a_number}),
        of("preprocess_options: relaxation", &preprocess_options::relaxation, {0.5, 1, 1.9},
           {0, 2, -1, 3, infinity, -infinity, not_a_number}),
        of("refinement_options: rounds", &refinement_options::rounds, {0, 1, 100}, {-1, -1e5}),
        of("layer_options: minimum_tokens", &layer_options::minimum_tokens, {0, 1, 1e9}, {-1, -1e5}),
        of("automatic_options: alphas", &automatic_options::alphas, amounts, not_amounts),
        of("automatic_options: dampings", &automatic_options::dampings, amounts, not_amounts),
        of("automatic_options: range_factors", &automatic_options::range_factors, {smallest, 0.5, 1},
           {0, -smallest, above_one, infinity, -infinity, not_a_number}),
        of("automatic_options: required_gain", &automatic_options::required_gain, fractions, not_fractions),
    };
}

/// The same for a member that is an enumeration, or an optional one, with this many enumerators.
template <class Options, class Enum>
field of_names(const char* name, Enum Options::*member, int count) {
    vector<double> good;
    for (int k = 0; k < count; ++k) good.push_back(k);
    return of(name, member, std::move(good), {-1.0, static_cast<double>(count), 1e5});
}

vector<field> enumerators() {
    using magr::code_refinement_options, magr::grid_options, magr::layer_options, magr::optq_options, magr::preprocess_options;
    return {
        of_names("grid_options: zero_point", &grid_options::zero_point, 5),
        of_names("grid_options: storage", &grid_options::storage, 4),
        of_names("grid_options: range", &grid_options::range, 4),
        of_names("grid_options: candidates", &grid_options::candidates, 2),
        of_names("grid_options: shrink_towards", &grid_options::shrink_towards, 3),
        of_names("optq_options: order", &optq_options::order, 4),
        of_names("optq_options: groups", &optq_options::groups, 3),
        of_names("optq_options: dead", &optq_options::dead, 3),
        of_names("optq_options: on_failure", &optq_options::on_failure, 3),
        of_names("optq_options: rounding", &optq_options::rounding, 2),
        of_names("optq_options: precision", &optq_options::precision, 3),
        of_names("code_refinement_options: order", &code_refinement_options::order, 4),
        of_names("preprocess_options: solver", &preprocess_options::solver, 2),
        of_names("layer_options: quantizer", &layer_options::quantizer, 2),
        of_names("layer_options: target", &layer_options::target, 2),
    };
}

void check_fields(const vector<field>& fields) {
    for (const field& f : fields) {
        CAPTURE(f.name);
        for (const double number : f.good) {
            CAPTURE(number);
            CHECK(f.problems_with(number).empty());
        }
        for (const double number : f.bad) {
            CAPTURE(number);
            const vector<std::string> found = f.problems_with(number);
            REQUIRE(found.size() == 1);
            CAPTURE(found.front());
            CHECK(found.front().rfind(f.name + " must be ", 0) == 0);
            CHECK(found.front().find(", it is " + magr::detail::concat(number)) != std::string::npos);
        }
    }
}

}  // namespace

TEST_CASE("options: every number outside of its range is refused, by struct, field and value", "[layer][options][errors]") {
    check_fields(fields());
}

TEST_CASE("options: every value that is no enumerator is refused, by struct, field and number", "[layer][options][errors]") {
    check_fields(enumerators());
    const vector<std::string> found = problems(magr::preprocess_options{.solver = static_cast<magr::preprocess_solver>(2)});
    CHECK(found == vector<std::string>{"preprocess_options: solver must be admm or proximal_gradient, it is 2"});
}

TEST_CASE("options: every enumerator has its name", "[layer][options]") {
    check_names<magr::vector_axis>({"rows", "columns"});
    check_names<magr::column_order>({"natural", "act_order", "group_aware", "reversed"});
    check_names<magr::dead_columns>({"round", "zero", "refuse"});
    check_names<magr::factor_precision>({"automatic", "float64", "float32"});
    check_names<magr::factor_status>({"as_requested", "damped_more", "failed"});
    check_names<magr::factor_fallback>({"none", "more_damping", "round_to_nearest"});
    check_names<magr::observer_flow>({"proceed", "stop"});
    check_names<magr::group_update>({"fixed", "live", "stale"});
    check_names<magr::quantization_status>(
        {"as_requested", "damped_more", "rounded_to_nearest", "too_few_tokens", "dead_columns_refused", "failed", "overflowed"});
    check_names<magr::matrix_layout>({"row_major", "col_major"});
    check_names<magr::layer_quantizer>({"rtn", "optq"});
    check_names<magr::range_candidates>({"shrink", "joint"});
    check_names<magr::range_search>({"min_max", "mse", "output_error", "row_output_error"});
    check_names<magr::rounding_mode>({"nearest", "stochastic"});
    check_names<magr::rounding_target>({"preprocessed", "original"});
    check_names<magr::range_point>({"low", "zero", "centre"});
    check_names<magr::preprocess_solver>({"admm", "proximal_gradient"});
    check_names<magr::stop_reason>({"converged", "iteration_limit", "cancelled", "not_factored", "overflowed", "rounding_limit"});
    check_names<magr::storage_type>({"native", "f32", "f16", "bf16"});
    check_names<magr::zero_point>({"none", "middle", "integer", "real", "offset"});
}

TEST_CASE("options: a matrix prox along what is no axis is refused, and nothing is written", "[layer][options][errors]") {
    const float before[] = {3, -1, 2, 1};
    float values[] = {3, -1, 2, 1};
    const magr::matrix_view<float> M(values, 2, 2);
    const float metric[] = {1, 2};
    const magr::vectors_of nowhere{.along = static_cast<magr::vector_axis>(2)};
    CHECK_THROWS_WITH(magr::prox_linf(M, 1.0, nowhere), "prox_linf: along must be rows or columns, it is 2");
    CHECK_THROWS_WITH(magr::prox_linf(M, metric, 1.0, nowhere), "prox_linf: along must be rows or columns, it is 2");
    CHECK_THROWS_WITH(magr::project_l1_ball(M, 1.0, nowhere), "project_l1_ball: along must be rows or columns, it is 2");
    CHECK_THROWS_WITH(magr::project_l1_ball(M, metric, 1.0, nowhere), "project_l1_ball: along must be rows or columns, it is 2");
    CHECK(std::equal(std::begin(values), std::end(values), before));
}

TEST_CASE("options: levels that are no numbers, too large or out of order are refused", "[layer][options][errors]") {
    const auto accepted = [](vector<double> levels) {
        return problems(magr::grid_options{.bits = 2, .zero_point = magr::zero_point::none, .levels = std::move(levels)}).empty();
    };
    CHECK(accepted({-1e6, 0, 1e6}));
    for (const double bad : {not_a_number, infinity, -infinity, largest_number, 1.1e6, -1.1e6, 0.0}) {
        CAPTURE(bad);
        CHECK_FALSE(accepted({-1, 0, bad}));
        CHECK_FALSE(accepted({-1, bad, 0}));
    }
    CHECK_FALSE(accepted({1}));
    CHECK_FALSE(accepted({1, 2, 3, 4, 5}));
}
