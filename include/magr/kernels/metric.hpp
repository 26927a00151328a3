// SPDX-License-Identifier: MIT
#pragma once

#include <magr/matrix/matrix_view.hpp>
#include <magr/simd/pack.hpp>

namespace magr::kernels {

// How a vector v enters the threshold equation  sum_i e_i (m_i - tau)_+ = total: as magnitudes m_i >= 0 with weights e_i > 0.

/// m_i = |v_i|, e_i = 1: the Euclidean metric.
struct unit_metric {};

/// m_i = |v_i|, e_i = d_i: the prox of the l_inf norm in the metric diag(d).
template <class T>
struct diagonal_metric {
    const T* d;
};

/// m_i = d_i |v_i|, e_i = 1 / d_i: the projection onto the l1 ball in the metric diag(d).
template <class T>
struct dual_diagonal_metric {
    const T* d;
};

inline namespace MAGR_ISA_NAMESPACE {

/// The part of a metric that belongs to elements i...
MAGR_ALWAYS_INLINE unit_metric metric_at(unit_metric, index_t) noexcept { return {}; }
template <class T, template <class> class Metric>
MAGR_ALWAYS_INLINE Metric<T> metric_at(Metric<T> metric, index_t i) noexcept {
    return {metric.d + i};
}

/// Magnitude and weight of one pack (or one element).
template <class Pack>
struct weighted_magnitude {
    Pack magnitude;
    Pack weight;
};

template <class T, class Arch>
MAGR_ALWAYS_INLINE auto load_weighted(const T* v, unit_metric, index_t i, Arch) noexcept {
    using traits = simd::pack_traits<T, Arch>;
    return weighted_magnitude<typename traits::type>{simd::abs(traits::load(v + i)), traits::broadcast(T(1))};
}
template <class T, class Arch>
MAGR_ALWAYS_INLINE auto load_weighted(const T* v, diagonal_metric<T> metric, index_t i, Arch) noexcept {
    using traits = simd::pack_traits<T, Arch>;
    return weighted_magnitude<typename traits::type>{simd::abs(traits::load(v + i)), traits::load(metric.d + i)};
}
template <class T, class Arch>
MAGR_ALWAYS_INLINE auto load_weighted(const T* v, dual_diagonal_metric<T> metric, index_t i, Arch) noexcept {
    using traits = simd::pack_traits<T, Arch>;
    const auto d = traits::load(metric.d + i);
    return weighted_magnitude<typename traits::type>{simd::abs(traits::load(v + i)) * d, traits::broadcast(T(1)) / d};
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::kernels
