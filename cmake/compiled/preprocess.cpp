// SPDX-License-Identifier: MIT
#include <magr/preprocess/core_impl.hpp>
