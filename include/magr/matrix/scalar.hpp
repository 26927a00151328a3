// SPDX-License-Identifier: MIT
#pragma once

#include <type_traits>

// Declared as in Eigen, so that code without matrices of them does not need <Eigen/Core>.
namespace Eigen {
struct half;
struct bfloat16;
}  // namespace Eigen

namespace magr {

/// Element types in which a matrix may be stored. The 16-bit types are for storage only; the library computes with them in float.
template <class T>
concept storage_scalar =
    std::is_same_v<T, float> || std::is_same_v<T, double> || std::is_same_v<T, Eigen::half> || std::is_same_v<T, Eigen::bfloat16>;

/// Element types in which the library computes.
template <class T>
concept compute_scalar = std::is_same_v<T, float> || std::is_same_v<T, double>;

/// The arithmetic type of a storage type: double for double, float for all others.
template <storage_scalar T>
using compute_t = std::conditional_t<std::is_same_v<T, double>, double, float>;

}  // namespace magr
