// SPDX-License-Identifier: MIT
#pragma once

#include <magr/kernels/largest_number.hpp>
#include <magr/kernels/newton_threshold.hpp>
#include <magr/kernels/threshold_band.hpp>
#include <magr/kernels/threshold_sums.hpp>
#include <magr/matrix/matrix_view.hpp>

namespace magr::kernels {
inline namespace MAGR_ISA_NAMESPACE {

/// The threshold from any tau >= 0 and the sums above it; `find_threshold` says how.
/// @param is_near  as for `newton_threshold`
template <class T, class Source, class Metric, class Arch>
[[nodiscard]] inline found_threshold<T> threshold_from(const Source& v, Metric metric, index_t n, double total, T tau,
                                                       const threshold_sums& sums, bool is_near, Arch arch) noexcept {
    double short_step = 0.25;  // relative to the excess
    const auto find_near = [&](T from, const threshold_sums& known, T next, found_threshold<T>& root) {
        const bool below = next > from;
        const double distance = (below ? known.excess - total : total - known.excess) / known.excess;
        if (distance > short_step) return false;
        const T low = below ? from : next;
        const T high = below ? next + (next - from) : from;
        if (!(high <= largest_number<T>)) return false;
        threshold_band<T, Arch> band;
        if (!band.collect(v, metric, n, low, high, arch)) {
            short_step = distance / 8;
            return false;
        }
        threshold_sums above = known;  // above high
        if (below) {
            const threshold_sums inside = band.sums_above(from, arch);
            above.weight -= inside.weight;
            if (above.weight < known.weight / 1024) return false;  // little but rounding might be left of it
            above.excess -= inside.excess + above.weight * (static_cast<double>(high) - static_cast<double>(from));
            if (above.excess > total) return false;
        }
        root = newton_threshold(total, low, true, [&](T at) {
            threshold_sums inside = band.sums_above(at, arch);
            inside.excess += above.excess + above.weight * (static_cast<double>(high) - static_cast<double>(at));
            inside.weight += above.weight;
            return inside;
        });
        if (root.tau < low) root = found_threshold<T>::unknown(low);
        return true;
    };
    return newton_threshold(
        total, tau, sums, is_near, [&](T at) { return sums_above(v, metric, n, at, arch); }, find_near);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::kernels
