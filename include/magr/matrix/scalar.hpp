// SPDX-License-Identifier: MIT
#pragma once

#include <type_traits>

// Declared as in Eigen, so that code without matrices of them does not need <Eigen/Core>.
namespace Eigen {
struct half;
struct bfloat16;
}  // namespace Eigen

/// Whether the compiler has `_Float16` (g++ 12 and clang 15 on x86 with SSE2, g++ 13 on others); it is also `std::float16_t`. On ARM g++ 12
/// has the macro in C++, too, but not the type.
#if defined(__FLT16_MAX__) && (defined(__clang__) || !defined(__GNUC__) || __GNUC__ >= 13 || defined(__SSE2__))
#define MAGR_HAS_FLOAT16 1
#else
#define MAGR_HAS_FLOAT16 0
#endif

/// Whether the compiler has a `__bf16` that converts to float (g++ 13, clang 17); it is also `std::bfloat16_t`. Clang has no macro for it.
#if defined(__BFLT16_MAX__) || (defined(__clang__) && __clang_major__ >= 17 && (defined(__SSE2__) || defined(__aarch64__)))
#define MAGR_HAS_BF16 1
#else
#define MAGR_HAS_BF16 0
#endif

namespace magr {
namespace detail {

template <class T, class... Types>
concept one_of = (std::is_same_v<T, Types> || ...);

/// Types of 16 bits with the 5 exponent bits of IEEE 754.
#if MAGR_HAS_FLOAT16
template <class T>
concept half_scalar = one_of<T, Eigen::half, _Float16>;
#else
template <class T>
concept half_scalar = one_of<T, Eigen::half>;
#endif

/// Types that are the upper 16 bits of a float.
#if MAGR_HAS_BF16
template <class T>
concept bfloat16_scalar = one_of<T, Eigen::bfloat16, __bf16>;
#else
template <class T>
concept bfloat16_scalar = one_of<T, Eigen::bfloat16>;
#endif

}  // namespace detail

/// Element types in which the library computes.
template <class T>
concept compute_scalar = detail::one_of<T, float, double>;

/// Element types in which a matrix may be stored: float, double, `Eigen::half`, `Eigen::bfloat16`, and `_Float16` and `__bf16`
/// (`std::float16_t`, `std::bfloat16_t`) of compilers that have them. The 16-bit types are for storage only; the library computes with
/// them in float.
template <class T>
concept storage_scalar = compute_scalar<T> || detail::half_scalar<T> || detail::bfloat16_scalar<T>;

/// The arithmetic type of a storage type: double for double, float for all others.
template <storage_scalar T>
using compute_t = std::conditional_t<std::is_same_v<T, double>, double, float>;

}  // namespace magr
