// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <vector>

#include <magr/calibration/column_order.hpp>
#include <magr/config.hpp>
#include <magr/detail/validate.hpp>

namespace magr {

/// Options of `quantize_boa`; `grid_options` describe the grids.
struct boa_options {
    double damping = 1e-2;  ///< added to the diagonals of H and of each row Hessian, as a fraction of their means over live entries, >= 0
    column_order order = column_order::natural;      ///< in which order columns are quantized
    column_order row_order = column_order::natural;  ///< in which order the rows of a head are: natural, or act_order by diag(H_row)
    index_t rows_per_step = 1;  ///< rows of a head that are rounded together, >= 1: 1 is BoA, more is TurboBoA, a whole head is OPTQ
    index_t scale_passes = 0;   ///< passes over the rows of a head that refine its scales in the end, >= 0; see `quantize_boa`
    double dead_threshold = 0;  ///< columns with H_jj <= this fraction of the mean are dead, in [0, 1)
    bool raise_damping = true;  ///< whether to increase the damping of a matrix that cannot be factored, see `factor_feedback`
};

inline namespace MAGR_ISA_NAMESPACE {

/// Every problem of these options; empty if there is none.
[[nodiscard]] MAGR_CORE std::vector<std::string> problems(const boa_options& options);

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/attention/boa_options_impl.hpp>
#endif
