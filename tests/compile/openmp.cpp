// SPDX-License-Identifier: MIT
#include <magr/parallel/openmp.hpp>
