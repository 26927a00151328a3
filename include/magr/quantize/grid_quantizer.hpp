// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <magr/quantize/fit_grid.hpp>
#include <magr/quantize/quantized_matrix.hpp>
#include <magr/quantize/rounding.hpp>
#include <magr/quantize/sequential.hpp>

namespace magr {

/// From which weights the grids of groups are fitted during a sequential quantization.
enum class group_update {
    fixed,  ///< the weights passed in; groups are of neighbouring columns, whatever the order of processing
    live,   ///< the weights as compensated when the group is reached; groups are formed in the order of processing
    stale   ///< as live, but compensated only for the blocks before the current one: what the published OPTQ code does
};

inline namespace MAGR_ISA_NAMESPACE {

/// The column quantizer of affine grids: codes go to a `quantized_matrix`, which also holds the grids.
///
/// It refers to its arguments, which must outlive it.
///
/// @tparam Rounding a `rounding_policy`
template <compute_scalar Scalar, rounding_policy<Scalar> Rounding = round_half_even>
class grid_quantizer {
public:
    /// @param out      gets the codes, in the order of the original columns; with `fixed` its grids must have been fitted, otherwise grids
    ///                 and groups are filled in
    /// @param order    original columns in the order of processing
    grid_quantizer(quantized_matrix<Scalar>& out, const grid_options& options, std::span<const index_t> order, group_update update,
                   Rounding rounding = {})
        : out_(out),
          options_(options),
          order_(order),
          update_(update),
          rounding_(std::move(rounding)),
          scales_(out.scales.cols(), out.rows()),
          zeros_(out.scales.cols(), out.rows()) {
        if (update_ == group_update::fixed) {
            for (index_t i = 0; i < out.rows(); ++i)
                for (index_t g = 0; g < out.scales.cols(); ++g) set_grid(i, g, {out.scales(i, g), out.zeros(i, g)});
        } else {
            for (index_t k = 0; k < out.cols(); ++k) group_of(k) = k / out.group_size;
        }
    }

    /// Fits the grids of the group that starts at column k of the order, unless they are fixed.
    void prepare(index_t k, const sequential_window<Scalar>& window) {
        if (update_ == group_update::fixed || k % out_.group_size != 0) return;
        const index_t last = std::min(k + out_.group_size, out_.cols());
        const auto weights = window.least_squares_weights(update_ == group_update::live ? k : window.block_begin(), k, last);
        std::vector<Scalar> row(static_cast<std::size_t>(last - k));
        for (index_t i = 0; i < weights.rows(); ++i) {
            for (index_t j = 0; j < weights.cols(); ++j) row[static_cast<std::size_t>(j)] = weights(i, j);
            set_grid(window.first_row() + i, k / out_.group_size, fit_grid<Scalar>(row, options_));
        }
    }

    /// Rounds column k of the order.
    void operator()(index_t k, index_t first_row, std::span<const Scalar> weights, std::span<Scalar> rounded) {
        const index_t column = order_[static_cast<std::size_t>(k)];
        const index_t group = group_of(k);
        const auto rows = static_cast<index_t>(weights.size());
        const auto largest = static_cast<Scalar>(largest_code(options_.bits));
        const Scalar* const scales = &scales_(group, first_row);
        const Scalar* const zeros = &zeros_(group, first_row);
        const Scalar* const in = weights.data();
        Scalar* const out = rounded.data();
        // two loops, so that the arithmetic vectorizes although the codes of a column are far apart
        for (index_t i = 0; i < rows; ++i) out[i] = steps_on_grid(in[i], scales[i], zeros[i], largest, first_row + i, column, rounding_);
        for (index_t i = 0; i < rows; ++i) {
            out_.codes(first_row + i, column) = static_cast<std::uint8_t>(out[i] + zeros[i]);
            out[i] *= scales[i];
        }
    }

private:
    index_t& group_of(index_t k) { return out_.group_of_column[static_cast<std::size_t>(order_[static_cast<std::size_t>(k)])]; }

    void set_grid(index_t row, index_t group, affine_grid<Scalar> grid) {
        out_.scales(row, group) = scales_(group, row) = grid.scale;
        out_.zeros(row, group) = zeros_(group, row) = grid.zero;
    }

    quantized_matrix<Scalar>& out_;
    const grid_options& options_;
    std::span<const index_t> order_;
    group_update update_;
    Rounding rounding_;
    matrix<Scalar> scales_;  // groups x rows: the grids of a group are contiguous
    matrix<Scalar> zeros_;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
