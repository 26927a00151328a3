// SPDX-License-Identifier: MIT
#pragma once

/// Quantizers of weight matrices: round to nearest, OPTQ with a choice of its damping and bounds of its errors, and OWQ.

#include <magr/bounds/error_bounds.hpp>
#include <magr/calibration/column_order.hpp>
#include <magr/calibration/output_error.hpp>
#include <magr/calibration/underflow.hpp>
#include <magr/calibration/weaken_correlations.hpp>
#include <magr/fit/dint.hpp>
#include <magr/fit/fit_grid.hpp>
#include <magr/grid/grid.hpp>
#include <magr/grid/quantized_matrix.hpp>
#include <magr/grid/rounding.hpp>
#include <magr/grid/storage_type.hpp>
#include <magr/grid/weight_grids.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/owq/owq.hpp>
#include <magr/owq/owq_budget.hpp>
#include <magr/quantize/choose_damping.hpp>
#include <magr/quantize/optq.hpp>
#include <magr/quantize/rtn.hpp>
#include <magr/refine/refine_codes.hpp>
#include <magr/refine/refine_scales.hpp>
