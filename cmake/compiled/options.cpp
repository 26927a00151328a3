// SPDX-License-Identifier: MIT
#include <magr/grid/grid_problems.hpp>
#include <magr/layer/layer_problems.hpp>
#include <magr/layer/validate_layer.hpp>
#include <magr/pack/format_problems.hpp>
#include <magr/preprocess/preprocess_problems.hpp>
#include <magr/quantize/optq_problems.hpp>
