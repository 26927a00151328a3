// SPDX-License-Identifier: MIT
#include <magr/calibration/check_hessian.hpp>
#include <magr/calibration/measure_output.hpp>
