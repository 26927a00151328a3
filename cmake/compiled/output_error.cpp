// SPDX-License-Identifier: MIT
#include <magr/quantize/measure_output.hpp>
