// SPDX-License-Identifier: MIT
// Shared by the calls: converts layers to matrices and words to options. Only this file, reports.hpp and calls_*.cpp use names of the
// library. Adapt them when its interface changes; names of cases and keys of results stay.
#pragma once

#include <Eigen/Core>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <magr/magr.hpp>
#include <magr/parallel/thread_pool.hpp>

#include "calls.hpp"
#include "layers.hpp"
#include "recorder.hpp"
#include "reports.hpp"
#include "settings.hpp"

namespace record {

using magr::index_t;

/// A matrix in the element type and layout that a case asks for.
template <class T>
class stored {
public:
    stored(const table& from, const std::string& layout)
        : rows_(from.rows), cols_(from.cols), data_(static_cast<std::size_t>(2 * from.rows * (from.cols + 3))) {
        row_stride_ = layout == "rows" ? cols_ : layout == "padded" ? cols_ + 3 : layout == "columns" ? 1 : 2 * cols_;
        col_stride_ = layout == "columns" ? rows_ : layout == "strided" ? 2 : 1;
        for (index_t i = 0; i < rows_; ++i)
            for (index_t j = 0; j < cols_; ++j)
                if constexpr (sizeof(T) == 2)
                    view()(i, j) = static_cast<T>(static_cast<float>(from(i, j)));
                else
                    view()(i, j) = static_cast<T>(from(i, j));
    }

    [[nodiscard]] magr::matrix_view<T> view() {
        return magr::matrix_view<T>::with_strides(data_.data(), rows_, cols_, row_stride_, col_stride_);
    }

private:
    index_t rows_, cols_, row_stride_ = 0, col_stride_ = 0;
    std::vector<T> data_;
};

/// Calls use(T) with the element type that a key names.
template <class Use>
void with_compute_type(const std::string& word, Use&& use) {
    if (word == "f32") return use(float{});
    if (word == "f64") return use(double{});
    throw std::logic_error("calls: '" + word + "' is no type that arithmetic is done in");
}
template <class Use>
void with_storage_type(const std::string& word, Use&& use) {
    if (word == "f16") return use(Eigen::half{});
    if (word == "bf16") return use(Eigen::bfloat16{});
    with_compute_type(word, use);
}

/// Runs one case: body(settings, results, layer), and adds its line to the record.
template <class Body>
void run_case(recorder& out, const std::string& function, const std::string& of, const std::string& text, Body&& body) {
    settings s(text);
    results found;
    try {
        body(s, found, layer_of(of));
        s.require_all_read();
    } catch (const magr::shape_error&) {
        found.add("refused", "shape");
    } catch (const magr::option_error&) {
        found.add("refused", "option");
    } catch (const magr::value_error&) {
        found.add("refused", "value");
    }
    out.add(function + ": " + of + (text.empty() ? "" : ", " + text), found);
}

/// The same for functions of W, whose body gets its view: body(settings, results, layer, W).
template <class Body>
void run_with_weights(recorder& out, const std::string& function, const std::string& of, const std::string& text, Body&& body) {
    run_case(out, function, of, text, [&](settings& s, results& found, const layer& l) {
        with_storage_type(s.find("W").value_or("f32"), [&](auto type) {
            stored<decltype(type)> W(l.W, s.find("layout").value_or("rows"));
            body(s, found, l, W.view());
        });
    });
}

/// The same for functions of W and H: body(settings, results, layer, W, H, executor).
template <class Body>
void run_with_gram(recorder& out, const std::string& function, const std::string& of, const std::string& text, Body&& body) {
    run_with_weights(out, function, of, text, [&](settings& s, results& found, const layer& l, auto W) {
        magr::thread_pool pool(std::stoi(s.find("workers").value_or("1")));
        with_compute_type(s.find("H").value_or("f64"), [&](auto type) {
            stored<decltype(type)> H(l.H, s.find("H_layout").value_or("rows"));
            body(s, found, l, W, H.view(), pool);
        });
    });
}

// converts words to options; `of` is the step of a layer whose option a key sets, followed by a dot

inline void column_order_of(settings& s, const std::string& key, magr::column_order& order) {
    using magr::column_order;
    s.word<column_order>(
        key, {{"natural", column_order::natural}, {"by_activation", column_order::act_order}, {"group_aware", column_order::group_aware}},
        order);
}

inline magr::grid_options grid_options_of(settings& s) {
    using namespace magr;
    grid_options options;
    s.number("bits", options.bits);
    s.word<zero_point>("zero_point",
                       {{"none", zero_point::none},
                        {"middle", zero_point::middle},
                        {"integer", zero_point::integer},
                        {"real", zero_point::real},
                        {"offset", zero_point::offset}},
                       options.zero_point);
    s.number("group_size", options.group_size);
    s.word<storage_type>(
        "storage", {{"native", storage_type::native}, {"f32", storage_type::f32}, {"f16", storage_type::f16}, {"bf16", storage_type::bf16}},
        options.storage);
    s.word<range_search>("range",
                         {{"min_max", range_search::min_max},
                          {"mse", range_search::mse},
                          {"output_error", range_search::output_error},
                          {"row_output_error", range_search::row_output_error}},
                         options.range);
    s.word<range_candidates>("candidates", {{"shrink", range_candidates::shrink}, {"joint", range_candidates::joint}}, options.candidates);
    s.number("norm", options.error_exponent);
    s.number("beta", options.range_factor);
    s.word<range_point>("anchor", {{"low", range_point::low}, {"zero", range_point::zero}, {"centre", range_point::centre}},
                        options.shrink_towards);
    s.numbers("levels", options.levels);
    s.number("grid_dead_threshold", options.dead_threshold);
    return options;
}

inline magr::preprocess_options preprocess_options_of(settings& s, const std::string& of = "") {
    using namespace magr;
    preprocess_options options;
    s.number(of + "alpha", options.alpha);
    s.number(of + "group_size", options.group_size);
    s.word<preprocess_solver>(
        of + "solver", {{"admm", preprocess_solver::admm}, {"proximal_gradient", preprocess_solver::proximal_gradient}}, options.solver);
    s.number(of + "damping", options.damping);
    s.number(of + "max_iterations", options.max_iterations);
    s.number(of + "tolerance", options.tolerance);
    s.number(of + "rho", options.rho);
    s.number(of + "relaxation", options.relaxation);
    return options;
}

inline magr::factor_precision factor_precision_of(settings& s, const std::string& key) {
    using magr::factor_precision;
    factor_precision precision = factor_precision::automatic;
    s.word<factor_precision>(
        key, {{"automatic", factor_precision::automatic}, {"f64", factor_precision::float64}, {"f32", factor_precision::float32}},
        precision);
    return precision;
}

inline magr::optq_options optq_options_of(settings& s, const std::string& of = "") {
    using namespace magr;
    optq_options options;
    s.number(of + "damping", options.damping);
    s.number(of + "block_size", options.block_size);
    column_order_of(s, of + "order", options.order);
    s.word<group_update>(of + "groups", {{"fixed", group_update::fixed}, {"live", group_update::live}, {"stale", group_update::stale}},
                         options.groups);
    s.word<dead_columns>(of + "dead", {{"round", dead_columns::round}, {"zero", dead_columns::zero}, {"refuse", dead_columns::refuse}},
                         options.dead);
    s.number(of + "dead_threshold", options.dead_threshold);
    s.word<factor_fallback>(of + "on_failure",
                            {{"none", factor_fallback::none},
                             {"more_damping", factor_fallback::more_damping},
                             {"round_to_nearest", factor_fallback::round_to_nearest}},
                            options.on_failure);
    s.word<rounding_mode>(of + "rounding", {{"nearest", rounding_mode::nearest}, {"stochastic", rounding_mode::stochastic}},
                          options.rounding);
    s.number(of + "seed", options.seed);
    options.precision = factor_precision_of(s, of + "precision");
    options.measure_error = s.yes(of + "measure_error", true);
    return options;
}

inline magr::code_refinement_options code_refinement_of(settings& s, const std::string& of = "") {
    magr::code_refinement_options options;
    s.number(of + "max_passes", options.max_passes);
    s.number(of + "damping", options.damping);
    s.number(of + "denominator_offset", options.denominator_offset);
    column_order_of(s, of + "order", options.order);
    s.number(of + "dead_threshold", options.dead_threshold);
    return options;
}

inline magr::scale_refinement_options scale_refinement_of(settings& s, const std::string& of = "") {
    magr::scale_refinement_options options;
    s.number(of + "max_passes", options.max_passes);
    s.number(of + "damping", options.damping);
    s.number(of + "dead_threshold", options.dead_threshold);
    return options;
}

inline magr::layer_options layer_options_of(settings& s) {
    using namespace magr;
    layer_options options;
    s.word<layer_quantizer>("quantizer", {{"rtn", layer_quantizer::rtn}, {"optq", layer_quantizer::optq}}, options.quantizer);
    options.grid = grid_options_of(s);
    if (s.yes("preprocess", false)) options.preprocess = preprocess_options_of(s, "preprocess.");
    options.optq = optq_options_of(s, "optq.");
    s.word<rounding_target>("target", {{"preprocessed", rounding_target::preprocessed}, {"original", rounding_target::original}},
                            options.target);
    s.number("refinement_rounds", options.refinement.rounds);
    options.refinement.scales = scale_refinement_of(s, "scales.");
    options.refinement.codes = code_refinement_of(s, "codes.");
    if (!s.yes("scales", true)) options.refinement.scales.reset();
    if (!s.yes("codes", true)) options.refinement.codes.reset();
    s.number("minimum_tokens", options.minimum_tokens);
    options.measure_rtn = true;
    return options;
}

inline magr::automatic_options automatic_options_of(settings& s) {
    magr::automatic_options options;
    s.numbers("alphas", options.alphas);
    s.numbers("dampings", options.dampings);
    s.numbers("betas", options.range_factors);
    s.number("required_gain", options.required_gain);
    options.layer = layer_options_of(s);
    return options;
}

}  // namespace record
