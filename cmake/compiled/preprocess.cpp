// SPDX-License-Identifier: MIT
#include <magr/preprocess/run_preprocess.hpp>
