// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <magr/calibration/column_order.hpp>
#include <magr/calibration/output_meter.hpp>
#include <magr/detail/contract.hpp>
#include <magr/detail/convert.hpp>
#include <magr/detail/finite.hpp>
#include <magr/feedback/feedback_factor.hpp>
#include <magr/fit/exhaustive_search.hpp>
#include <magr/fit/grid_fitter.hpp>
#include <magr/grid/code_map.hpp>
#include <magr/grid/make_weight_grids.hpp>
#include <magr/grid/round_onto_grids.hpp>
#include <magr/grid/storage.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/owq/owq.hpp>
#include <magr/owq/weak_column_quantizer.hpp>
#include <magr/quantize/loss_bound.hpp>
#include <magr/quantize/without_dead.hpp>
#include <magr/sequential/load_strip.hpp>
#include <magr/sequential/sequential_pass.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

MAGR_CORE std::vector<std::string> problems(const owq_options& options) {
    detail::problem_list found("owq_options");
    found.require(options.weak_columns >= 0, "weak_columns", "at least 0", options.weak_columns);
    found.require_enumerator("weak_storage", options.weak_storage);
    const auto zero = options.grid.zero_point;
    found.require(detail::has_code_zero(zero), "grid.zero_point", "none, middle or integer", to_string(zero));
    found.require(options.grid.levels.empty(), "grid.levels", "empty", "not");
    if (options.clips) {
        found.require(*options.clips >= 1, "clips", "at least 1", *options.clips);
        found.require(!options.grid.range, "grid.range", "unset with clips, which are a search of their own",
                      to_string(options.grid.range.value_or(range_search::min_max)));
        found.require(options.grid.range_factor == 1, "grid.range_factor", "1 with clips, which find the shrink themselves",
                      options.grid.range_factor);
    }
    const auto groups = options.optq.groups;
    found.require(groups == group_update::fixed, "optq.groups", "fixed", to_string(groups));
    const auto order = options.optq.order;
    found.require(order == column_order::natural || order == column_order::act_order, "optq.order", "natural or act_order",
                  to_string(order));
    found.add_all(problems(options.grid));
    found.add_all(problems(options.optq));
    return found.take();
}

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// The grids of W, each fitted to those of its columns that `taking_part` lists, ascending; to none but zeros where it lists none. Dead
/// columns are ignored as in `fit_grids`.
template <compute_scalar Scalar>
[[nodiscard]] weight_grids<Scalar> fit_owq_grids(std::type_identity_t<matrix_view<const Scalar>> w, const hessian& H,
                                                 std::span<const index_t> taking_part, const grid_options& options,
                                                 std::optional<index_t> clips, executor_ref exec) {
    constexpr index_t panel_rows = 32;
    using panel = row_major_matrix<Scalar>;
    weight_grids<Scalar> grids = make_weight_grids<Scalar>(w.rows(), w.cols(), options);
    std::vector<index_t> columns, group_of_run;
    std::vector<group_run> runs;
    for (const group_run& run : group_runs(taking_part, grids.group_size, false)) {
        const auto all = taking_part.subspan(static_cast<std::size_t>(run.begin), static_cast<std::size_t>(run.end - run.begin));
        const auto begin = static_cast<index_t>(columns.size());
        std::copy_if(all.begin(), all.end(), std::back_inserter(columns), [&](index_t j) { return !H.is_dead(j); });
        if (static_cast<index_t>(columns.size()) == begin) columns.insert(columns.end(), all.begin(), all.end());
        runs.push_back({begin, static_cast<index_t>(columns.size()), static_cast<index_t>(runs.size())});
        group_of_run.push_back(run.group);
    }
    const affine_grid<Scalar> of_zeros = grid_maker<Scalar>(options).min_max({-1, 1});
    std::fill_n(grids.scales.data(), grids.scales.rows() * grids.scales.cols(), of_zeros.scale);
    std::fill_n(grids.zeros.data(), grids.zeros.rows() * grids.zeros.cols(), of_zeros.zero);

    const grid_fitter<Scalar> fitter(options, H.live().view(), runs, columns);
    exec.parallel_for((w.rows() + panel_rows - 1) / panel_rows, [&](index_t task, index_t) {
        const index_t first_row = task * panel_rows, rows = (std::min)(panel_rows, w.rows() - first_row);
        for (const group_run& run : runs) {
            panel weights(rows, run.end - run.begin);
            for (index_t i = 0; i < rows; ++i)
                for (index_t k = run.begin; k < run.end; ++k)
                    weights(i, k - run.begin) = w(first_row + i, columns[static_cast<std::size_t>(k)]);
            std::vector<affine_grid<Scalar>> found;
            if (!clips) found = fitter.fit(run.group, weights);
            for (index_t i = 0; clips && i < rows; ++i) found.push_back(exhaustive_search<Scalar>(options, *clips, weights.row(i)));
            const index_t group = group_of_run[static_cast<std::size_t>(run.group)];
            for (index_t i = 0; i < rows; ++i) {
                grids.scales(first_row + i, group) = found[static_cast<std::size_t>(i)].scale;
                grids.zeros(first_row + i, group) = found[static_cast<std::size_t>(i)].zero;
            }
        }
    });
    return grids;
}

/// The published search looks at fewer scales for groups and for the selection.
[[nodiscard]] inline std::optional<index_t> fewer(std::optional<index_t> clips) {
    return clips ? std::optional<index_t>((std::min)(*clips, index_t{40})) : std::nullopt;
}

[[nodiscard]] inline std::vector<index_t> all_columns(index_t n) {
    std::vector<index_t> columns(static_cast<std::size_t>(n));
    std::iota(columns.begin(), columns.end(), index_t{0});
    return columns;
}

template <compute_scalar Scalar>
[[nodiscard]] owq_ranking rank_columns(std::type_identity_t<matrix_view<const Scalar>> w, const hessian& H, weight_grids<Scalar> grids) {
    const matrix<Scalar> rounded = round_onto_grids(w, std::move(grids), round_half_even{}, {}).dequantize();
    const auto error = [&](index_t i, index_t j) { return std::abs(static_cast<double>(rounded(i, j)) - static_cast<double>(w(i, j))); };
    double unit = 0;  // in which no square overflows
    for (index_t i = 0; i < w.rows(); ++i)
        for (index_t j = 0; j < w.cols(); ++j)
            if (!H.is_dead(j)) unit = (std::max)(unit, error(i, j));
    std::vector<double> squares(static_cast<std::size_t>(w.cols()));
    for (index_t i = 0; i < w.rows() && unit > 0; ++i)
        for (index_t j = 0; j < w.cols(); ++j) {
            const double part = H.is_dead(j) ? 0 : error(i, j) / unit;
            squares[static_cast<std::size_t>(j)] += part * part;
        }
    for (index_t j = 0; j < w.cols(); ++j)
        if (!H.is_dead(j)) squares[static_cast<std::size_t>(j)] *= H.given()(j, j) / H.mean();

    owq_ranking ranking{squares, all_columns(w.cols())};
    for (double& value : ranking.sensitivity) value = value * unit * unit * H.mean();
    std::stable_sort(ranking.order.begin(), ranking.order.end(), [&](index_t a, index_t b) {
        if (H.is_dead(a) != H.is_dead(b)) return H.is_dead(b);
        return squares[static_cast<std::size_t>(a)] > squares[static_cast<std::size_t>(b)];
    });
    return ranking;
}

/// After all checks, on grids of whole rows.
template <compute_scalar Scalar>
[[nodiscard]] owq_ranking rank_columns(std::type_identity_t<matrix_view<const Scalar>> w, const hessian& H, const owq_options& options,
                                       executor_ref exec) {
    grid_options whole_rows = options.grid;
    whole_rows.group_size = std::nullopt;
    return rank_columns<Scalar>(w, H, fit_owq_grids<Scalar>(w, H, all_columns(w.cols()), whole_rows, fewer(options.clips), exec));
}

template <compute_scalar Scalar>
owq_ranking run_owq_ranking(const char* function, const matrix_ref& W, const gram_argument& H, const owq_options& options,
                            executor_ref exec) {
    validate(options);
    const used_hessian h(function, W, H, (std::max)(options.grid.dead_threshold, options.optq.dead_threshold), exec);
    return rank_columns<Scalar>(weights_in<Scalar>(W).view(), *h, options, exec);
}

template <compute_scalar Scalar>
owq_ranking run_owq_ranking(const char* function, const matrix_ref& W, const gram_argument& H, const weight_grids<Scalar>& grids,
                            executor_ref exec) {
    const used_hessian h(function, W, H, 0, exec);
    require_grids(function, grids, W.rows(), W.cols());
    return rank_columns<Scalar>(weights_in<Scalar>(W).view(), *h, grids);
}

MAGR_CORE std::vector<index_t> most_sensitive(const char* function, const owq_ranking& ranking, index_t k) {
    const auto columns = static_cast<index_t>(ranking.order.size());
    if (k < 0 || k > columns) raise<option_error>(concat(function, ": the number of weak columns must be in 0..", columns, ", it is ", k));
    std::vector<index_t> weak(ranking.order.begin(), ranking.order.begin() + k);
    std::sort(weak.begin(), weak.end());
    return weak;
}

/// Gives weak columns the code of weight 0, and rounds their weights to the storage type. Returns whether all are finite.
template <compute_scalar Scalar>
[[nodiscard]] bool store_weak_columns(owq_result<Scalar>& result) {
    owq_matrix<Scalar>& q = result.quantized;
    const double largest = largest_stored<Scalar>(q.weak_storage);
    for (index_t i = 0; i < q.weak_values.rows(); ++i)
        for (index_t k = 0; k < q.weak_values.cols(); ++k) {
            const index_t column = q.weak_ids[static_cast<std::size_t>(k)];
            const index_t group = q.codes.group_of_column[static_cast<std::size_t>(column)];
            const auto value = static_cast<double>(q.weak_values(i, k));
            if (!is_finite(value)) return false;
            q.codes.codes(i, column) = static_cast<std::uint8_t>(q.codes.zeros(i, group));
            result.weak_limited += std::abs(value) > largest ? 1 : 0;
            q.weak_values(i, k) = round_to_storage<Scalar>(value, q.weak_storage);
        }
    return true;
}

/// OWQ after all checks and the selection.
/// @param w      with zeros in dead columns if the policy asks for them
/// @param order  the columns in the order of processing, weak ones last
template <compute_scalar Scalar, class Rounding>
void owq_with_order(std::type_identity_t<matrix_view<const Scalar>> w, const hessian& H, std::span<const index_t> order,
                    const owq_options& options, const Rounding& rounding, owq_result<Scalar>& result, executor_ref exec) {
    const auto factor = factor_feedback<Scalar>(H.live().view(), order,
                                                {.damping = options.optq.damping,
                                                 .raise_damping = options.optq.on_failure != factor_fallback::none,
                                                 .precision = options.optq.precision},
                                                exec);
    result.damping = factor.damping;
    result.diagonal_floor = factor.diagonal_floor;
    result.attempts = factor.attempts;
    result.precision = factor.precision;
    const bool failed = factor.status == factor_status::failed;
    if (failed && options.optq.on_failure != factor_fallback::round_to_nearest) return;

    owq_matrix<Scalar>& q = result.quantized;
    const auto weak = static_cast<index_t>(q.weak_ids.size());
    std::vector<index_t> strong(order.begin(), order.end() - weak);
    std::sort(strong.begin(), strong.end());
    static_cast<weight_grids<Scalar>&>(q.codes) =
        fit_owq_grids<Scalar>(w, H, strong, options.grid, options.grid.group_size ? fewer(options.clips) : options.clips, exec);
    q.weak_values = matrix<Scalar>(w.rows(), weak);
    if (failed) {
        q.codes = round_onto_grids(w, std::move(q.codes), rounding, exec);
        for (index_t i = 0; i < w.rows(); ++i)
            for (index_t k = 0; k < weak; ++k) q.weak_values(i, k) = w(i, q.weak_ids[static_cast<std::size_t>(k)]);
        result.status = quantization_status::rounded_to_nearest;
    } else {
        q.codes.codes = matrix<std::uint8_t>(w.rows(), w.cols());
        weak_column_quantizer<Scalar, Rounding> quantizer(q.codes, q.weak_values, order, factor.pivots, rounding);
        const auto load = [&](index_t row, index_t rows, Scalar* strip) { load_strip(w.block(row, 0, rows, w.cols()), order, strip); };
        const auto finish = [&](index_t row, index_t rows, const Scalar*) { quantizer.store_codes(row, rows); };
        const sequential_sums sums = sequential_pass<Scalar>(factor.feedback.view(), columns_per_block(options.optq), exec)
                                         .run(w.rows(), load, quantizer, finish, false, exec);
        result.loss = 0.5 * weighted_sum(std::span(factor.pivots).first(strong.size()), sums.rounding_errors);
        result.loss_bound =
            loss_bound_of(q.codes, order.first(strong.size()), factor.pivots) * (options.optq.rounding == rounding_mode::nearest ? 1 : 4);
        result.clipped = quantizer.clipped();
        result.status = factor.status == factor_status::as_requested ? quantization_status::as_requested : quantization_status::damped_more;
    }
    result.limits = count_storage_limits(q.codes);
    if (!store_weak_columns(result) || (result.loss && !is_finite(*result.loss))) {
        result.status = quantization_status::overflowed;
        q = {};
    }
}

template <compute_scalar Scalar>
owq_result<Scalar> run_owq(const matrix_ref& W, const gram_argument& H, const owq_options& options, executor_ref exec) {
    validate(options);
    const used_hessian h("quantize_owq", W, H, (std::max)(options.grid.dead_threshold, options.optq.dead_threshold), exec);
    require_option(options.weak_columns <= W.cols(), "quantize_owq", "weak_columns", "at most the number of columns", options.weak_columns);

    owq_result<Scalar> result;
    result.dead_inputs = h->dead_inputs();
    if (result.dead_inputs > 0 && options.optq.dead == dead_columns::refuse) {
        result.status = quantization_status::dead_columns_refused;
        return result;
    }
    const weights_in<Scalar> weights(W);
    row_major_matrix<Scalar> zeroed;
    matrix_view<const Scalar> w = weights.view();
    if (result.dead_inputs > 0 && options.optq.dead == dead_columns::zero) {
        zeroed = without_dead<Scalar>(w, *h);
        w = as_const_view(zeroed);
    }
    std::vector<index_t> order = order_columns(h->live().view(), options.optq.order, W.cols());
    result.quantized.weak_storage = options.weak_storage;
    if (options.weak_columns > 0) {
        const owq_ranking ranking = rank_columns<Scalar>(w, *h, options, exec);
        result.quantized.weak_ids = most_sensitive("quantize_owq", ranking, options.weak_columns);
        const auto& weak = result.quantized.weak_ids;
        if (options.optq.order == column_order::act_order) order = ranking.order;
        std::erase_if(order, [&](index_t j) { return std::binary_search(weak.begin(), weak.end(), j); });
        order.insert(order.end(), weak.begin(), weak.end());
    }
    if (options.optq.rounding == rounding_mode::nearest)
        owq_with_order<Scalar>(w, *h, order, options, round_half_even{}, result, exec);
    else
        owq_with_order<Scalar>(w, *h, order, options, stochastic_rounding{options.optq.seed}, result, exec);
    if (result && measures_error(options.optq))
        result.output_error = output_meter(W, *h, exec).error(W, result.quantized.dequantize().view(), exec);
    return result;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr
