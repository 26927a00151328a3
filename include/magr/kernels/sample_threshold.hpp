// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>

#include <magr/kernels/metric.hpp>
#include <magr/kernels/newton_threshold.hpp>
#include <magr/kernels/source.hpp>
#include <magr/kernels/threshold_sums.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/simd/pack.hpp>

namespace magr::kernels {
inline namespace MAGR_ISA_NAMESPACE {

/// The threshold of a sample, spread evenly, of which each element stands for as many others.
/// @pre    n >= 256
/// @return 0 if so few elements of the sample are above it that it says little about the others
template <class T, class Source, class Metric, class Arch>
[[nodiscard]] inline T sample_threshold(const Source& v, Metric metric, index_t n, double total, Arch arch) noexcept {
    constexpr index_t lanes = simd::pack_traits<T, Arch>::lanes;
    constexpr index_t run = lanes > 16 ? lanes : 16;  // elements that follow each other
    constexpr index_t size = 256;
    static_assert(run % lanes == 0 && size % run == 0);
    T magnitude[size];
    T weight[size];
    T buffer[static_cast<std::size_t>(run)];
    for (index_t i = 0; i < size; i += run) {
        const index_t first = i / run * (n / (size / run));
        const T* elements = v.block(first, run, buffer);
        for (index_t k = 0; k < run; k += lanes) {
            const auto [m, e] = load_weighted(elements, metric_at(metric, first), k, arch);
            simd::store(magnitude + i + k, m);
            simd::store(weight + i + k, e);
        }
    }
    const contiguous_source<const T> sample{magnitude};
    const diagonal_metric<T> weights{weight};
    const double share = total * (static_cast<double>(size) / static_cast<double>(n));
    const auto sums_at = [&](T at) { return sums_above(sample, weights, size, at, arch); };
    const threshold_sums all = sums_at(T(0));
    const auto is_enough = [&](T, const threshold_sums& sums, T next, found_threshold<T>& root) {
        const bool few = sums.weight < all.weight / 16;
        root = {few ? T(0) : next, 0};
        return few || (sums.excess < 1.1 * share && sums.excess > 0.9 * share);  // far nearer than the sample is to the whole
    };
    return newton_threshold(share, T(0), all, false, sums_at, is_enough).tau;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::kernels
