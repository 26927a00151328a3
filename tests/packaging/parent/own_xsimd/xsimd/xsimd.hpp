// SPDX-License-Identifier: MIT
// Lies in front of the real header, so that the program can see which folder the project's target named.
#define PARENT_OWN_XSIMD
#include_next <xsimd/xsimd.hpp>
