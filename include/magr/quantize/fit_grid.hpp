// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include <magr/calibration/live_gram.hpp>
#include <magr/detail/contract.hpp>
#include <magr/detail/convert.hpp>
#include <magr/detail/finite.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/quantize/code_map.hpp>
#include <magr/quantize/column_order.hpp>
#include <magr/quantize/grid.hpp>
#include <magr/quantize/grid_metric.hpp>
#include <magr/quantize/storage.hpp>
#include <magr/quantize/weight_grids.hpp>

namespace magr {
namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Ends of the range that a grid is to cover.
struct weight_range {
    double low;
    double high;
};

/// From ranges to grids whose numbers are those that will be stored.
template <compute_scalar Scalar>
class grid_maker {
public:
    explicit grid_maker(const grid_options& options)
        : options_(options), largest_(largest_code(options.bits)), multiple_(largest_multiple(options.bits, options.levels)) {}

    /// Range of some weights. It includes 0 unless the zero point is a real number or an offset, and is never a single point.
    template <class Row>
    [[nodiscard]] weight_range range_of(const Row& weights) const {
        weight_range range{static_cast<double>(weights.minCoeff()), static_cast<double>(weights.maxCoeff())};
        const bool can_exclude_zero = !has_code_zero(options_.zero_point);
        if (!can_exclude_zero || range.low == range.high) range = with_zero(range);
        if (options_.zero_point == zero_point::real && range.high / 2 - range.low / 2 < 0.5e-3 * (std::max)(-range.low, range.high))
            range = with_zero(range);  // the zero point would be too large to be stored well
        if (options_.zero_point == zero_point::none && options_.levels.empty()) {
            range.high = (std::max)(range.high, -range.low);
            range.low = -range.high;
        }
        if (range.low == range.high) range = {can_exclude_zero ? 0.0 : -1.0, 1};
        return range;
    }

    /// Scale with which the grid reaches from end to end.
    [[nodiscard]] double step_of(weight_range range) const {
        // divided before subtracting: the range may be wider than the largest finite number
        if (options_.levels.empty()) return range.high / largest_ - range.low / largest_;
        const double lowest = options_.levels.front();
        const double highest = options_.levels.back();
        const double step = (std::max)(highest > 0 ? range.high / highest : 0, lowest < 0 ? range.low / lowest : 0);
        return step > 0 ? step : 1;  // weights of one sign, levels of the other
    }

    /// The grid of this scale whose lowest weight is `low`, as nearly as its zero point allows.
    [[nodiscard]] affine_grid<Scalar> grid(double step, double low) const {
        if (!has_code_zero(options_.zero_point)) {  // the weights of the first and the last code must be finite, also when rounded
            constexpr double most = 0.99 * static_cast<double>((std::numeric_limits<Scalar>::max)());
            low = std::clamp(low, -most, most);
            step = (std::min)(step, most / largest_ - low / largest_);
        }
        const Scalar scale = stored(step);
        return {scale, static_cast<Scalar>(zero_for(low, static_cast<double>(scale)))};
    }

    /// The grid of this scale and zero point.
    [[nodiscard]] affine_grid<Scalar> with_zero_code(double step, double zero) const { return {stored(step), static_cast<Scalar>(zero)}; }

    /// The grid with beta applied, without a search.
    [[nodiscard]] affine_grid<Scalar> min_max(weight_range range) const {
        const double step = options_.beta * step_of(range);
        switch (options_.anchor) {
            case shrink_anchor::zero: return grid(step, options_.beta * range.low);
            case shrink_anchor::centre: return grid(step, range.low + (1 - options_.beta) / 2 * step_of(range) * largest_);
            case shrink_anchor::low: break;
        }
        return grid(step, range.low);
    }

    /// The grid with another scale.
    [[nodiscard]] affine_grid<Scalar> rescaled(affine_grid<Scalar> old, double factor) const {
        const double step = factor * static_cast<double>(old.scale);
        if (has_code_zero(options_.zero_point)) return {stored(step), old.zero};
        return grid(step, static_cast<double>(old.zero) * (options_.zero_point == zero_point::offset ? 1 : -step));
    }

    [[nodiscard]] double largest() const { return largest_; }

private:
    [[nodiscard]] Scalar stored(double scale) const { return store_scale<Scalar>(scale, options_.storage, multiple_); }

    static weight_range with_zero(weight_range range) { return {(std::min)(0.0, range.low), (std::max)(0.0, range.high)}; }

    [[nodiscard]] double zero_for(double low, double scale) const {
        if (!options_.levels.empty()) return 0;
        switch (options_.zero_point) {
            case zero_point::integer: return std::clamp(std::nearbyint(-low / scale), 0.0, largest_);
            case zero_point::real: return static_cast<double>(round_to_storage<Scalar>(-low / scale, options_.storage));
            case zero_point::offset: return static_cast<double>(round_to_storage<Scalar>(low, options_.storage));
            case zero_point::none: break;
        }
        return (largest_ + 1) / 2;
    }

    const grid_options& options_;
    double largest_;
    double multiple_;
};

/// The columns that take part in the search for a grid, where those of importance 0 do not: empty if all do, as when none matters more
/// than another.
[[nodiscard]] inline std::vector<index_t> live_positions(std::span<const double> importance) {
    std::vector<index_t> live;
    for (std::size_t j = 0; j < importance.size(); ++j)
        if (importance[j] > 0) live.push_back(static_cast<index_t>(j));
    if (live.size() == importance.size()) live.clear();
    return live;
}

/// These columns of some weights.
template <compute_scalar Scalar, class Weights>
[[nodiscard]] row_major_matrix<Scalar> columns_of(const Weights& weights, std::span<const index_t> columns) {
    row_major_matrix<Scalar> out(weights.rows(), static_cast<index_t>(columns.size()));
    for (std::size_t k = 0; k < columns.size(); ++k) out.col(static_cast<index_t>(k)) = weights.col(columns[k]);
    return out;
}

/// Finds the best of many grids for each of some rows of weights at once.
template <compute_scalar Scalar>
class grid_search {
public:
    using panel = row_major_matrix<Scalar>;
    using grids = std::vector<affine_grid<Scalar>>;

    /// @param weights  rows x columns of one group
    grid_search(const grid_options& options, const grid_metric<Scalar>& metric, const panel& weights)
        : options_(options), maker_(options), metric_(metric), weights_(weights), levels_(options.levels.begin(), options.levels.end()) {
        for (index_t i = 0; i < weights.rows(); ++i) {
            ranges_.push_back(maker_.range_of(weights.row(i)));
            // the distance of two weights may be larger than the largest number
            const bool is_far =
                ranges_.back().high / 4 - ranges_.back().low / 4 > static_cast<double>((std::numeric_limits<Scalar>::max)()) / 16;
            parts_.push_back(is_far ? Scalar(1) / 32 : Scalar(1));
            if (is_far) weights_.row(i) *= parts_.back();
            const double magnitude = (std::max)(-ranges_.back().low, ranges_.back().high);
            units_.push_back(
                (std::max)({maker_.step_of(ranges_.back()), smallest_stored_scale<Scalar>(options.storage), 1e-6 * magnitude}));
            best_.push_back(maker_.min_max(ranges_.back()));
        }
    }

    /// The grids found.
    [[nodiscard]] const grids& run() {
        if (options_.range.value_or(range_search::min_max) == range_search::min_max) return best_;
        least_ = errors(best_);
        shrink();
        if (options_.candidates == range_candidates::joint) {
            if (options_.levels.empty()) move_zero();
            fine_tune();
            for (int round = 0; round < 4; ++round) least_squares();
        }
        return best_;
    }

private:
    template <class Candidate>
    void consider(const Candidate& candidate) {
        grids tried;
        for (std::size_t i = 0; i < best_.size(); ++i) tried.push_back(candidate(i));
        const std::vector<double> found = errors(tried);
        for (std::size_t i = 0; i < best_.size(); ++i)
            if (found[i] < least_[i]) {
                least_[i] = found[i];
                best_[i] = tried[i];
            }
    }

    /// The whole range times 0.99, .. 0.21, about the weight 0; a zero point that is a code stays where it is.
    void shrink() {
        const grids whole = best_;
        for (int k = 1; k < 80; ++k) {
            const double factor = 1 - k / 100.0;
            consider([&](std::size_t i) {
                return has_code_zero(options_.zero_point) ? maker_.with_zero_code(factor * units_[i], static_cast<double>(whole[i].zero))
                                                          : maker_.grid(factor * units_[i], factor * ranges_[i].low);
            });
        }
    }

    /// Scale and zero point independently of each other.
    void move_zero() {
        if (options_.zero_point == zero_point::integer && options_.bits <= 3) {
            for (double zero = 0; zero <= maker_.largest(); ++zero)
                for (int k = 0; k < 20; ++k) {
                    const double factor = 1 - k / 25.0;
                    consider([&](std::size_t i) { return maker_.with_zero_code(factor * units_[i], zero); });
                }
        } else if (!has_code_zero(options_.zero_point)) {
            for (const bool low_end : {true, false}) {
                const grids before = best_;
                for (int k = -5; k < 20; ++k)
                    consider([&](std::size_t i) {
                        const double scale = static_cast<double>(before[i].scale);
                        const double zero = static_cast<double>(before[i].zero);
                        const double low = options_.zero_point == zero_point::offset ? zero : -scale * zero;
                        const double step = scale * (1 - k / 25.0);
                        return maker_.grid(step, low_end ? low + (scale - step) * maker_.largest() : low);
                    });
            }
        }
    }

    /// Scales close to the best, with its zero point.
    void fine_tune() {
        const grids before = best_;
        for (const double factor : {0.97, 0.98, 0.99, 1.01, 1.02, 1.03})
            consider([&](std::size_t i) { return maker_.rescaled(before[i], factor); });
    }

    /// Scale and zero point that are best for the codes of the best grid so far.
    void least_squares() {
        const index_t rows = weights_.rows();
        panel position(rows, weights_.cols());  // weight = scale * position (+ offset)
        panel target(rows, weights_.cols());    // in units of the row
        for (index_t i = 0; i < rows; ++i) {
            const auto& grid = best_[static_cast<std::size_t>(i)];
            const Scalar part = parts_[static_cast<std::size_t>(i)];
            const Scalar unit = part * static_cast<Scalar>(units_[static_cast<std::size_t>(i)]);
            target.row(i) = weights_.row(i) / unit;
            steps_of(i, grid, position);
            if (options_.zero_point == zero_point::real) position.row(i).array() -= grid.zero;
            if (options_.zero_point == zero_point::offset) target.row(i).array() -= part * grid.zero / unit;
        }
        const panel weighted = metric_.apply(position);
        panel ones;
        if (!has_code_zero(options_.zero_point)) ones = metric_.apply(panel::Ones(1, weights_.cols()));
        consider([&](std::size_t k) {
            const auto i = static_cast<index_t>(k);
            const double unit = units_[k];
            const auto p = weighted.row(i);
            const double pp = static_cast<double>(p.dot(position.row(i)));
            const double pt = static_cast<double>(p.dot(target.row(i)));
            if (has_code_zero(options_.zero_point))
                return pt > 0 && pp > 0 ? maker_.with_zero_code(pt / pp * unit, static_cast<double>(best_[k].zero)) : best_[k];
            // target = scale * position + change of the offset
            const double oo = static_cast<double>(ones.sum());
            const double po = static_cast<double>(p.sum());
            const double ot = static_cast<double>(ones.row(0).dot(target.row(i)));
            const double determinant = pp * oo - po * po;
            if (std::abs(determinant) <= std::numeric_limits<double>::epsilon() * pp * oo) return best_[k];  // nearly all codes are equal
            const double scale = (pt * oo - po * ot) / determinant;
            const double change = (pp * ot - po * pt) / determinant;
            if (!(scale > 0) || !is_finite(scale) || !is_finite(change)) return best_[k];
            const double zero = static_cast<double>(best_[k].zero);
            const double low = options_.zero_point == zero_point::offset ? zero + change * unit : (change - scale * zero) * unit;
            return maker_.grid(scale * unit, low);
        });
    }

    /// Steps of all weights of a row on a grid; for levels, the levels.
    void steps_of(index_t i, affine_grid<Scalar> grid, panel& steps) const {
        const Scalar part = parts_[static_cast<std::size_t>(i)], scale = part * grid.scale;
        if (!options_.levels.empty()) {
            const level_map<Scalar> map{scale, levels_};
            for (index_t j = 0; j < steps.cols(); ++j)
                steps(i, j) = levels_[static_cast<std::size_t>(steps_on_grid(map, weights_(i, j), i, j))];
            return;
        }
        const Scalar offset = options_.zero_point == zero_point::offset ? part * grid.zero : Scalar(0);
        const Scalar shift = options_.zero_point == zero_point::real ? grid.zero : Scalar(0);
        const Scalar lowest = has_code_zero(options_.zero_point) ? -grid.zero : Scalar(0);
        const Scalar highest = lowest + static_cast<Scalar>(maker_.largest());
        const auto unlimited = (weights_.row(i).array() - offset) / scale + shift;
        steps.row(i) = unlimited.matrix().cwiseMax(lowest).cwiseMin(highest).array().rint().matrix();
    }

    /// The error of each row on its grid. Errors are measured in units of the row, so that neither tiny nor huge weights under- or
    /// overflow when they are squared or raised to a power.
    [[nodiscard]] std::vector<double> errors(const grids& tried) const {
        panel error(weights_.rows(), weights_.cols());
        for (index_t i = 0; i < weights_.rows(); ++i) {
            const auto& grid = tried[static_cast<std::size_t>(i)];
            const Scalar part = parts_[static_cast<std::size_t>(i)];
            const Scalar unit = part * static_cast<Scalar>(units_[static_cast<std::size_t>(i)]);
            steps_of(i, grid, error);
            const Scalar offset = options_.zero_point == zero_point::offset ? part * grid.zero : Scalar(0);
            const Scalar shift = options_.zero_point == zero_point::real ? grid.zero : Scalar(0);
            error.row(i) = (part * grid.scale / unit * (error.row(i).array() - shift) - (weights_.row(i).array() - offset) / unit).matrix();
        }
        return metric_.errors(error);
    }

    const grid_options& options_;
    grid_maker<Scalar> maker_;
    const grid_metric<Scalar>& metric_;
    panel weights_;              ///< of each row its part: the weights but for huge ones
    std::vector<Scalar> parts_;  ///< by row, a power of two
    std::vector<Scalar> levels_;
    std::vector<weight_range> ranges_;
    std::vector<double> units_;  ///< the scale of the whole range of each row, limited so that weights in this unit are moderate numbers
    grids best_;
    std::vector<double> least_;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// Chooses the grid of one row, or of one group of a row.
///
/// With low = min(0, min w), high = max(0, max w) and L = 2^bits - 1:
///
///   integer      scale = (high - low) / L           zero = round(-low / scale)
///   none         scale = 2 max(high, -low) / L      zero = 2^(bits-1)
///   real         scale = (high - low) / L           zero = -low / scale        low = min w, high = max w
///   offset       scale = (high - low) / L           zero = low                 low = min w, high = max w
///   levels       scale = max(high / last level, low / first level)
///
/// and high = 1, low = -1 (0 for real and offset) if all weights are zero. Scale, real zero point and offset are rounded to the storage
/// type, the scale before anything is derived from it. `beta` multiplies the scale; `anchor` says where the zero point then lies.
///
/// A search takes the grid with the least error out of many: the range times 1, 0.99, .. 0.21 about the weight 0 (an integer zero
/// point stays where it is); if `joint`, then up to 3 bits every zero point with 20 scales, or for real ones and offsets each end of
/// the range by itself; scales within 3% of the best; and four times the least-squares scale (and zero point) for the codes of the best.
///
/// @par Shapes    weights: n, contiguous; importance: n, >= 0, or empty for all the same (only for `output_error`). Weights of importance
///                0 take no part in any search, unless all are
/// @par Units     scale: that of the weights; zero: codes, or that of the weights for an offset
/// @pre           validate(options) passes; range is not row_output_error; all weights finite; importance finite
/// @post          scale > 0; scale, real zero and offset are exact in the storage type; an integer zero is in 0..L
/// @par Cost      O(n) for min_max; a search takes 80 passes, joint about 90, or 175 (2 bits) and 255 (3 bits). Allocates a few times n
/// @par Numerics  range and scale are computed in double. What the storage type cannot hold is limited to its largest finite number, or
///                raised to `smallest_stored_scale`; so is a scale whose largest weight would overflow. `count_storage_limits` counts such
///                grids
/// @par Errors    none; checked entry points: magr::fit_grids, magr::quantize_rtn, magr::quantize_optq
/// @par Source    grid rules of OPTQ (arXiv 2210.17323) and MagR (arXiv 2406.00800), with differences. Zero is limited to 0..L: with
///                beta < 1 and weights of one sign the published rule leaves the codes. A grid without zero point keeps its range
///                symmetric when no weight is negative, where the published rule clips more than half of it. `shrink` with norm 2.4 is
///                the published search. Joint searches are as in OWQ (arXiv 2306.02272) but coarse to fine
template <compute_scalar Scalar>
[[nodiscard]] affine_grid<Scalar> fit_grid(std::span<const Scalar> weights, const grid_options& options,
                                           std::span<const double> importance = {}) {
    using panel = detail::row_major_matrix<Scalar>;
    const panel row = Eigen::Map<const panel>(weights.data(), 1, static_cast<index_t>(weights.size()));
    const std::vector<index_t> live = detail::live_positions(importance);
    const auto search = [&](const panel& taking_part, std::span<const double> its_importance) {
        const auto metric = detail::grid_metric<Scalar>::diagonal(options, its_importance);
        return detail::grid_search<Scalar>(options, metric, taking_part).run().front();
    };
    if (live.empty()) return search(row, importance);
    std::vector<double> of_live;
    for (const index_t j : live) of_live.push_back(importance[static_cast<std::size_t>(j)]);
    return search(detail::columns_of<Scalar>(row, live), of_live);
}

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Fits the grids of any rows of a group of columns; made once for all groups.
template <compute_scalar Scalar>
class grid_fitter {
public:
    using panel = row_major_matrix<Scalar>;

    /// Without H: all columns are alike.
    explicit grid_fitter(const grid_options& options) : options_(options), groups_(1, {grid_metric<Scalar>::plain(options), {}}) {}

    /// Dead columns of H take no part, unless all columns of a group are dead.
    /// @param runs     the groups in the order of processing
    template <class T>
    grid_fitter(const grid_options& options, matrix_view<T> H, std::span<const group_run> runs, std::span<const index_t> order)
        : grid_fitter(options) {
        groups_.resize(runs.size(), groups_.front());
        for (const group_run& run : runs) {
            const auto columns = order.subspan(static_cast<std::size_t>(run.begin), static_cast<std::size_t>(run.end - run.begin));
            std::vector<double> energies;
            for (const index_t j : columns) energies.push_back(static_cast<double>(H(j, j)));
            group_metric& g = groups_[static_cast<std::size_t>(run.group)];
            g.live = live_positions(energies);
            std::vector<index_t> taking_part(columns.begin(), columns.end());
            for (std::size_t k = 0; k < g.live.size(); ++k) taking_part[k] = columns[static_cast<std::size_t>(g.live[k])];
            if (!g.live.empty()) taking_part.resize(g.live.size());
            if (options.range == range_search::output_error || options.range == range_search::row_output_error)
                g.metric = grid_metric<Scalar>::of_columns(options, H, taking_part);
        }
    }

    /// The grids of these rows in group `group`.
    [[nodiscard]] std::vector<affine_grid<Scalar>> fit(index_t group, const panel& weights) const {
        const auto& [metric, live] = groups_.size() == 1 ? groups_.front() : groups_[static_cast<std::size_t>(group)];
        if (live.empty()) return grid_search<Scalar>(options_, metric, weights).run();
        const panel taking_part = columns_of<Scalar>(weights, live);
        return grid_search<Scalar>(options_, metric, taking_part).run();
    }

private:
    struct group_metric {
        grid_metric<Scalar> metric;
        std::vector<index_t> live;  ///< positions of the columns that take part; empty: all
    };

    const grid_options& options_;
    std::vector<group_metric> groups_;
};

/// Refuses the searches that look at H where there is none.
inline void require_search_without_gram(const char* function, const grid_options& options) {
    if (options.range == range_search::output_error || options.range == range_search::row_output_error)
        raise<option_error>(concat(function, ": range must be min_max or mse where no H is passed, it is an output-error search"));
}

/// Grids of the right shapes, with the groups in the order of the columns and nothing fitted.
template <compute_scalar Scalar>
[[nodiscard]] weight_grids<Scalar> make_weight_grids(index_t rows, index_t cols, const grid_options& options) {
    const index_t groups = groups_per_row(options, cols);
    weight_grids<Scalar> grids;
    grids.bits = options.bits;
    grids.zero_point = options.zero_point;
    grids.storage = options.storage;
    grids.group_size = columns_per_group(options, cols);
    grids.scales = matrix<Scalar>(rows, groups);
    grids.zeros = matrix<Scalar>(rows, groups);
    for (const double level : options.levels) grids.levels.push_back(static_cast<Scalar>(level));
    for (index_t j = 0; j < cols; ++j) grids.group_of_column.push_back(j / grids.group_size);
    return grids;
}

/// Fits all grids, each to its group of neighbouring columns of W.
template <compute_scalar Scalar, class T>
[[nodiscard]] weight_grids<Scalar> fit_grids(matrix_view<T> w, const grid_options& options, const grid_fitter<Scalar>& fitter,
                                             executor_ref exec) {
    constexpr index_t panel_rows = 32;  // enough for a product to pay
    weight_grids<Scalar> grids = make_weight_grids<Scalar>(w.rows(), w.cols(), options);
    exec.parallel_for((w.rows() + panel_rows - 1) / panel_rows, [&](index_t task, index_t) {
        const index_t first_row = task * panel_rows;
        const index_t rows = (std::min)(panel_rows, w.rows() - first_row);
        for (index_t g = 0; g < grids.scales.cols(); ++g) {
            const index_t first = g * grids.group_size;
            const auto group = w.block(first_row, first, rows, (std::min)(grids.group_size, w.cols() - first));
            const auto found = fitter.fit(g, load<Scalar>(group));
            for (index_t i = 0; i < rows; ++i) {
                grids.scales(first_row + i, g) = found[static_cast<std::size_t>(i)].scale;
                grids.zeros(first_row + i, g) = found[static_cast<std::size_t>(i)].zero;
            }
        }
    });
    return grids;
}

template <compute_scalar Scalar, class T, class U>
[[nodiscard]] weight_grids<Scalar> fit_grids(matrix_view<T> w, matrix_view<U> h, const grid_options& options, executor_ref exec = {}) {
    const index_t group_size = columns_per_group(options, w.cols());
    const std::vector<index_t> order = order_columns(h, column_order::natural, group_size);
    return fit_grids<Scalar>(w, options, grid_fitter<Scalar>(options, h, group_runs(order, group_size, false), order), exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// Chooses the grids of a weight matrix, each as `fit_grid` does for its group of columns.
///
/// What is returned can be quantized onto later: `quantize_rtn(W, grids)`, `quantize_optq(W, H, grids)`, also with other weights than
/// those it was fitted to.
///
/// Weights of dead columns, H_jj <= dead_threshold * mean, take no part: the grid of a group is that of its other weights, whatever the
/// search. A group in which all are dead has the grid of its weights, as there is nothing else to go by.
///
/// @par Shapes    W: rows x cols, any storage and layout; H: cols x cols
/// @return        the grids, in the precision they will be stored in
/// @par Cost      that of `fit_grid` for each group; row_output_error: a product of W with the group's block of H for each of its passes
/// @par Errors    option_error; shape_error; value_error if an entry is NaN or infinite, or H is not a Gram matrix. All before any work
template <class Weights, class Gram>
[[nodiscard]] auto fit_grids(const Weights& W, const Gram& H, const grid_options& options, executor_ref exec = {}) {
    const auto w = as_const_view(W);
    const auto h = as_const_view(H);
    using scalar = compute_t<typename decltype(w)::value_type>;
    validate(options);
    detail::require_layer("fit_grids", w, h);
    return detail::fit_grids<scalar>(w, detail::live_gram(h, options.dead_threshold).view(), options, exec);
}

/// The same for searches that need no H.
template <class Weights>
[[nodiscard]] auto fit_grids(const Weights& W, const grid_options& options = {}) {
    const auto w = as_const_view(W);
    using scalar = compute_t<typename decltype(w)::value_type>;
    validate(options);
    detail::require_search_without_gram("fit_grids", options);
    detail::require_not_empty("fit_grids", "W", w);
    detail::require_finite("fit_grids", "W", w);
    return detail::fit_grids<scalar>(w, options, detail::grid_fitter<scalar>(options), executor_ref());
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
