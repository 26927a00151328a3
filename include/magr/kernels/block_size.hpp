// SPDX-License-Identifier: MIT
#pragma once

#include <magr/matrix/matrix_view.hpp>

namespace magr::kernels {
inline namespace MAGR_ISA_NAMESPACE {

/// Elements of one block: what a buffer on the stack holds, and what is summed in the type of the vector before double takes over.
inline constexpr index_t block_size = 1024;

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::kernels
