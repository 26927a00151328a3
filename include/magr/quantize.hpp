// SPDX-License-Identifier: MIT
#pragma once

/// Quantizers of weight matrices: round to nearest, and OPTQ.

#include <magr/calibration/output_error.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/quantize/column_order.hpp>
#include <magr/quantize/fit_grid.hpp>
#include <magr/quantize/grid.hpp>
#include <magr/quantize/optq.hpp>
#include <magr/quantize/quantized_matrix.hpp>
#include <magr/quantize/refine_codes.hpp>
#include <magr/quantize/refine_scales.hpp>
#include <magr/quantize/rounding.hpp>
#include <magr/quantize/rtn.hpp>
#include <magr/quantize/storage_type.hpp>
#include <magr/quantize/weight_grids.hpp>
