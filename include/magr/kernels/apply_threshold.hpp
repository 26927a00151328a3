// SPDX-License-Identifier: MIT
#pragma once

#include <magr/kernels/threshold.hpp>

/// What is done to a vector once its threshold is known: clipping or soft thresholding.
namespace magr::kernels {
inline namespace MAGR_ISA_NAMESPACE {

/// v_i <- min(max(v_i, -tau_i), tau_i)
struct clip {
    template <class Pack>
    static MAGR_ALWAYS_INLINE Pack apply(const Pack& v, const Pack& tau) noexcept {
        return simd::min(simd::max(v, -tau), tau);
    }
};

/// v_i <- sign(v_i) (|v_i| - tau_i)_+, which keeps the sign of zeros
struct shrink {
    template <class Pack>
    static MAGR_ALWAYS_INLINE Pack apply(const Pack& v, const Pack& tau) noexcept {
        return simd::copysign(simd::max(simd::abs(v) - tau, tau - tau), v);
    }
};

/// The threshold in the unit of v_i: magnitudes of the dual metric are d_i |v_i|.
template <class T, class Metric, class Arch>
MAGR_ALWAYS_INLINE auto threshold_at(Metric, index_t, T tau, Arch) noexcept {
    return simd::pack_traits<T, Arch>::broadcast(tau);
}
template <class T, class Arch>
MAGR_ALWAYS_INLINE auto threshold_at(dual_diagonal_metric<T> metric, index_t i, T tau, Arch) noexcept {
    using traits = simd::pack_traits<T, Arch>;
    return traits::broadcast(tau) / traits::load(metric.d + i);
}

/// Applies `Operation` to n contiguous elements in place.
template <class Operation, class T, class Metric, class Arch>
inline void apply_threshold(T* v, Metric metric, index_t n, T tau, Arch arch) noexcept {
    using traits = simd::pack_traits<T, Arch>;
    index_t i = 0;
    for (; i + traits::lanes <= n; i += traits::lanes)
        simd::store(v + i, Operation::apply(traits::load(v + i), threshold_at(metric, i, tau, arch)));
    for (; i < n; ++i) v[i] = Operation::apply(v[i], threshold_at(metric, i, tau, simd::scalar_arch{}));
}

/// Applies `Operation` to a whole vector in place.
template <class Operation, class T, class Source, class Metric, class Arch>
inline void apply_threshold_to(const Source& v, Metric metric, index_t n, T tau, Arch arch) noexcept {
    T buffer[block_size];
    for (index_t i = 0; i < n; i += block_size) {
        const index_t m = n - i < block_size ? n - i : block_size;
        T* block = v.block(i, m, buffer);
        apply_threshold<Operation>(block, metric_at(metric, i), m, tau, arch);
        v.write_back(i, m, block);
    }
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::kernels
