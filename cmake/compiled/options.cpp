// SPDX-License-Identifier: MIT
#include <magr/grid/grid_impl.hpp>
#include <magr/layer/options_impl.hpp>
#include <magr/layer/validation_impl.hpp>
#include <magr/pack/format_impl.hpp>
#include <magr/preprocess/options_impl.hpp>
#include <magr/quantize/optq_options_impl.hpp>
