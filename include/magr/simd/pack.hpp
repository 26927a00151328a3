// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>

#include <magr/config.hpp>

/// The few vector operations that kernels need, once for xsimd batches and once for plain scalars, so that a kernel is written once.
namespace magr::simd {

/// Stands for "no vector instructions"; packs are then single numbers.
struct scalar_arch {};

#if MAGR_HAS_XSIMD
using default_arch = xsimd::default_arch;
#else
using default_arch = scalar_arch;
#endif

inline namespace MAGR_ISA_NAMESPACE {

/// The register type of T on Arch and how many elements it holds.
#if MAGR_HAS_XSIMD
template <class T, class Arch>
struct pack_traits {
    using type = xsimd::batch<T, Arch>;
    static constexpr std::ptrdiff_t lanes = static_cast<std::ptrdiff_t>(type::size);
    static MAGR_ALWAYS_INLINE type broadcast(T value) noexcept { return type(value); }
    static MAGR_ALWAYS_INLINE type load(const T* p) noexcept { return type::load_unaligned(p); }
};
#else
template <class T, class Arch>
struct pack_traits;
#endif

template <class T>
struct pack_traits<T, scalar_arch> {
    using type = T;
    static constexpr std::ptrdiff_t lanes = 1;
    static MAGR_ALWAYS_INLINE type broadcast(T value) noexcept { return value; }
    static MAGR_ALWAYS_INLINE type load(const T* p) noexcept { return *p; }
};

template <class T, class Arch>
using pack = typename pack_traits<T, Arch>::type;

MAGR_ALWAYS_INLINE float abs(float a) noexcept { return __builtin_fabsf(a); }
MAGR_ALWAYS_INLINE double abs(double a) noexcept { return __builtin_fabs(a); }
template <class T>
MAGR_ALWAYS_INLINE T max(T a, T b) noexcept { return a > b ? a : b; }
template <class T>
MAGR_ALWAYS_INLINE T min(T a, T b) noexcept { return a < b ? a : b; }
template <class T>
MAGR_ALWAYS_INLINE T select(bool condition, T a, T b) noexcept { return condition ? a : b; }
MAGR_ALWAYS_INLINE float copysign(float magnitude, float sign) noexcept { return __builtin_copysignf(magnitude, sign); }
MAGR_ALWAYS_INLINE double copysign(double magnitude, double sign) noexcept { return __builtin_copysign(magnitude, sign); }
template <class T>
MAGR_ALWAYS_INLINE void store(T* p, T a) noexcept { *p = a; }
template <class T>
MAGR_ALWAYS_INLINE T reduce_add(T a) noexcept { return a; }

#if MAGR_HAS_XSIMD
template <class T, class A>
MAGR_ALWAYS_INLINE xsimd::batch<T, A> abs(const xsimd::batch<T, A>& a) noexcept { return xsimd::abs(a); }
template <class T, class A>
MAGR_ALWAYS_INLINE xsimd::batch<T, A> max(const xsimd::batch<T, A>& a, const xsimd::batch<T, A>& b) noexcept { return xsimd::max(a, b); }
template <class T, class A>
MAGR_ALWAYS_INLINE xsimd::batch<T, A> min(const xsimd::batch<T, A>& a, const xsimd::batch<T, A>& b) noexcept { return xsimd::min(a, b); }
template <class T, class A>
MAGR_ALWAYS_INLINE xsimd::batch<T, A> select(const xsimd::batch_bool<T, A>& c, const xsimd::batch<T, A>& a, const xsimd::batch<T, A>& b) noexcept {
    return xsimd::select(c, a, b);
}
template <class T, class A>
MAGR_ALWAYS_INLINE xsimd::batch<T, A> copysign(const xsimd::batch<T, A>& magnitude, const xsimd::batch<T, A>& sign) noexcept {
    return xsimd::copysign(magnitude, sign);
}
template <class T, class A>
MAGR_ALWAYS_INLINE void store(T* p, const xsimd::batch<T, A>& a) noexcept { a.store_unaligned(p); }
template <class T, class A>
MAGR_ALWAYS_INLINE T reduce_add(const xsimd::batch<T, A>& a) noexcept {
#if XSIMD_VERSION_MAJOR >= 9
    return xsimd::reduce_add(a);
#else
    return xsimd::hadd(a);
#endif
}
#endif

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::simd
