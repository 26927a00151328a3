// SPDX-License-Identifier: MIT
#pragma once

#include <magr/kernels/cold_threshold.hpp>
#include <magr/kernels/group_maxima.hpp>
#include <magr/kernels/newton_threshold.hpp>
#include <magr/kernels/threshold_from.hpp>
#include <magr/kernels/threshold_sums.hpp>
#include <magr/kernels/wide_threshold.hpp>
#include <magr/matrix/matrix_view.hpp>

/// The threshold search of the projection onto the l1 ball and the prox of the l_inf norm: the only one in the library.
namespace magr::kernels {
inline namespace MAGR_ISA_NAMESPACE {

/// `find_threshold` for callers that already made one pass over the vector.
/// @param sums  the sums above the hint, which may also be 0
template <class T, class Source, class Metric, class Arch>
[[nodiscard]] inline T continue_threshold(const Source& v, Metric metric, index_t n, double total, T hint, const threshold_sums& sums,
                                          Arch arch) noexcept {
    if (!(total > 0)) return largest_magnitude<T>(v, metric, n, arch);
    // Of smaller totals T does not hold enough digits, or not the terms at all.
    constexpr double smallest = sizeof(T) == sizeof(float) ? 0x1p-120 : 0x1p-960;
    if (total < smallest * static_cast<double>(n)) return wide_threshold(v, metric, n, total, T(0));
    const bool is_start = hint > T(0) ? sums.weight > 0 : n < 4 * group_maxima<T>::groups && sums.weight > 0;
    const found_threshold<T> found =
        is_start ? threshold_from(v, metric, n, total, hint, sums, hint > T(0), arch) : cold_threshold(v, metric, n, total, hint, arch);
    return found.mean_excess <= 2 * static_cast<double>(found.tau) ? found.tau : wide_threshold(v, metric, n, total, found.tau);
}

/// Threshold tau >= 0 with  sum_i e_i (m_i - tau)_+ = total,  or 0 if already  sum_i e_i m_i <= total.
///
/// Newton's method on the convex, decreasing, piecewise linear left side. Near the root one pass more collects the few elements between tau
/// and the root, which settle the rest. Without a hint it starts at the threshold of a sample, or, where only few elements are above that,
/// at the threshold of the largest elements of groups alone: a lower bound, because the other elements only add to the left side. A hint
/// above all elements takes one pass more, just below it, which ends the search if the elements found there are equal. What sums in T
/// cannot settle, because they overflow or because tau is small beside what lies above it, ends with passes of wider sums.
///
/// @param hint  any tau >= 0; the threshold of a nearby problem saves passes, 0 is always good
/// @pre         n >= 1, entries finite, m_i finite, e_i > 0 and 1 / e_i finite, total >= 0
/// @par Cost    O(n) per pass, no sort, no allocation; tests/kernels/threshold_test.cpp allows 4 passes from the root, 14 without a hint
/// @par Numerics sums in short runs of T and across them in double; within a few ulp of the root, whatever the weights, scale and hint
template <class T, class Source, class Metric, class Arch>
[[nodiscard]] inline T find_threshold(const Source& v, Metric metric, index_t n, double total, T hint, Arch arch) noexcept {
    const bool is_hinted = total > 0 && hint > T(0);
    const threshold_sums sums = is_hinted ? sums_above(v, metric, n, hint, arch) : threshold_sums{};
    return continue_threshold(v, metric, n, total, is_hinted ? hint : T(0), sums, arch);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::kernels
