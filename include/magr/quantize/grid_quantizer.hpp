// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include <magr/calibration/column_order.hpp>
#include <magr/fit/grid_fitter.hpp>
#include <magr/grid/code_map.hpp>
#include <magr/grid/quantized_matrix.hpp>
#include <magr/grid/rounding.hpp>
#include <magr/quantize/optq_options.hpp>
#include <magr/sequential/sequential_window.hpp>

namespace magr {
namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// What quantizers that round columns to grids have in common, whatever the rounding. Codes go to a `quantized_matrix`, which also holds
/// the grids.
///
/// It keeps references to its arguments, which must outlive it.
template <compute_scalar Scalar>
class grid_columns {
public:
    /// @param out      holds the grids, and receives the codes, in the order of the original columns
    /// @param order    original columns in the order of processing
    /// @param pivots   of the factor of H in that order: 0 for dead columns, whose clipped weights are not counted
    grid_columns(quantized_matrix<Scalar>& out, std::span<const index_t> order, std::span<const double> pivots)
        : out_(out),
          order_(order),
          pivots_(pivots),
          scales_(out.scales.cols(), out.rows()),
          zeros_(out.scales.cols(), out.rows()),
          codes_(out.cols(), out.rows()),
          clipped_(static_cast<std::size_t>(out.rows())) {
        for (index_t i = 0; i < out.rows(); ++i)
            for (index_t g = 0; g < out.scales.cols(); ++g) {
                scales_(g, i) = out.scales(i, g);
                zeros_(g, i) = out.zeros(i, g);
            }
    }

    /// Copies the codes of some rows to `out`, after all of their columns are rounded.
    void store_codes(index_t first_row, index_t rows) {
        constexpr index_t width = 64, height = 32;  // tiles are read by columns and written by rows
        std::uint8_t tile[height * width];
        for (index_t i0 = 0; i0 < rows; i0 += height)
            for (index_t j0 = 0; j0 < codes_.rows(); j0 += width) {
                const index_t high = (std::min)(height, rows - i0), wide = (std::min)(width, codes_.rows() - j0);
                for (index_t j = 0; j < wide; ++j) {
                    const std::uint8_t* const column = &codes_(j0 + j, first_row + i0);
                    for (index_t i = 0; i < high; ++i) tile[i * width + j] = column[i];
                }
                for (index_t i = 0; i < high; ++i) std::copy_n(tile + i * width, wide, &out_.codes(first_row + i0 + i, j0));
            }
    }

    /// The number of weights of live columns that were rounded from a value more than half a step outside of their grid.
    [[nodiscard]] index_t clipped() const { return std::accumulate(clipped_.begin(), clipped_.end(), index_t{0}); }

protected:
    void set_grid(index_t row, index_t group, affine_grid<Scalar> grid) {
        out_.scales(row, group) = scales_(group, row) = grid.scale;
        out_.zeros(row, group) = zeros_(group, row) = grid.zero;
    }

    /// steps <- weights of column k of the order in steps of their grids, limited to these
    void limit(index_t k, index_t first_row, std::span<const Scalar> weights, std::span<Scalar> steps) {
        const index_t group = group_of(k);
        const Scalar *const scales = &scales_(group, first_row), *const zeros = &zeros_(group, first_row);
        with_code_map(out_, [&, in = weights.data(), out = steps.data()](const auto& map_of) {
            const auto rows = static_cast<index_t>(weights.size());
            std::int32_t clipped = 0;
            for (index_t i = 0; i < rows; ++i) {
                const auto map = map_of(scales[i], zeros[i]);
                const Scalar wanted = map.steps(in[i]);
                const Scalar limited = limited_steps(map, wanted);
                clipped += std::abs(wanted - limited) <= Scalar(0.5) ? 0 : 1;
                out[i] = limited;
            }
            if (pivots_[static_cast<std::size_t>(k)] > 0) clipped_[static_cast<std::size_t>(first_row)] += clipped;
        });
    }
    /// Stores the codes of rounded steps. steps <- their weights
    void take(index_t k, index_t first_row, std::span<Scalar> steps) {
        const index_t group = group_of(k);
        const Scalar *const scales = &scales_(group, first_row), *const zeros = &zeros_(group, first_row);
        with_code_map(out_, [&, out = steps.data(), codes = &codes_(column(k), first_row)](const auto& map_of) {
            const auto rows = static_cast<index_t>(steps.size());
            for (index_t i = 0; i < rows; ++i) {
                const auto map = map_of(scales[i], zeros[i]);
                codes[i] = static_cast<std::uint8_t>(map.code(out[i]));
                out[i] = map.weight(out[i]);
            }
        });
    }
    [[nodiscard]] index_t column(index_t k) const { return order_[static_cast<std::size_t>(k)]; }

    quantized_matrix<Scalar>& out_;
    std::span<const index_t> order_;

private:
    [[nodiscard]] index_t group_of(index_t k) const { return out_.group_of_column[static_cast<std::size_t>(column(k))]; }

    std::span<const double> pivots_;
    matrix<Scalar> scales_;  // groups x rows: the grids of a group are contiguous
    matrix<Scalar> zeros_;
    matrix<std::uint8_t> codes_;    // columns x rows: those of one column are written together
    std::vector<index_t> clipped_;  // one counter per strip of rows, at its first row, because tasks must not share one
};

/// Rounds columns to grids.
template <compute_scalar Scalar, rounding_policy<Scalar> Rounding>
class grid_quantizer : public grid_columns<Scalar> {
public:
    grid_quantizer(quantized_matrix<Scalar>& out, std::span<const index_t> order, std::span<const double> pivots, Rounding rounding)
        : grid_columns<Scalar>(out, order, pivots), rounding_(std::move(rounding)) {}

    /// Rounds column k of the order, in some rows. Several threads may call this at once for different rows.
    void operator()(index_t k, index_t first_row, std::span<const Scalar> weights, std::span<Scalar> rounded) {
        this->limit(k, first_row, weights, rounded);
        const index_t column = this->column(k), rows = static_cast<index_t>(rounded.size());
        Scalar* const steps = rounded.data();
        for (index_t i = 0; i < rows; ++i) steps[i] = rounding_(steps[i], first_row + i, column);
        this->take(k, first_row, rounded);
    }

private:
    Rounding rounding_;
};

/// The grids of a group, fitted to what the weights of its columns are by least squares. See `sequential_window`.
template <compute_scalar Scalar>
[[nodiscard]] std::vector<affine_grid<Scalar>> fit_group(const grid_fitter<Scalar>& fitter, const group_run& run,
                                                         const sequential_window<Scalar>& window, index_t given, index_t first) {
    return fitter.fit(run.group, window.least_squares_weights(given, first, run.end));
}

/// The same, but fits the grids of a group when it reaches the group.
template <compute_scalar Scalar, rounding_policy<Scalar> Rounding>
class fitting_quantizer : public grid_quantizer<Scalar, Rounding> {
public:
    /// @param runs     the groups in the order of processing
    /// @param update   live or stale
    fitting_quantizer(quantized_matrix<Scalar>& out, std::span<const index_t> order, std::span<const double> pivots, Rounding rounding,
                      const std::vector<group_run>& runs, const grid_fitter<Scalar>& fitter, group_update update)
        : grid_quantizer<Scalar, Rounding>(out, order, pivots, std::move(rounding)),
          fitter_(fitter),
          update_(update),
          run_at_(order.size()) {
        for (const group_run& run : runs) {
            run_at_[static_cast<std::size_t>(run.begin)] = run;
            for (index_t k = run.begin; k < run.end; ++k)
                out.group_of_column[static_cast<std::size_t>(order[static_cast<std::size_t>(k)])] = run.group;
        }
    }

    void prepare(index_t k, const sequential_window<Scalar>& window) {
        const group_run& run = run_at_[static_cast<std::size_t>(k)];
        if (run.end == 0) return;  // no group begins here
        const auto found = fit_group(fitter_, run, window, update_ == group_update::live ? k : window.block_begin(), k);
        for (std::size_t i = 0; i < found.size(); ++i) this->set_grid(window.first_row() + static_cast<index_t>(i), run.group, found[i]);
    }

private:
    const grid_fitter<Scalar>& fitter_;
    group_update update_;
    std::vector<group_run> run_at_;  // by position; end is 0 where no group begins
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr
