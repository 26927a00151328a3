// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <magr/quantize/code_map.hpp>
#include <magr/quantize/column_order.hpp>
#include <magr/quantize/fit_grid.hpp>
#include <magr/quantize/quantized_matrix.hpp>
#include <magr/quantize/rounding.hpp>
#include <magr/quantize/sequential.hpp>

namespace magr {

/// From which weights the grids of groups are fitted during a sequential quantization.
enum class group_update {
    fixed,  ///< the weights passed in; groups are of neighbouring columns, whatever the order of processing
    live,   ///< the weights as compensated when the group is reached; with act_order groups are formed in the order of processing
    stale   ///< as live, but compensated only for the blocks before the current one: what the published OPTQ code does
};

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// The column quantizer of grids: codes go to a `quantized_matrix`, which also holds the grids.
///
/// It refers to its arguments, which must outlive it.
template <compute_scalar Scalar, rounding_policy<Scalar> Rounding>
class grid_quantizer {
public:
    /// @param out      has its grids, and gets the codes, in the order of the original columns
    /// @param order    original columns in the order of processing
    grid_quantizer(quantized_matrix<Scalar>& out, std::span<const index_t> order, Rounding rounding)
        : out_(out),
          order_(order),
          rounding_(std::move(rounding)),
          scales_(out.scales.cols(), out.rows()),
          zeros_(out.scales.cols(), out.rows()) {
        for (index_t i = 0; i < out.rows(); ++i)
            for (index_t g = 0; g < out.scales.cols(); ++g) {
                scales_(g, i) = out.scales(i, g);
                zeros_(g, i) = out.zeros(i, g);
            }
    }

    /// Rounds column k of the order.
    void operator()(index_t k, index_t first_row, std::span<const Scalar> weights, std::span<Scalar> rounded) {
        const index_t column = order_[static_cast<std::size_t>(k)];
        const index_t group = out_.group_of_column[static_cast<std::size_t>(column)];
        const auto rows = static_cast<index_t>(weights.size());
        const Scalar* const scales = &scales_(group, first_row);
        const Scalar* const zeros = &zeros_(group, first_row);
        const Scalar* const in = weights.data();
        Scalar* const out = rounded.data();
        with_code_map(out_, [&](const auto& map_of) {
            // two loops, so that the arithmetic vectorizes although the codes of a column are far apart
            std::int32_t clipped = 0;
            for (index_t i = 0; i < rows; ++i) {
                const auto map = map_of(scales[i], zeros[i]);
                const Scalar wanted = map.steps(in[i]);
                const Scalar limited = limited_steps(map, wanted);
                clipped += std::abs(wanted - limited) <= Scalar(0.5) ? 0 : 1;
                out[i] = rounding_(limited, first_row + i, column);
            }
            clipped_ += clipped;
            for (index_t i = 0; i < rows; ++i) {
                const auto map = map_of(scales[i], zeros[i]);
                out_.codes(first_row + i, column) = static_cast<std::uint8_t>(map.code(out[i]));
                out[i] = map.weight(out[i]);
            }
        });
    }

    /// Weights that were rounded from a value more than half a step outside of their grid.
    [[nodiscard]] index_t clipped() const noexcept { return clipped_; }

protected:
    void set_grid(index_t row, index_t group, affine_grid<Scalar> grid) {
        out_.scales(row, group) = scales_(group, row) = grid.scale;
        out_.zeros(row, group) = zeros_(group, row) = grid.zero;
    }

    quantized_matrix<Scalar>& out_;
    std::span<const index_t> order_;

private:
    Rounding rounding_;
    matrix<Scalar> scales_;  // groups x rows: the grids of a group are contiguous
    matrix<Scalar> zeros_;
    index_t clipped_ = 0;
};

/// The same, which fits the grids of a group when it is reached.
template <compute_scalar Scalar, rounding_policy<Scalar> Rounding>
class fitting_quantizer : public grid_quantizer<Scalar, Rounding> {
public:
    /// @param runs     the groups in the order of processing
    /// @param update   live or stale
    fitting_quantizer(quantized_matrix<Scalar>& out, std::span<const index_t> order, Rounding rounding, const std::vector<group_run>& runs,
                      const grid_fitter<Scalar>& fitter, group_update update)
        : grid_quantizer<Scalar, Rounding>(out, order, std::move(rounding)), fitter_(fitter), update_(update), run_at_(order.size()) {
        for (const group_run& run : runs) {
            run_at_[static_cast<std::size_t>(run.begin)] = run;
            for (index_t k = run.begin; k < run.end; ++k)
                out.group_of_column[static_cast<std::size_t>(order[static_cast<std::size_t>(k)])] = run.group;
        }
    }

    void prepare(index_t k, const sequential_window<Scalar>& window) {
        const group_run& run = run_at_[static_cast<std::size_t>(k)];
        if (run.end == 0) return;  // no group begins here
        const auto weights = window.least_squares_weights(update_ == group_update::live ? k : window.block_begin(), k, run.end);
        const auto found = fitter_.fit(run.group, weights);
        for (index_t i = 0; i < weights.rows(); ++i) this->set_grid(window.first_row() + i, run.group, found[static_cast<std::size_t>(i)]);
    }

private:
    const grid_fitter<Scalar>& fitter_;
    group_update update_;
    std::vector<group_run> run_at_;  // by position; end is 0 where no group begins
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr
