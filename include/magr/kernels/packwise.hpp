// SPDX-License-Identifier: MIT
#pragma once

#include <magr/kernels/block_size.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/simd/pack.hpp>

/// Loops over the elements of a row, a pack at a time.
namespace magr::kernels {
inline namespace MAGR_ISA_NAMESPACE {

/// Calls `visit(i, arch)` for every pack of n elements: those from i on, as many as a pack of `arch` holds.
template <class T, class Visit, class Arch = simd::default_arch>
MAGR_ALWAYS_INLINE void for_each_pack(index_t n, const Visit& visit, Arch arch = {}) noexcept {
    constexpr index_t lanes = simd::pack_traits<T, Arch>::lanes;
    const index_t packed = n - n % lanes;
    for (index_t i = 0; i < packed; i += lanes) visit(i, arch);
    for (index_t i = packed; i < n; ++i) visit(i, simd::scalar_arch{});
}

/// The sum of n numbers, where `term(i, arch)` returns the pack that begins with number i.
/// @par Numerics  in T over blocks of 1024 numbers, in double across them
template <class T, class Term, class Arch = simd::default_arch>
[[nodiscard]] MAGR_ALWAYS_INLINE double sum_packs(index_t n, const Term& term, Arch arch = {}) noexcept {
    constexpr index_t lanes = simd::pack_traits<T, Arch>::lanes;
    double total = 0;
    for (index_t first = 0; first < n; first += block_size) {
        const index_t last = n - first < block_size ? n : first + block_size;
        const auto zero = simd::pack_traits<T, Arch>::broadcast(T(0));
        typename simd::pack_traits<T, Arch>::type sums[4] = {zero, zero, zero, zero};  // four, because an addition takes four cycles
        T rest = 0;
        index_t i = first;
        for (; i + 4 * lanes <= last; i += 4 * lanes)
            for (index_t k = 0; k < 4; ++k) sums[k] = sums[k] + term(i + k * lanes, arch);
        for (; i + lanes <= last; i += lanes) sums[0] = sums[0] + term(i, arch);
        for (; i < last; ++i) rest += term(i, simd::scalar_arch{});
        total += static_cast<double>(simd::reduce_add((sums[0] + sums[1]) + (sums[2] + sums[3]))) + static_cast<double>(rest);
    }
    return total;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::kernels
