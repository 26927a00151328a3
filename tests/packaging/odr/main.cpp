// SPDX-License-Identifier: MIT
// A second unit of the program that includes everything. The unit for another instruction set is linked but not run, because the processor
// may lack it.
#include <cmath>

#include <magr/magr.hpp>

double baseline();

int main() { return std::isfinite(baseline()) ? 0 : 1; }
