// SPDX-License-Identifier: MIT
#pragma once

#include <magr/kernels/group_maxima.hpp>
#include <magr/kernels/largest_number.hpp>
#include <magr/kernels/metric.hpp>
#include <magr/kernels/newton_threshold.hpp>
#include <magr/kernels/sample_threshold.hpp>
#include <magr/kernels/source.hpp>
#include <magr/kernels/threshold_band.hpp>
#include <magr/kernels/threshold_from.hpp>
#include <magr/kernels/threshold_sums.hpp>
#include <magr/matrix/matrix_view.hpp>

namespace magr::kernels {
inline namespace MAGR_ISA_NAMESPACE {

/// One pass, which finds the root if all elements above tau are equal, but for so little that the root is the same.
/// @param sums  becomes the sums above tau
template <class T, class Source, class Metric, class Arch>
[[nodiscard]] inline bool find_root_of_equal(const Source& v, Metric metric, index_t n, double total, T tau, threshold_sums& sums,
                                             found_threshold<T>& root, Arch arch) noexcept {
    T largest;
    sums = sums_above_and_largest(v, metric, n, tau, largest, arch);
    if (!(sums.weight > 0 && sums.excess >= total && sums.excess <= static_cast<double>(largest_number<T>))) return false;
    // The root is at most where it would be if all elements above tau were equal, and at least Newton's step.
    const double mean_excess = total / sums.weight;
    const double if_equal = static_cast<double>(largest) - mean_excess;
    const double newton = static_cast<double>(tau) + (sums.excess - total) / sums.weight;
    root = {static_cast<T>(if_equal), mean_excess};
    return if_equal - newton <= quotient_error<T> / 8 * if_equal;
}

/// `find_threshold` without a hint to start from, from sums in T.
/// @param bound  0, or no magnitude is above it
template <class T, class Source, class Metric, class Arch>
[[nodiscard]] inline found_threshold<T> cold_threshold(const Source& v, Metric metric, index_t n, double total, T bound,
                                                       Arch arch) noexcept {
    threshold_sums sums;
    found_threshold<T> root;
    // the hint of a nearby problem is mostly just above the largest
    if (bound > T(0) && find_root_of_equal(v, metric, n, total, T(0.875) * bound, sums, root, arch)) return root;
    // Shorter vectors gain less from a better start than it costs.
    constexpr index_t groups = group_maxima<T>::groups;
    constexpr T below = T(0.995);  // from there equal elements are told at once, and a sample is not that exact
    T tau = n >= 8 * groups ? below * sample_threshold<T>(v, metric, n, total, arch) : T(0);
    if (n >= 4 * groups && tau == T(0)) {
        const group_maxima<T> maxima = find_group_maxima<T>(v, metric, n, arch);
        const contiguous_source<const T> largest{maxima.magnitude};
        const diagonal_metric<T> weights{maxima.weight};
        const auto sums_at = [&](T at) { return sums_above(largest, weights, groups, at, arch); };
        tau = newton_threshold(total, tau, false, sums_at).tau;
        threshold_band<T, Arch> band;  // the threshold is not below tau
        if (band.collect_groups(v, metric, n, maxima, tau)) {
            root = newton_threshold(total, tau, true, [&](T at) { return band.sums_above(at, arch); });
            return root.tau < tau ? found_threshold<T>::unknown(tau) : root;
        }
    }
    if (find_root_of_equal(v, metric, n, total, tau, sums, root, arch)) return root;
    return threshold_from(v, metric, n, total, tau, sums, false, arch);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::kernels
