// SPDX-License-Identifier: MIT
#include <magr/calibration/hessian_impl.hpp>
#include <magr/calibration/output_meter_impl.hpp>
