// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>

#include <magr/kernels/block_size.hpp>
#include <magr/kernels/metric.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/simd/pack.hpp>

namespace magr::kernels {
inline namespace MAGR_ISA_NAMESPACE {

/// The result of one pass over a vector.
struct threshold_sums {
    double excess = 0;  ///< sum of e_i (m_i - tau)_+
    double weight = 0;  ///< sum of e_i over m_i > tau
};

/// Whether to add under a mask instead of selecting and adding. This is faster where the processor has mask registers and the weight is in
/// a register; compilers would load it from memory for each addition.
template <class Metric, class Arch>
inline constexpr bool adds_under_mask = false;
#if MAGR_HAS_XSIMD
template <std::derived_from<xsimd::avx512f> Arch>
inline constexpr bool adds_under_mask<unit_metric, Arch> = true;
#endif

/// Elements whose sums are kept in T: so few that at most 16 additions follow each other, whose rounding stays at a few ulp.
template <class T, class Arch>
inline constexpr index_t sum_block =
    64 * simd::pack_traits<T, Arch>::lanes < block_size ? 64 * simd::pack_traits<T, Arch>::lanes : block_size;

/// One pass over at most `sum_block` elements, added to `sums`. `load(i, arch)` gives the `weighted_magnitude` of pack i.., with
/// `simd::scalar_arch` of element i, in a metric of that type.
template <class T, class Load, class Metric, class Arch>
inline void add_threshold_sums(const Load& load, Metric, index_t n, T tau, threshold_sums& sums, Arch arch) noexcept {
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
        const auto [m, e] = load(at, arch);
        if constexpr (adds_under_mask<Metric, Arch>) {
            const auto above = m > threshold;
            excess[k] = simd::select(above, simd::fma(e, m - threshold, excess[k]), excess[k]);
            weight[k] = simd::select(above, weight[k] + e, weight[k]);
        } else {
            const pack active = simd::select(m > threshold, e, zero);
            excess[k] = simd::fma(active, m - threshold, excess[k]);
            weight[k] = weight[k] + active;
        }
    };
    for (index_t i = 0; i < unrolled; i += unroll * lanes)
        for (index_t k = 0; k < unroll; ++k) step(i + k * lanes, k);
    for (index_t i = unrolled; i < packed; i += lanes) step(i, 0);
    const auto fold = [](const pack(&p)[unroll]) { return (p[0] + p[1]) + (p[2] + p[3]); };
    double excess_sum = static_cast<double>(simd::reduce_add(fold(excess)));
    double weight_sum = static_cast<double>(simd::reduce_add(fold(weight)));
    for (index_t i = packed; i < n; ++i) {
        const auto [m, e] = load(i, simd::scalar_arch{});
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
    constexpr index_t size = sum_block<T, Arch>;
    for (index_t i = 0; i < n; i += size) {
        const index_t m = n - i < size ? n - i : size;
        const T* block = v.block(i, m, buffer);
        const Metric block_metric = metric_at(metric, i);
        add_threshold_sums([&](index_t k, auto pack_arch) { return load_weighted(block, block_metric, k, pack_arch); }, metric, m, tau,
                           sums, arch);
    }
    return sums;
}

/// The same, and the largest magnitude of all.
template <class T, class Source, class Metric, class Arch>
[[nodiscard]] inline threshold_sums sums_above_and_largest(const Source& v, Metric metric, index_t n, T tau, T& largest,
                                                           Arch arch) noexcept {
    using traits = simd::pack_traits<T, Arch>;
    threshold_sums sums;
    auto largest_of_lanes = traits::broadcast(T(0));
    largest = 0;
    T buffer[block_size];
    constexpr index_t size = sum_block<T, Arch>;
    for (index_t i = 0; i < n; i += size) {
        const index_t m = n - i < size ? n - i : size;
        const T* block = v.block(i, m, buffer);
        const Metric block_metric = metric_at(metric, i);
        const auto load = [&](index_t k, auto pack_arch) {
            const auto one = load_weighted(block, block_metric, k, pack_arch);
            if constexpr (simd::pack_traits<T, decltype(pack_arch)>::lanes == 1)
                largest = (simd::max)(one.magnitude, largest);
            else
                largest_of_lanes = (simd::max)(one.magnitude, largest_of_lanes);
            return one;
        };
        add_threshold_sums(load, metric, m, tau, sums, arch);
    }
    T lanes[traits::lanes];
    simd::store(lanes, largest_of_lanes);
    for (const T magnitude : lanes) largest = (simd::max)(largest, magnitude);
    return sums;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::kernels
