// SPDX-License-Identifier: MIT
#pragma once

#include <magr/kernels/block_size.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/simd/pack.hpp>

/// The sums over a row from which the bounds of its optimum are computed.
namespace magr::kernels {
inline namespace MAGR_ISA_NAMESPACE {

/// The sums for w0, a point z, its subgradient s = metric u, a direction y whose product g = H y is known, e = z - w0 - y, f = s + g, and
/// `apart`, a part of f that is left out of its square.
struct bound_sums {
    double yg = 0;  ///< y^T g
    double eg = 0;  ///< e^T g
    double ee = 0;  ///< e^T metric e
    double fy = 0;  ///< f^T y
    double ff = 0;  ///< (f - apart)^T diag(weight) (f - apart)
    double sw = 0;  ///< s^T w0
    double gw = 0;  ///< g^T w0
};

/// The l1 norms of a group of a row.
struct l1_norms {
    double s = 0;
    double g = 0;
};

/// Adds the sums over n elements to `sums`, and returns the norms of s and g there.
///
/// @param apart   null means zeros
/// @par Numerics  in T over blocks of 1024 elements, in double across them
template <class T, class Arch = simd::default_arch>
inline l1_norms add_bound_sums(index_t n, const T* w0, const T* z, const T* u, const T* metric, const T* y, const T* g, const T* weight,
                               const T* apart, bound_sums& sums, Arch arch = {}) noexcept {
    constexpr index_t count = 9;
    constexpr index_t lanes = simd::pack_traits<T, Arch>::lanes;
    l1_norms norms;
    const auto add_at = [&](auto& total, index_t i, auto pack_arch) {
        using traits = simd::pack_traits<T, decltype(pack_arch)>;
        const auto w = traits::load(w0 + i), p = traits::load(z + i), step = traits::load(y + i), slope = traits::load(g + i),
                   d = traits::load(metric + i);
        const auto s = d * traits::load(u + i);
        const auto e = p - w - step;
        const auto f = s + slope;
        total[0] = simd::fma(step, slope, total[0]);
        total[1] = simd::fma(e, slope, total[1]);
        total[2] = simd::fma(d * e, e, total[2]);
        total[3] = simd::fma(f, step, total[3]);
        const auto rest = apart == nullptr ? f : f - traits::load(apart + i);
        total[4] = simd::fma(traits::load(weight + i) * rest, rest, total[4]);
        total[5] = simd::fma(s, w, total[5]);
        total[6] = simd::fma(slope, w, total[6]);
        total[7] = total[7] + simd::abs(s);
        total[8] = total[8] + simd::abs(slope);
    };
    for (index_t first = 0; first < n; first += block_size) {
        const index_t last = n - first < block_size ? n : first + block_size;
        const index_t packed = last - (last - first) % lanes;
        const auto zero = simd::pack_traits<T, Arch>::broadcast(T(0));
        typename simd::pack_traits<T, Arch>::type vectors[count] = {zero, zero, zero, zero, zero, zero, zero, zero, zero};
        T rest[count] = {};
        for (index_t i = first; i < packed; i += lanes) add_at(vectors, i, arch);
        for (index_t i = packed; i < last; ++i) add_at(rest, i, simd::scalar_arch{});
        const auto sum = [&](index_t k) { return static_cast<double>(simd::reduce_add(vectors[k])) + static_cast<double>(rest[k]); };
        sums.yg += sum(0);
        sums.eg += sum(1);
        sums.ee += sum(2);
        sums.fy += sum(3);
        sums.ff += sum(4);
        sums.sw += sum(5);
        sums.gw += sum(6);
        norms.s += sum(7);
        norms.g += sum(8);
    }
    return norms;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::kernels
