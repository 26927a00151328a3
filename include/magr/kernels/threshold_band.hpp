// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>

#include <magr/kernels/block_size.hpp>
#include <magr/kernels/group_maxima.hpp>
#include <magr/kernels/metric.hpp>
#include <magr/kernels/source.hpp>
#include <magr/kernels/threshold_sums.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/simd/pack.hpp>

namespace magr::kernels {
inline namespace MAGR_ISA_NAMESPACE {

/// The elements with magnitudes in (low, high], as whole packs; what else is in these has weight zero.
template <class T, class Arch>
struct threshold_band {
    static constexpr index_t lanes = simd::pack_traits<T, Arch>::lanes;
    static constexpr index_t capacity = 64 * lanes;
    T magnitude[static_cast<std::size_t>(capacity)];
    T weight[static_cast<std::size_t>(capacity)];
    index_t size = 0;

    /// One pass over a whole vector, which ends early when there are too many of them.
    /// @return whether all of them are here now
    template <class Source, class Metric>
    [[nodiscard]] bool collect(const Source& v, Metric metric, index_t n, T low, T high, Arch arch) noexcept {
        T buffer[block_size];
        for (index_t i = 0; i < n; i += block_size) {
            const index_t m = n - i < block_size ? n - i : block_size;
            const T* block = v.block(i, m, buffer);
            if (!collect_block(block, metric_at(metric, i), m, low, high, arch)) return false;
        }
        return true;
    }

    /// The elements of the groups whose largest magnitude is above `low`: all that can be above it.
    /// @return whether they are here now; not if they are many, or none: then rounding has put `low` at the largest of all
    template <class Source, class Metric>
    [[nodiscard]] bool collect_groups(const Source& v, Metric metric, index_t n, const group_maxima<T>& maxima, T low) noexcept {
        constexpr index_t groups = group_maxima<T>::groups;
        index_t count = 0;
        for (index_t g = 0; g < groups; ++g) count += maxima.magnitude[g] > low ? 1 : 0;
        if (count == 0 || count * (n / groups + 1) > n / 16 || count * (n / groups + 1) > capacity) return false;
        for (index_t g = 0; g < groups; ++g) {
            if (!(maxima.magnitude[g] > low)) continue;
            for (index_t i = g; i < n; i += groups, ++size) {
                T buffer;
                const auto [m, e] = load_weighted(v.block(i, 1, &buffer), metric_at(metric, i), 0, simd::scalar_arch{});
                magnitude[size] = m;
                weight[size] = e;
            }
        }
        return true;
    }

    [[nodiscard]] threshold_sums sums_above(T tau, Arch arch) const noexcept {
        return kernels::sums_above(contiguous_source<const T>{magnitude}, diagonal_metric<T>{weight}, size, tau, arch);
    }

private:
    template <class Metric>
    [[nodiscard]] bool collect_block(const T* v, Metric metric, index_t n, T low, T high, Arch arch) noexcept {
        constexpr index_t unroll = 4;  // packs in one branch, which is hardly ever taken
        const auto is_inside = [&](index_t i, auto pack_arch) {
            using traits = simd::pack_traits<T, decltype(pack_arch)>;
            const auto m = load_weighted(v, metric, i, pack_arch).magnitude;
            return m > traits::broadcast(low) && m <= traits::broadcast(high);
        };
        const auto add = [&](index_t i, auto pack_arch) {
            using traits = simd::pack_traits<T, decltype(pack_arch)>;
            const auto inside = is_inside(i, pack_arch);
            if (!simd::any(inside)) return;
            const auto [m, e] = load_weighted(v, metric, i, pack_arch);
            simd::store(magnitude + size, m);
            simd::store(weight + size, simd::select(inside, e, traits::broadcast(T(0))));
            size += traits::lanes;
        };
        const index_t unrolled = n - n % (unroll * lanes);
        for (index_t i = 0; i < unrolled; i += unroll * lanes) {
            const auto first = is_inside(i, arch) || is_inside(i + lanes, arch);
            const auto second = is_inside(i + 2 * lanes, arch) || is_inside(i + 3 * lanes, arch);
            if (!simd::any(first || second)) continue;
            if (size + unroll * lanes > capacity) return false;
            for (index_t k = 0; k < unroll; ++k) add(i + k * lanes, arch);
        }
        if (size + n - unrolled > capacity) return false;
        for (index_t i = unrolled; i < n; ++i) add(i, simd::scalar_arch{});
        return true;
    }
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::kernels
