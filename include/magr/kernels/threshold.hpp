// SPDX-License-Identifier: MIT
#pragma once

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

/// What one pass over a vector finds out.
struct threshold_sums {
    double excess = 0;  ///< sum of e_i (m_i - tau)_+
    double weight = 0;  ///< sum of e_i over m_i > tau
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
    const index_t unrolled = n - n % (unroll * lanes);
    const index_t packed = n - n % lanes;
    const auto step = [&](index_t at, index_t k) {
        const auto [m, e] = load_weighted(v, metric, at, arch);
        excess[k] = excess[k] + e * simd::max(m - threshold, zero);
        weight[k] = weight[k] + simd::select(m > threshold, e, zero);
    };
    for (index_t i = 0; i < unrolled; i += unroll * lanes)
        for (index_t k = 0; k < unroll; ++k) step(i + k * lanes, k);
    for (index_t i = unrolled; i < packed; i += lanes) step(i, 0);
    const auto fold = [](const pack(&p)[unroll]) { return (p[0] + p[1]) + (p[2] + p[3]); };
    double excess_sum = static_cast<double>(simd::reduce_add(fold(excess)));
    double weight_sum = static_cast<double>(simd::reduce_add(fold(weight)));
    for (index_t i = packed; i < n; ++i) {
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

/// The elements of largest magnitude of interleaved groups; element i belongs to group i % groups.
template <class T>
struct group_maxima {
    static constexpr index_t groups = 256;
    T magnitude[groups] = {};
    T weight[groups] = {};  ///< of the element with that magnitude
};

/// One pass over a whole vector.
template <class T, class Source, class Metric, class Arch>
[[nodiscard]] inline group_maxima<T> find_group_maxima(const Source& v, Metric metric, index_t n, Arch arch) noexcept {
    constexpr index_t groups = group_maxima<T>::groups;
    constexpr index_t lanes = simd::pack_traits<T, Arch>::lanes;
    static_assert(block_size % groups == 0 && groups % lanes == 0);
    group_maxima<T> maxima;
    const auto keep_larger = [&](const T* block, Metric block_metric, index_t k, auto pack_arch) {
        using traits = simd::pack_traits<T, decltype(pack_arch)>;
        T* magnitude = maxima.magnitude + k % groups;
        T* weight = maxima.weight + k % groups;
        const auto [m, e] = load_weighted(block, block_metric, k, pack_arch);
        const auto largest = traits::load(magnitude);
        simd::store(weight, simd::select(m > largest, e, traits::load(weight)));
        simd::store(magnitude, simd::max(m, largest));
    };
    T buffer[block_size];
    for (index_t i = 0; i < n; i += block_size) {
        const index_t m = n - i < block_size ? n - i : block_size;
        const T* block = v.block(i, m, buffer);
        const Metric block_metric = metric_at(metric, i);
        const index_t packed = m - m % lanes;
        for (index_t k = 0; k < packed; k += lanes) keep_larger(block, block_metric, k, arch);
        for (index_t k = packed; k < m; ++k) keep_larger(block, block_metric, k, simd::scalar_arch{});
    }
    return maxima;
}

/// Newton's method for `find_threshold` from any tau >= 0.
/// @param sums  the sums above tau; at least one element lies above it, unless tau is the root
template <class T, class Source, class Metric, class Arch>
[[nodiscard]] inline T newton_threshold(const Source& v, Metric metric, index_t n, double total, T tau, threshold_sums sums,
                                        Arch arch) noexcept {
    const auto step = [&] {
        const double next = static_cast<double>(tau) + (sums.excess - total) / sums.weight;
        return next > 0 ? static_cast<T>(next) : T(0);
    };
    if (sums.weight > 0 && sums.excess < total) {  // above the root
        const T next = step();
        if (next == tau) return tau;
        tau = next;
        sums = sums_above(v, metric, n, tau, arch);
    }
    while (sums.excess > total) {
        const T next = step();
        if (!(next > tau)) break;  // at the resolution of T
        const double weight = sums.weight;
        tau = next;
        sums = sums_above(v, metric, n, tau, arch);
        if (sums.weight == weight) return step();  // on the same linear piece the last step was exact but for rounding: correct that
    }
    return tau;
}

/// Threshold tau >= 0 with  sum_i e_i (m_i - tau)_+ = total,  or 0 if already  sum_i e_i m_i <= total.
///
/// Newton's method on the convex, decreasing, piecewise linear left side: monotone from below the root, and from above the first step
/// falls below it. It ends when a step leaves the set of elements above tau, and with it the linear piece, as it was. Without a hint it
/// starts at the threshold of the largest elements of groups alone, a lower bound because the other elements only add to the left side.
///
/// @param hint  any tau >= 0; the threshold of a nearby problem saves passes, 0 is always good
/// @pre         n >= 1, entries finite, e_i > 0 and 1 / e_i finite, total >= 0, sum_i e_i m_i representable in T
/// @par Cost    O(n) per pass, no sort, no allocation; tests/kernels/threshold_test.cpp allows 3 passes from the root, 12 without a hint
/// @par Numerics sums in blocks of T and across blocks in double; the result is rounded to T
template <class T, class Source, class Metric, class Arch>
[[nodiscard]] inline T find_threshold(const Source& v, Metric metric, index_t n, double total, T hint, Arch arch) noexcept {
    if (total > 0 && hint > T(0)) {
        const threshold_sums sums = sums_above(v, metric, n, hint, arch);
        if (sums.weight > 0) return newton_threshold(v, metric, n, total, hint, sums, arch);
    }
    T tau = T(0);
    constexpr index_t groups = group_maxima<T>::groups;
    if (total <= 0 || n >= 4 * groups) {  // shorter vectors gain less than the search in the groups costs
        const group_maxima<T> maxima = find_group_maxima<T>(v, metric, n, arch);
        if (total <= 0) {
            for (const T magnitude : maxima.magnitude) tau = simd::max(tau, magnitude);
            return tau;
        }
        const contiguous_source<const T> largest{maxima.magnitude};
        const diagonal_metric<T> weights{maxima.weight};
        tau = newton_threshold(largest, weights, groups, total, tau, sums_above(largest, weights, groups, tau, arch), arch);
    }
    return newton_threshold(v, metric, n, total, tau, sums_above(v, metric, n, tau, arch), arch);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::kernels
