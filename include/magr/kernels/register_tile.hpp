// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <utility>

#include <magr/matrix/matrix_view.hpp>
#include <magr/simd/pack.hpp>

/// The innermost part of every matrix product of the library: a tile of the result that stays in registers.
namespace magr::kernels {
inline namespace MAGR_ISA_NAMESPACE {

/// Smallest multiple of `step` that is at least `n`.
[[nodiscard]] constexpr index_t round_up(index_t n, index_t step) noexcept { return (n + step - 1) / step * step; }

/// The largest tile whose sums fit into the registers of Arch, together with two for a row of B and one for an element of A.
///
/// Each sum is a chain of dependent operations. The 2 * rows chains are enough to hide their latency.
template <class T, class Arch>
struct register_tile {
    static constexpr index_t lanes = simd::pack_traits<T, Arch>::lanes;
    static constexpr index_t rows = simd::register_count<Arch> >= 32 ? 12 : 6;
    static constexpr index_t cols = 2 * lanes;
};

/// Rows or columns that are packed together: whole panels of every register tile, for left and right operands.
inline constexpr index_t block_side = 96;

/// `multiply_tile` with its sums S... written out, because a loop that is not unrolled would keep them in memory.
template <index_t Packs, class T, class Arch, index_t... S>
MAGR_ALWAYS_INLINE void multiply_tile_sums(index_t depth, const T* a, const T* b, T* c, index_t stride, const T* next, index_t count, Arch,
                                           std::integer_sequence<index_t, S...>) noexcept {
    using traits = simd::pack_traits<T, Arch>;
    using pack = typename traits::type;
    constexpr index_t rows = sizeof...(S) / Packs;
    constexpr index_t lanes = traits::lanes;
    const auto at = [&](index_t s) { return c + s / Packs * stride + s % Packs * lanes; };
    (__builtin_prefetch(at(S)), ...);
    pack sums[] = {((void)S, traits::broadcast(T(0)))...};
    // at most one prefetch per step; several would stall the multiplications
    constexpr index_t line = 64 / sizeof(T);
    const index_t lines = (count + line - 1) / line;
    const index_t steps = lines == 0 ? depth : depth > lines ? depth / lines : 1;
    for (index_t k = 0, ahead = 0; k < depth; ahead += line) {
        if (ahead < count) __builtin_prefetch(next + ahead);
        for (const index_t end = depth - k < steps ? depth : k + steps; k < end; ++k) {
            const pack first = traits::load(b + k * 2 * lanes);
            const pack last = traits::load(b + k * 2 * lanes + (Packs - 1) * lanes);
            ((sums[S] = simd::fma(traits::broadcast(a[k * rows + S / Packs]), S % Packs == 0 ? first : last, sums[S])), ...);
        }
    }
    (simd::store(at(S), traits::load(at(S)) + sums[S]), ...);
}

/// C <- C + A B for one register tile, or its first half: the first `Packs * lanes` columns of B and C.
///
/// @param depth  number of columns of A and rows of B
/// @param a      A by columns: element (r, k) at a[k * rows + r]
/// @param b      B by rows: element (k, c) at b[k * cols + c]
/// @param c      C: element (r, c) at c[r * stride + c]
/// @param next   `count` elements that are needed soon but are not in cache yet: prefetched meanwhile
template <index_t Packs = 2, class T, class Arch>
inline void multiply_tile(index_t depth, const T* a, const T* b, T* c, index_t stride, Arch arch, const T* next = nullptr,
                          index_t count = 0) noexcept {
    static_assert(Packs == 1 || Packs == 2);
    constexpr auto sums = std::make_integer_sequence<index_t, Packs * register_tile<T, Arch>::rows>{};
    multiply_tile_sums<Packs>(depth, a, b, c, stride, next, count, arch, sums);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::kernels
