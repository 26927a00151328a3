// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <cstddef>
#include <utility>

#include <magr/config.hpp>
#if MAGR_HAS_XSIMD
#include <xsimd/xsimd.hpp>
#endif

/// The few vector operations that kernels need, for xsimd batches and for plain scalars, so that each kernel is written once.
namespace magr::simd {

/// Stands for "no vector instructions": packs are then single numbers.
struct scalar_arch {};

#if MAGR_HAS_XSIMD
using default_arch = xsimd::default_arch;
#else
using default_arch = scalar_arch;
#endif

inline namespace MAGR_ISA_NAMESPACE {

/// The register type of T on Arch, and the number of its elements.
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

/// The number of registers that Arch has for packs.
template <class Arch>
inline constexpr std::ptrdiff_t register_count = 16;
#if MAGR_HAS_XSIMD
template <class Arch>
    requires std::derived_from<Arch, xsimd::avx512f> || std::derived_from<Arch, xsimd::neon64>
inline constexpr std::ptrdiff_t register_count<Arch> = 32;
#endif

template <class T, class Arch>
using pack = typename pack_traits<T, Arch>::type;

MAGR_ALWAYS_INLINE float abs(float a) noexcept { return __builtin_fabsf(a); }
MAGR_ALWAYS_INLINE double abs(double a) noexcept { return __builtin_fabs(a); }
template <class T>
MAGR_ALWAYS_INLINE T(max)(T a, T b) noexcept {
    return a > b ? a : b;
}
template <class T>
MAGR_ALWAYS_INLINE T(min)(T a, T b) noexcept {
    return a < b ? a : b;
}
template <class T>
MAGR_ALWAYS_INLINE T select(bool condition, T a, T b) noexcept {
    return condition ? a : b;
}
MAGR_ALWAYS_INLINE float copysign(float magnitude, float sign) noexcept { return __builtin_copysignf(magnitude, sign); }
MAGR_ALWAYS_INLINE double copysign(double magnitude, double sign) noexcept { return __builtin_copysign(magnitude, sign); }
/// The nearest integer, half-way cases to even.
MAGR_ALWAYS_INLINE float rint(float a) noexcept { return __builtin_rintf(a); }
MAGR_ALWAYS_INLINE double rint(double a) noexcept { return __builtin_rint(a); }
/// a * b + c, rounded once if the instruction set has an instruction for it, else twice: never a call into the C library.
#if defined(__FMA__) || defined(__AVX512F__) || defined(__ARM_FEATURE_FMA)
MAGR_ALWAYS_INLINE float fma(float a, float b, float c) noexcept { return __builtin_fmaf(a, b, c); }
MAGR_ALWAYS_INLINE double fma(double a, double b, double c) noexcept { return __builtin_fma(a, b, c); }
#else
template <class T>
MAGR_ALWAYS_INLINE T fma(T a, T b, T c) noexcept {
    return a * b + c;
}
#endif
MAGR_ALWAYS_INLINE bool any(bool condition) noexcept { return condition; }
template <class T>
MAGR_ALWAYS_INLINE void store(T* p, T a) noexcept {
    *p = a;
}
template <class T>
MAGR_ALWAYS_INLINE T reduce_add(T a) noexcept {
    return a;
}

/// The same pack with elements k and k ^ Stride exchanged.
/// @pre  Stride is a power of two, less than the number of lanes
template <std::ptrdiff_t Stride, class T, class Arch>
MAGR_ALWAYS_INLINE pack<T, Arch> exchange_lanes(const pack<T, Arch>& a) noexcept {
    constexpr std::ptrdiff_t lanes = pack_traits<T, Arch>::lanes;
    typedef T row __attribute__((vector_size(sizeof(T) * static_cast<std::size_t>(lanes))));
    static_assert(sizeof(row) == sizeof(a));
    row in, out;
    __builtin_memcpy(&in, &a, sizeof(row));
    [&]<std::ptrdiff_t... K>(std::integer_sequence<std::ptrdiff_t, K...>) {
        out = __builtin_shufflevector(in, in, (K ^ Stride)...);
    }(std::make_integer_sequence<std::ptrdiff_t, lanes>{});
    pack<T, Arch> result = a;
    __builtin_memcpy(&result, &out, sizeof(row));
    return result;
}

#if MAGR_HAS_XSIMD
template <class T, class A>
MAGR_ALWAYS_INLINE xsimd::batch<T, A> abs(const xsimd::batch<T, A>& a) noexcept {
    return xsimd::abs(a);
}
template <class T, class A>
MAGR_ALWAYS_INLINE xsimd::batch<T, A>(max)(const xsimd::batch<T, A>& a, const xsimd::batch<T, A>& b) noexcept {
    return (xsimd::max)(a, b);
}
template <class T, class A>
MAGR_ALWAYS_INLINE xsimd::batch<T, A>(min)(const xsimd::batch<T, A>& a, const xsimd::batch<T, A>& b) noexcept {
    return (xsimd::min)(a, b);
}
template <class T, class A>
MAGR_ALWAYS_INLINE xsimd::batch<T, A> select(const xsimd::batch_bool<T, A>& c, const xsimd::batch<T, A>& a,
                                             const xsimd::batch<T, A>& b) noexcept {
    return xsimd::select(c, a, b);
}
template <class T, class A>
MAGR_ALWAYS_INLINE xsimd::batch<T, A> copysign(const xsimd::batch<T, A>& magnitude, const xsimd::batch<T, A>& sign) noexcept {
    return xsimd::copysign(magnitude, sign);
}
template <class T, class A>
MAGR_ALWAYS_INLINE xsimd::batch<T, A> rint(const xsimd::batch<T, A>& a) noexcept {
    return xsimd::rint(a);
}
template <class T, class A>
MAGR_ALWAYS_INLINE xsimd::batch<T, A> fma(const xsimd::batch<T, A>& a, const xsimd::batch<T, A>& b, const xsimd::batch<T, A>& c) noexcept {
    return xsimd::fma(a, b, c);
}
#if defined(__AVX512F__)  // xsimd 8 does not use it for these types, but multiplies and then adds
template <std::derived_from<xsimd::avx512f> A>
MAGR_ALWAYS_INLINE xsimd::batch<float, A> fma(const xsimd::batch<float, A>& a, const xsimd::batch<float, A>& b,
                                              const xsimd::batch<float, A>& c) noexcept {
    return _mm512_fmadd_ps(a, b, c);
}
template <std::derived_from<xsimd::avx512f> A>
MAGR_ALWAYS_INLINE xsimd::batch<double, A> fma(const xsimd::batch<double, A>& a, const xsimd::batch<double, A>& b,
                                               const xsimd::batch<double, A>& c) noexcept {
    return _mm512_fmadd_pd(a, b, c);
}
#endif
template <class T, class A>
MAGR_ALWAYS_INLINE bool any(const xsimd::batch_bool<T, A>& c) noexcept {
    return xsimd::any(c);
}
template <class T, class A>
MAGR_ALWAYS_INLINE void store(T* p, const xsimd::batch<T, A>& a) noexcept {
    a.store_unaligned(p);
}
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
