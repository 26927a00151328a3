// SPDX-License-Identifier: MIT
#pragma once

/// Whether options suit a matrix, a method and a format, before hours of work.

#include <magr/layer/automatic.hpp>
#include <magr/layer/validation.hpp>
