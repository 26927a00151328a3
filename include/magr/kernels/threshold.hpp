// SPDX-License-Identifier: MIT
#pragma once

#include <type_traits>

#include <magr/matrix/matrix_view.hpp>
#include <magr/simd/pack.hpp>

/// The threshold search behind the projection onto the l1 ball and the prox of the l_inf norm: the only one in the library.
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

/// Elements of one block: sums are kept in the element type within a block and in double across blocks.
inline constexpr index_t block_size = 1024;

/// A vector of n elements as contiguous blocks. `block(i, m, buffer)` returns a pointer to elements i..i+m, which a source without
/// contiguous elements of type T first copies into `buffer`; `write_back` returns them from there.
template <class T>
struct contiguous_source {
    T* data;
    MAGR_ALWAYS_INLINE T* block(index_t i, index_t, T*) const noexcept { return data + i; }
    MAGR_ALWAYS_INLINE void write_back(index_t, index_t, const T*) const noexcept {}
};

/// Elements with a stride or in a storage type that is converted for arithmetic.
template <class T, class Storage>
struct strided_source {
    Storage* data;
    index_t stride;
    MAGR_ALWAYS_INLINE T* block(index_t i, index_t m, T* buffer) const noexcept {
        for (index_t k = 0; k < m; ++k) buffer[k] = static_cast<T>(data[(i + k) * stride]);
        return buffer;
    }
    MAGR_ALWAYS_INLINE void write_back(index_t i, index_t m, const T* values) const noexcept {
        for (index_t k = 0; k < m; ++k) data[(i + k) * stride] = static_cast<Storage>(values[k]);
    }
};

/// The part of a metric that belongs to elements i...
MAGR_ALWAYS_INLINE unit_metric metric_at(unit_metric, index_t) noexcept { return {}; }
template <class T, template <class> class Metric>
MAGR_ALWAYS_INLINE Metric<T> metric_at(Metric<T> metric, index_t i) noexcept { return {metric.d + i}; }

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

/// What one pass over a vector finds out.
struct threshold_sums {
    double excess = 0;   ///< sum of e_i (m_i - tau)_+
    double weight = 0;   ///< sum of e_i over m_i > tau
};

/// One pass over at most `block_size` contiguous elements, added to `sums`.
template <class T, class Metric, class Arch>
inline void add_threshold_sums(const T* v, Metric metric, index_t n, T tau, threshold_sums& sums, Arch arch) noexcept {
    using traits = simd::pack_traits<T, Arch>;
    using pack = typename traits::type;
    constexpr index_t lanes = traits::lanes;
    constexpr index_t unroll = 4;  // hides the latency of the additions
    const pack threshold = traits::broadcast(tau);
    const pack zero = traits::broadcast(T(0));
    pack excess[unroll] = {zero, zero, zero, zero};
    pack weight[unroll] = {zero, zero, zero, zero};
    index_t i = 0;
    const auto step = [&](index_t at, index_t k) {
        const auto [m, e] = load_weighted(v, metric, at, arch);
        excess[k] = excess[k] + e * simd::max(m - threshold, zero);
        weight[k] = weight[k] + simd::select(m > threshold, e, zero);
    };
    for (; i + unroll * lanes <= n; i += unroll * lanes)
        for (index_t k = 0; k < unroll; ++k) step(i + k * lanes, k);
    for (; i + lanes <= n; i += lanes) step(i, 0);
    const auto fold = [](const pack(&p)[unroll]) { return (p[0] + p[1]) + (p[2] + p[3]); };
    double excess_sum = static_cast<double>(simd::reduce_add(fold(excess)));
    double weight_sum = static_cast<double>(simd::reduce_add(fold(weight)));
    for (; i < n; ++i) {
        const auto [m, e] = load_weighted(v, metric, i, simd::scalar_arch{});
        if (m > tau) {
            excess_sum += static_cast<double>(e * (m - tau));
            weight_sum += static_cast<double>(e);
        }
    }
    sums.excess += excess_sum;
    sums.weight += weight_sum;
}

/// One pass over a whole vector.
template <class T, class Source, class Metric, class Arch>
[[nodiscard]] inline threshold_sums sums_above(const Source& v, Metric metric, index_t n, T tau, Arch arch) noexcept {
    threshold_sums sums;
    T buffer[block_size];
    for (index_t i = 0; i < n; i += block_size) {
        const index_t m = n - i < block_size ? n - i : block_size;
        add_threshold_sums(v.block(i, m, buffer), metric_at(metric, i), m, tau, sums, arch);
    }
    return sums;
}

/// max_i m_i
template <class T, class Source, class Metric>
[[nodiscard]] inline T largest_magnitude(const Source& v, Metric metric, index_t n) noexcept {
    T largest = T(0);
    T buffer[block_size];
    for (index_t i = 0; i < n; i += block_size) {
        const index_t m = n - i < block_size ? n - i : block_size;
        const T* block = v.block(i, m, buffer);
        for (index_t k = 0; k < m; ++k)
            largest = simd::max(largest, load_weighted(block, metric_at(metric, i), k, simd::scalar_arch{}).magnitude);
    }
    return largest;
}

/// Threshold tau >= 0 with  sum_i e_i (m_i - tau)_+ = total,  or 0 if already  sum_i e_i m_i <= total.
///
/// Newton's method on the convex, decreasing, piecewise linear left side: monotone from below the root, and from above the first step
/// falls below it. It ends when a step leaves the set of elements above tau, and with it the linear piece, as it was.
///
/// @param hint  any tau >= 0; the threshold of a nearby problem saves passes, 0 is always good
/// @pre         n >= 1, entries finite, e_i > 0, total >= 0
/// @par Cost    O(n) per pass, no sort, no allocation; few passes: 2-3 from a good hint
/// @par Numerics sums in blocks of T and across blocks in double; the result is rounded to T
template <class T, class Source, class Metric, class Arch>
[[nodiscard]] inline T find_threshold(const Source& v, Metric metric, index_t n, double total, T hint, Arch arch) noexcept {
    if (total <= 0) return largest_magnitude<T>(v, metric, n);
    T tau = hint;
    threshold_sums sums = sums_above(v, metric, n, tau, arch);
    if (tau > T(0) && sums.excess < total) {  // above the root
        const double step = sums.weight > 0 ? static_cast<double>(tau) + (sums.excess - total) / sums.weight : 0;
        tau = step > 0 ? static_cast<T>(step) : T(0);
        sums = sums_above(v, metric, n, tau, arch);
    }
    while (sums.excess > total) {
        const T next = static_cast<T>(static_cast<double>(tau) + (sums.excess - total) / sums.weight);
        if (!(next > tau)) break;  // at the resolution of T
        tau = next;
        const threshold_sums found = sums_above(v, metric, n, tau, arch);
        if (!(found.weight < sums.weight)) break;  // the same linear piece: the step was exact
        sums = found;
    }
    return tau;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::kernels
