// SPDX-License-Identifier: MIT
#pragma once

#include <magr/kernels/metric.hpp>
#include <magr/kernels/packwise.hpp>
#include <magr/kernels/source.hpp>
#include <magr/kernels/threshold.hpp>
#include <magr/kernels/threshold_sums.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/simd/pack.hpp>

namespace magr::kernels {

/// What an ADMM iteration reads and writes of one row, or of one group of a row: n contiguous elements each. The arrays must not overlap,
/// except that `residual` may be `step`.
template <class T>
struct admm_arrays {
    const T* step;  ///< x - w0: how far the product with the inverse moves from the original weights
    const T* w0;    ///< original weights
    const T* d;     ///< metric, positive
    T* z;           ///< penalized weights: in, of the last iteration; out, of this one
    T* u;           ///< scaled dual variable, likewise
    T* residual;    ///< output only: the next operand of the inverse
};

inline namespace MAGR_ISA_NAMESPACE {

/// An ADMM iteration for one vector, except for its product with the inverse:
///
///     v = r (step + w0) + (1 - r) z + u
///     z = argmin 1/2 (z - v)^T diag(d) (z - v) + penalty * ||z||_inf
///     u = v - z
///     residual = d (z - u - w0)
///
/// @param relaxation  r; 1 is the plain iteration
/// @param hint        any tau >= 0: the threshold of the last iteration, 0 in the first one
/// @pre               n >= 1; entries and v finite, d_i > 0 and 1 / d_i finite, penalty >= 0
/// @return            the threshold tau:  z_i = min(max(v_i, -tau), tau)  with  sum_i d_i (|v_i| - tau)_+ = penalty
/// @par Cost          two passes, one over 5 arrays that writes 1 and one over 3 that writes 3; between them the search for tau, whose
///                    first sums come from the first pass: further passes over u and d, mostly one; no allocation
/// @par Numerics      where nothing is clipped, z_i = v_i and u_i = 0 exactly; tau as in `find_threshold`
template <class T, class Arch = simd::default_arch>
inline T admm_step(const admm_arrays<T>& a, index_t n, T relaxation, double penalty, T hint, Arch arch = {}) noexcept {
    MAGR_ASSERT(n >= 1 && penalty >= 0 && hint >= T(0));
    threshold_sums sums;
    constexpr index_t size = sum_block<T, Arch>;
    for (index_t first = 0; first < n; first += size) {
        const auto relax = [&](index_t i, auto pack_arch) {
            using traits = simd::pack_traits<T, decltype(pack_arch)>;
            const index_t at = first + i;
            const auto x = traits::load(a.step + at) + traits::load(a.w0 + at);
            const auto rest = simd::fma(traits::broadcast(T(1) - relaxation), traits::load(a.z + at), traits::load(a.u + at));
            const auto v = simd::fma(traits::broadcast(relaxation), x, rest);
            simd::store(a.u + at, v);
            return weighted_magnitude<typename traits::type>{simd::abs(v), traits::load(a.d + at)};
        };
        add_threshold_sums(relax, diagonal_metric<T>{a.d}, n - first < size ? n - first : size, hint, sums, arch);
    }

    const T tau = continue_threshold(contiguous_source<const T>{a.u}, diagonal_metric<T>{a.d}, n, penalty, hint, sums, arch);

    const auto clip_at = [&](index_t i, auto pack_arch) {
        using traits = simd::pack_traits<T, decltype(pack_arch)>;
        const auto v = traits::load(a.u + i);
        const auto z = simd::copysign((simd::min)(simd::abs(v), traits::broadcast(tau)), v);
        const auto u = v - z;
        simd::store(a.z + i, z);
        simd::store(a.u + i, u);
        simd::store(a.residual + i, traits::load(a.d + i) * ((z - u) - traits::load(a.w0 + i)));
    };
    for_each_pack<T>(n, clip_at, arch);
    return tau;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::kernels
