// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>

#include <magr/kernels/packwise.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/simd/pack.hpp>

namespace magr::kernels {
inline namespace MAGR_ISA_NAMESPACE {

/// One stage inside a pack: (a, b) <- (a + b, a - b) for all elements k and k + Stride.
template <index_t Stride, class T, class Arch>
MAGR_ALWAYS_INLINE simd::pack<T, Arch> hadamard_in_pack(const simd::pack<T, Arch>& a) noexcept {
    constexpr index_t lanes = simd::pack_traits<T, Arch>::lanes;
    T signs[static_cast<std::size_t>(lanes)];
    for (index_t k = 0; k < lanes; ++k) signs[k] = (k & Stride) != 0 ? T(-1) : T(1);
    return a * simd::pack_traits<T, Arch>::load(signs) + simd::exchange_lanes<Stride, T, Arch>(a);
}

/// All stages inside a pack, from Stride on.
template <index_t Stride, class T, class Arch>
MAGR_ALWAYS_INLINE simd::pack<T, Arch> hadamard_of_pack(const simd::pack<T, Arch>& a) noexcept {
    if constexpr (Stride < simd::pack_traits<T, Arch>::lanes)
        return hadamard_of_pack<2 * Stride, T, Arch>(hadamard_in_pack<Stride, T, Arch>(a));
    else
        return a;
}

/// The stages of strides run, 2 run, .., Radix / 2 run, in one walk over x. With Inside, those inside each pack come before.
template <index_t Radix, bool Inside, class T, class Arch>
inline void hadamard_stages(T* x, index_t size, index_t run, Arch arch) noexcept {
    for (index_t first = 0; first < size; first += Radix * run)
        for_each_pack<T>(
            run,
            [&](index_t i, auto pack_arch) {
                using own = decltype(pack_arch);
                simd::pack<T, own> a[static_cast<std::size_t>(Radix)];
                T* const at = x + first + i;
                for (index_t r = 0; r < Radix; ++r) {
                    a[r] = simd::pack_traits<T, own>::load(at + r * run);
                    if constexpr (Inside) a[r] = hadamard_of_pack<1, T, own>(a[r]);
                }
                for (index_t stride = 1; stride < Radix; stride *= 2)
                    for (index_t r = 0; r < Radix; ++r)
                        if ((r & stride) == 0) {
                            const auto sum = a[r] + a[r + stride];
                            a[r + stride] = a[r] - a[r + stride];
                            a[r] = sum;
                        }
                for (index_t r = 0; r < Radix; ++r) simd::store(at + r * run, a[r]);
            },
            arch);
}

/// x <- (F (x) I_run) x in place, where F is the Hadamard matrix of order `count`: F_ij = (-1)^(number of common bits of i and j).
///
/// It is its own transpose, and its own inverse up to the factor `count`. With run 1 this is the fast Walsh-Hadamard transform of x; with a
/// matrix of `count` rows of length `run` it is that of each column.
///
/// @par Shapes    x: count * run numbers
/// @pre           count is a power of two, run >= 1
/// @par Cost      count * run * log2(count) additions, in walks over x of three stages each
/// @par Numerics  additions alone, in the order of the stages: the same bits for every instruction set
template <class T, class Arch = simd::default_arch>
inline void hadamard(T* x, index_t count, index_t run, Arch arch = {}) noexcept {
    constexpr index_t lanes = simd::pack_traits<T, Arch>::lanes;
    MAGR_ASSERT(count >= 1 && (count & (count - 1)) == 0 && run >= 1);
    const index_t size = count * run;
    if constexpr (lanes > 1)
        if (run == 1 && count >= lanes) {
            const auto walk = [&]<index_t Radix>() {
                hadamard_stages<Radix, true>(x, size, lanes, arch);
                run = Radix * lanes;
            };
            if (count >= 8 * lanes)
                walk.template operator()<8>();
            else if (count == 4 * lanes)
                walk.template operator()<4>();
            else if (count == 2 * lanes)
                walk.template operator()<2>();
            else
                walk.template operator()<1>();
        }
    for (; 8 * run <= size; run *= 8) hadamard_stages<8, false>(x, size, run, arch);
    if (4 * run <= size) {
        hadamard_stages<4, false>(x, size, run, arch);
        run *= 4;
    }
    if (2 * run <= size) hadamard_stages<2, false>(x, size, run, arch);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::kernels
