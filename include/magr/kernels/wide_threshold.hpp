// SPDX-License-Identifier: MIT
#pragma once

#include <magr/kernels/block_size.hpp>
#include <magr/kernels/largest_number.hpp>
#include <magr/kernels/metric.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/simd/pack.hpp>

namespace magr::kernels {
inline namespace MAGR_ISA_NAMESPACE {

/// A type that holds every product and sum of numbers of type T, with more digits; where long double is double, it has no more.
template <class T>
struct wider;
template <>
struct wider<float> {
    using type = double;
};
template <>
struct wider<double> {
    using type = long double;
};

template <class T>
MAGR_ALWAYS_INLINE auto load_wide(const T* v, unit_metric, index_t i) noexcept {
    using wide = typename wider<T>::type;
    return weighted_magnitude<wide>{static_cast<wide>(simd::abs(v[i])), wide(1)};
}
template <class T>
MAGR_ALWAYS_INLINE auto load_wide(const T* v, diagonal_metric<T> metric, index_t i) noexcept {
    using wide = typename wider<T>::type;
    return weighted_magnitude<wide>{static_cast<wide>(simd::abs(v[i])), static_cast<wide>(metric.d[i])};
}
template <class T>
MAGR_ALWAYS_INLINE auto load_wide(const T* v, dual_diagonal_metric<T> metric, index_t i) noexcept {
    using wide = typename wider<T>::type;
    const auto d = static_cast<wide>(metric.d[i]);
    return weighted_magnitude<wide>{static_cast<wide>(simd::abs(v[i])) * d, wide(1) / d};
}

/// The threshold with wider sums: Newton's own steps from any tau >= 0, until no element lies between both ends of one. Nothing
/// overflows, and the weights may differ by any factor; a pass takes several times as long as one in T.
template <class T, class Source, class Metric>
[[nodiscard]] __attribute__((noinline)) T wide_threshold(const Source& v, Metric metric, index_t n, double total, T start) noexcept {
    using wide = typename wider<T>::type;
    wide tau = static_cast<wide>(start);
    bool was_below = false;
    for (;;) {
        constexpr index_t chains = 4;
        wide excess[chains] = {}, weight[chains] = {};
        wide largest_below = 0, smallest_above = static_cast<wide>(__builtin_inf());
        T buffer[block_size];
        for (index_t i = 0; i < n; i += block_size) {
            const index_t m = n - i < block_size ? n - i : block_size;
            const T* const block = v.block(i, m, buffer);
            const Metric block_metric = metric_at(metric, i);
            const auto add = [&](index_t k, index_t chain) {
                const auto [magnitude, e] = load_wide(block, block_metric, k);
                const bool is_above = magnitude > tau;
                const wide active = is_above ? e : wide(0);
                excess[chain] += active * (magnitude - tau);
                weight[chain] += active;
                if (is_above ? magnitude < smallest_above : magnitude > largest_below)
                    (is_above ? smallest_above : largest_below) = magnitude;
            };
            index_t k = 0;
            for (; k + chains <= m; k += chains)
                for (index_t chain = 0; chain < chains; ++chain) add(k + chain, chain);
            for (; k < m; ++k) add(k, 0);
        }
        const wide all_weight = (weight[0] + weight[1]) + (weight[2] + weight[3]);
        if (!(all_weight > 0)) {
            if (tau == 0 || was_below) break;
            tau = 0;
            continue;
        }
        const wide all_excess = (excess[0] + excess[1]) + (excess[2] + excess[3]);
        const wide step = (all_excess - static_cast<wide>(total)) / all_weight;
        if (was_below && step <= 0) break;
        was_below = step > 0;
        const wide next = tau + step > 0 ? tau + step : wide(0);
        const bool is_settled = next == tau || (next >= largest_below && next <= smallest_above);
        tau = next;
        if (is_settled) break;
    }
    return tau < static_cast<wide>(largest_number<T>) ? static_cast<T>(tau) : largest_number<T>;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::kernels
