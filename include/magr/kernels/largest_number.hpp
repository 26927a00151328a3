// SPDX-License-Identifier: MIT
#pragma once

#include <magr/config.hpp>

namespace magr::kernels {
inline namespace MAGR_ISA_NAMESPACE {

/// The largest finite number of type T.
template <class T>
inline constexpr T largest_number = sizeof(T) == sizeof(float) ? static_cast<T>(__FLT_MAX__) : static_cast<T>(__DBL_MAX__);

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::kernels
