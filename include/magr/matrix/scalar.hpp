// SPDX-License-Identifier: MIT
#pragma once

#include <type_traits>

// As Eigen declares them: who has no matrix of them does not need <Eigen/Core>.
namespace Eigen {
struct half;
struct bfloat16;
}  // namespace Eigen

namespace magr {

/// Element types a matrix may be stored in. The 16-bit ones are only storage: arithmetic on them is done in float.
template <class T>
concept storage_scalar =
    std::is_same_v<T, float> || std::is_same_v<T, double> || std::is_same_v<T, Eigen::half> || std::is_same_v<T, Eigen::bfloat16>;

/// Element types that arithmetic is done in.
template <class T>
concept compute_scalar = std::is_same_v<T, float> || std::is_same_v<T, double>;

/// The arithmetic type of a storage type: double for double, float for all others.
template <storage_scalar T>
using compute_t = std::conditional_t<std::is_same_v<T, double>, double, float>;

}  // namespace magr
