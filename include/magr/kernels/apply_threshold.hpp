// SPDX-License-Identifier: MIT
#pragma once

#include <magr/kernels/block_size.hpp>
#include <magr/kernels/metric.hpp>
#include <magr/kernels/packwise.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/simd/pack.hpp>

/// Applies a known threshold to a vector: clipping or soft thresholding. Both keep the sign of every element, even of zeros.
namespace magr::kernels {
inline namespace MAGR_ISA_NAMESPACE {

/// |v_i| <- min(m_i, tau), with m_i = |v_i|
struct clip {
    template <class Pack>
    static MAGR_ALWAYS_INLINE Pack apply(const weighted_magnitude<Pack>& v, const Pack& tau) noexcept {
        return (simd::min)(v.magnitude, tau);
    }
};

/// v_i| <- e_i (m_i - tau)_+, the contribution of element i to the left side of the threshold equation
struct shrink {
    template <class Pack>
    static MAGR_ALWAYS_INLINE Pack apply(const weighted_magnitude<Pack>& v, const Pack& tau) noexcept {
        // Not max(m - tau, 0): the compiler may fuse it with the product in m, and then the difference is not zero for tau = m, which was
        // rounded.
        return simd::select(v.magnitude > tau, v.weight * (v.magnitude - tau), tau - tau);
    }
};

/// Applies `Operation` to n contiguous elements in place.
template <class Operation, class T, class Metric, class Arch>
inline void apply_threshold(T* v, Metric metric, index_t n, T tau, Arch arch) noexcept {
    const auto apply_at = [&](index_t i, auto pack_arch) {
        using traits = simd::pack_traits<T, decltype(pack_arch)>;
        const auto result = Operation::apply(load_weighted(v, metric, i, pack_arch), traits::broadcast(tau));
        simd::store(v + i, simd::copysign(result, traits::load(v + i)));
    };
    for_each_pack<T>(n, apply_at, arch);
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
