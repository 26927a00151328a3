// SPDX-License-Identifier: MIT
#pragma once

#include <magr/kernels/block_size.hpp>
#include <magr/kernels/metric.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/simd/pack.hpp>

namespace magr::kernels {
inline namespace MAGR_ISA_NAMESPACE {

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
    T buffer[block_size];
    for (index_t i = 0; i < n; i += block_size) {
        const index_t m = n - i < block_size ? n - i : block_size;
        const T* block = v.block(i, m, buffer);
        const Metric block_metric = metric_at(metric, i);
        const auto keep_larger = [&](index_t group, index_t end, auto pack_arch) {  // elements group, group + groups, ... before end
            using traits = simd::pack_traits<T, decltype(pack_arch)>;
            auto magnitude = traits::load(maxima.magnitude + group);
            auto weight = traits::load(maxima.weight + group);
            for (index_t k = group; k < end; k += groups) {
                const auto [one_m, one_e] = load_weighted(block, block_metric, k, pack_arch);
                weight = simd::select(one_m > magnitude, one_e, weight);
                magnitude = (simd::max)(one_m, magnitude);
            }
            simd::store(maxima.magnitude + group, magnitude);
            simd::store(maxima.weight + group, weight);
        };
        const index_t packed = m - m % lanes;
        for (index_t group = 0; group < groups; group += lanes) keep_larger(group, packed, arch);
        for (index_t k = packed; k < m; ++k) {
            const auto [one_m, one_e] = load_weighted(block, block_metric, k, simd::scalar_arch{});
            if (one_m > maxima.magnitude[k % groups]) {
                maxima.magnitude[k % groups] = one_m;
                maxima.weight[k % groups] = one_e;
            }
        }
    }
    return maxima;
}

/// The largest magnitude of all.
template <class T, class Source, class Metric, class Arch>
[[nodiscard]] inline T largest_magnitude(const Source& v, Metric metric, index_t n, Arch arch) noexcept {
    const group_maxima<T> maxima = find_group_maxima<T>(v, metric, n, arch);
    T largest = 0;
    for (const T magnitude : maxima.magnitude) largest = (simd::max)(largest, magnitude);
    return largest;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::kernels
