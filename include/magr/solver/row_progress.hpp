// SPDX-License-Identifier: MIT
#pragma once

#include <magr/solver/row_bounds.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Where `row_solver` is with a row.
struct row_progress {
    double scale = 1;
    double alpha = 0;      // in the scale of the row
    double curvature = 0;  // estimate of e^T H_d e / e^T M e
    double energy = 0;     // x^T H x of the last x that was measured
    double rounding = 0;   // how far rounding may have taken a measured energy from the true one
    double norm = 0;       // x^T x
    row_bounds bounds;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
