// SPDX-License-Identifier: MIT
#pragma once

#if !defined(__GNUC__) && !defined(__clang__)
#error "magr needs GCC or clang: its kernels are written with their vector types and builtins"
#endif

/// Checks a precondition of a kernel. Active unless `NDEBUG` is defined. Define `MAGR_ASSERT` before the first include to replace it.
#ifndef MAGR_ASSERT
#include <cassert>
#define MAGR_ASSERT(condition) assert(condition)
#endif

#define MAGR_ALWAYS_INLINE inline __attribute__((always_inline))

/// Marks functions that hardly ever run, such as those that write messages: compilers then want them small and out of the way.
#define MAGR_COLD __attribute__((cold, noinline))

/// Marks the functions that `magr::compiled` contains. With it, which defines `MAGR_COMPILED`, headers only declare them; otherwise each
/// unit that includes a header compiles what it calls.
#ifdef MAGR_COMPILED
#define MAGR_CORE
#define MAGR_LARGE_CORE
#define MAGR_LARGE_CORE_DEFINITION
#define MAGR_CORE_INSTANCE 0
#else
#define MAGR_CORE inline
// Large ones are templates then, so that a unit which only includes their header does not pay for them.
#define MAGR_LARGE_CORE template <int Instance = 0>
#define MAGR_LARGE_CORE_DEFINITION template <int Instance>
#define MAGR_CORE_INSTANCE Instance
#endif

/// Whether kernels may use xsimd. Define `MAGR_NO_XSIMD` to take the scalar path everywhere. The header below only says what the compiler
/// targets; `<magr/simd/pack.hpp>` includes the rest.
#ifndef MAGR_NO_XSIMD
#include <xsimd/config/xsimd_config.hpp>
#endif
#if defined(MAGR_NO_XSIMD) || defined(XSIMD_NO_SUPPORTED_ARCHITECTURE)
#define MAGR_HAS_XSIMD 0
#else
#define MAGR_HAS_XSIMD 1
#endif

/// Name of the inline namespace around every function of the library that computes something. With it, translation units compiled
/// for different instruction sets share no such function; otherwise the linker would keep one of them, possibly one with instructions
/// that the processor lacks. Vocabulary types (views, options, results, errors) stay outside and may cross such units.
///
/// The name does not cover templates of Eigen and the standard library, which such units still share. A program is safe only if all units
/// which include the library, Eigen or xsimd are compiled for the same instruction set; `<magr/dispatch.hpp>` chooses one when it runs.
#if MAGR_HAS_XSIMD == 0
#define MAGR_ISA_NAME isa_scalar
#elif defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#define MAGR_ISA_NAME isa_avx512
#elif defined(__AVX512F__)
#define MAGR_ISA_NAME isa_avx512f
#elif defined(__AVX2__) && defined(__FMA__)
#define MAGR_ISA_NAME isa_avx2_fma
#elif defined(__AVX2__)
#define MAGR_ISA_NAME isa_avx2
#elif defined(__AVX__) && defined(__FMA__)
#define MAGR_ISA_NAME isa_avx_fma
#elif defined(__AVX__)
#define MAGR_ISA_NAME isa_avx
#elif defined(__SSE4_2__)
#define MAGR_ISA_NAME isa_sse4_2
#elif defined(__SSE4_1__)
#define MAGR_ISA_NAME isa_sse4_1
#elif defined(__SSSE3__)
#define MAGR_ISA_NAME isa_ssse3
#elif defined(__SSE3__)
#define MAGR_ISA_NAME isa_sse3
#elif defined(__ARM_FEATURE_SVE)
#define MAGR_ISA_NAME isa_sve
#elif defined(__ARM_NEON)
#define MAGR_ISA_NAME isa_neon
#else
#define MAGR_ISA_NAME isa_baseline
#endif
#define MAGR_JOINED(a, b) a##b
#define MAGR_JOIN(a, b) MAGR_JOINED(a, b)
#ifdef __F16C__  // conversions of 16-bit numbers
#define MAGR_ISA_NAMESPACE MAGR_JOIN(MAGR_ISA_NAME, _f16c)
#else
#define MAGR_ISA_NAMESPACE MAGR_ISA_NAME
#endif

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

/// The instruction set that this translation unit is compiled for, as the library tells them apart: "avx2_fma", "scalar", ..
[[nodiscard]] constexpr const char* instruction_set() noexcept {
#define MAGR_TEXT_OF(x) #x
#define MAGR_EXPANDED_TEXT_OF(x) MAGR_TEXT_OF(x)
    constexpr const char* name = MAGR_EXPANDED_TEXT_OF(MAGR_ISA_NAMESPACE);
#undef MAGR_EXPANDED_TEXT_OF
#undef MAGR_TEXT_OF
    return name + sizeof "isa_" - 1;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
