// SPDX-License-Identifier: MIT
#pragma once

#include "recorder.hpp"

namespace record {

/// Runs every case.
void run_all(recorder& out);

}  // namespace record
