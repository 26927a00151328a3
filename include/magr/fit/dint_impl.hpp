// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <magr/detail/convert.hpp>
#include <magr/fit/dint.hpp>
#include <magr/fit/grid_fitter.hpp>
#include <magr/fit/grid_maker.hpp>
#include <magr/fit/grid_metric.hpp>
#include <magr/grid/storage.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

MAGR_CORE std::vector<std::string> problems(const dint_options& options) {
    detail::problem_list found("dint_options");
    found.require(options.bits >= 2 && options.bits <= 8, "bits", "in 2..8", options.bits);
    if (options.group_size) found.require(*options.group_size >= 1, "group_size", "at least 1", *options.group_size);
    found.require_enumerator("storage", options.storage);
    found.require(options.range == range_search::min_max || options.range == range_search::mse, "range", "min_max or mse",
                  to_string(options.range));
    found.require(options.error_exponent >= 1 && options.error_exponent <= 8, "error_exponent", "in [1, 8]", options.error_exponent);
    found.require(options.dead_threshold >= 0 && options.dead_threshold < 1, "dead_threshold", "in [0, 1)", options.dead_threshold);
    return found.take();
}

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Fits one grid at a time.
template <compute_scalar Scalar>
class dint_fitter {
public:
    using panel = row_major_matrix<Scalar>;

    explicit dint_fitter(const dint_options& options)
        : options_(options),
          affine_{.zero_point = options.symmetric ? zero_point::none : zero_point::integer,
                  .range = options.range,
                  .error_exponent = options.error_exponent},
          maker_(affine_),
          metric_(grid_metric<Scalar>::plain(affine_)) {}
    dint_fitter(const dint_fitter&) = delete;
    dint_fitter& operator=(const dint_fitter&) = delete;

    /// Scale and zero point for a single row of weights.
    [[nodiscard]] std::pair<Scalar, std::uint8_t> fit(const panel& weights) const {
        const weight_range range = maker_.range_of(weights.row(0));
        const int largest = dint_largest_integer(options_.bits);
        const double step = range.high / largest - range.low / largest;
        const Scalar whole = stored(step);
        const double middle = options_.symmetric ? (largest + 1) / 2.0 : std::nearbyint(-range.low / static_cast<double>(whole));
        const auto zero = static_cast<std::uint8_t>(std::clamp(middle, 0.0, static_cast<double>(largest)));
        if (options_.range == range_search::min_max) return {whole, zero};

        // in this unit tiny and huge weights neither under- nor overflow when raised to a power
        const double unit = (std::max)(static_cast<double>(whole), 1e-6 * (std::max)(-range.low, range.high));
        Scalar best = whole;
        double least = error(weights, whole, zero, unit);
        for (int k = 1; k < 80; ++k) {
            const Scalar tried = stored((1 - k / 100.0) * step);
            const double found = error(weights, tried, zero, unit);
            if (!(found < least)) continue;
            least = found;
            best = tried;
        }
        return {best, zero};
    }

private:
    [[nodiscard]] Scalar stored(double scale) const {
        return store_scale<Scalar>(scale, options_.storage, dint_largest_integer(options_.bits));
    }

    [[nodiscard]] double error(const panel& weights, Scalar scale, std::uint8_t zero, double unit) const {
        const dint_map<Scalar> map(options_.bits, scale, zero);
        panel errors(1, weights.cols());
        for (index_t j = 0; j < weights.cols(); ++j) {
            const Scalar rounded = map.weight(steps_on_grid(map, weights(0, j), 0, j));
            errors(0, j) = static_cast<Scalar>(static_cast<double>(rounded) / unit - static_cast<double>(weights(0, j)) / unit);
        }
        return metric_.errors(errors).front();
    }

    const dint_options& options_;
    grid_options affine_;  ///< whose range and exponent are the same
    grid_maker<Scalar> maker_;
    grid_metric<Scalar> metric_;
};

/// @param H  null: all columns count
template <compute_scalar Scalar>
[[nodiscard]] dint_grids<Scalar> fit_checked_dint_grids(const matrix_ref& w, const hessian* H, const dint_options& options,
                                                        executor_ref exec) {
    constexpr index_t panel_rows = 32;
    const index_t size = options.group_size && *options.group_size < w.cols() ? *options.group_size : w.cols();
    const index_t groups = (w.cols() + size - 1) / size;
    dint_grids<Scalar> grids{
        options.bits, options.storage, w.cols(), size, matrix<Scalar>(w.rows(), groups), matrix<std::uint8_t>(w.rows(), groups)};
    std::vector<std::vector<index_t>> live;  // positions in each group
    for (index_t g = 0; g < groups; ++g) {
        std::vector<double> importance;
        for (index_t j = g * size; j < (std::min)((g + 1) * size, w.cols()); ++j)
            importance.push_back(H != nullptr && H->is_dead(j) ? 0 : 1);
        live.push_back(live_positions(importance));
    }
    const dint_fitter<Scalar> fitter(options);
    exec.parallel_for((w.rows() + panel_rows - 1) / panel_rows, [&](index_t task, index_t) {
        const index_t first_row = task * panel_rows, last_row = (std::min)(first_row + panel_rows, w.rows());
        for (index_t g = 0; g < groups; ++g) {
            const index_t first = g * size, width = (std::min)(size, w.cols() - first);
            const auto& columns = live[static_cast<std::size_t>(g)];
            for (index_t i = first_row; i < last_row; ++i) {
                const auto row = load<Scalar>(w.block(i, first, 1, width));
                std::tie(grids.scales(i, g), grids.zeros(i, g)) = fitter.fit(columns.empty() ? row : columns_of<Scalar>(row, columns));
            }
        }
    });
    return grids;
}

template <compute_scalar Scalar>
dint_grids<Scalar> run_fit_dint_grids(const matrix_ref& W, const gram_argument& H, const dint_options& options, executor_ref exec) {
    validate(options);
    const used_hessian h("fit_dint_grids", W, H, options.dead_threshold, exec);
    return fit_checked_dint_grids<Scalar>(W, &*h, options, exec);
}

template <compute_scalar Scalar>
dint_grids<Scalar> run_fit_dint_grids(const matrix_ref& W, const dint_options& options, executor_ref exec) {
    validate(options);
    require_not_empty("fit_dint_grids", "W", W);
    require_distinct("fit_dint_grids", "W", W);
    require_finite("fit_dint_grids", "W", W, exec);
    return fit_checked_dint_grids<Scalar>(W, nullptr, options, exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr
