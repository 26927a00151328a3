// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <utility>

#include <magr/matrix/matrix_view.hpp>
#include <magr/simd/pack.hpp>

/// The innermost part of every matrix product of the library: a block of the result that stays in registers.
namespace magr::kernels {
inline namespace MAGR_ISA_NAMESPACE {

/// Smallest multiple of `step` that is at least `n`.
[[nodiscard]] constexpr index_t round_up(index_t n, index_t step) noexcept { return (n + step - 1) / step * step; }

/// The largest block whose sums fit into the registers of Arch, with two more for a row of B and one for an element of A.
///
/// Every sum is a chain of dependent operations; there are 2 * rows of them, enough to hide the latency of each.
template <class T, class Arch>
struct register_tile {
    static constexpr index_t lanes = simd::pack_traits<T, Arch>::lanes;
    static constexpr index_t rows = simd::register_count<Arch> >= 32 ? 12 : 6;
    static constexpr index_t cols = 2 * lanes;
};

/// `multiply_tile` with its rows R... written out: in a loop that is not unrolled the sums would live in memory.
template <class T, class Arch, index_t... R>
MAGR_ALWAYS_INLINE void multiply_tile_rows(index_t depth, const T* a, const T* b, T* c, index_t stride, Arch,
                                           std::integer_sequence<index_t, R...>) noexcept {
    using traits = simd::pack_traits<T, Arch>;
    using pack = typename traits::type;
    constexpr index_t rows = sizeof...(R);
    constexpr index_t lanes = traits::lanes;
    ((__builtin_prefetch(c + R * stride), __builtin_prefetch(c + R * stride + lanes)), ...);
    pack left[rows] = {((void)R, traits::broadcast(T(0)))...};
    pack right[rows] = {((void)R, traits::broadcast(T(0)))...};
    for (index_t k = 0; k < depth; ++k) {
        const pack b0 = traits::load(b + k * 2 * lanes);
        const pack b1 = traits::load(b + k * 2 * lanes + lanes);
        ((left[R] = simd::fma(traits::broadcast(a[k * rows + R]), b0, left[R]),
          right[R] = simd::fma(traits::broadcast(a[k * rows + R]), b1, right[R])),
         ...);
    }
    ((simd::store(c + R * stride, traits::load(c + R * stride) + left[R]),
      simd::store(c + R * stride + lanes, traits::load(c + R * stride + lanes) + right[R])),
     ...);
}

/// C <- C + A B for one register tile.
///
/// @param depth  number of columns of A and rows of B
/// @param a      A by columns: element (r, k) at a[k * rows + r]
/// @param b      B by rows: element (k, c) at b[k * cols + c]
/// @param c      C: element (r, c) at c[r * stride + c]
template <class T, class Arch>
inline void multiply_tile(index_t depth, const T* a, const T* b, T* c, index_t stride, Arch arch) noexcept {
    multiply_tile_rows(depth, a, b, c, stride, arch, std::make_integer_sequence<index_t, register_tile<T, Arch>::rows>{});
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::kernels
