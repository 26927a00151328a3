// SPDX-License-Identifier: MIT
#pragma once

#include <magr/kernels/largest_number.hpp>
#include <magr/kernels/threshold_sums.hpp>

namespace magr::kernels {
inline namespace MAGR_ISA_NAMESPACE {

/// What a search in T ends with. The rounding of its sums moves the threshold by a few ulp of `mean_excess`.
template <class T>
struct found_threshold {
    T tau;
    double mean_excess;  ///< of the elements above tau, over tau; 0 if rounding cannot matter, infinite if tau is of no use

    /// Nothing but where to go on, for sums that T cannot hold, and for steps that rounding has spoilt.
    [[nodiscard]] static constexpr found_threshold unknown(T tau) noexcept { return {tau, __builtin_inf()}; }
};

/// Bound of the relative error of the quotient of two sums of one pass.
template <class T>
inline constexpr double quotient_error = 32 * (sizeof(T) == sizeof(float) ? 0x1p-23 : 0x1p-52);

/// Newton's method from any tau >= 0, with the steps of that for the square root of the excess where many elements lie between tau and the
/// root: it is linear in tau where their density is constant. From below the root Newton's own step stays below, from above it falls
/// below. The search ends when a step changes neither the weight above tau nor, but for rounding, the excess: where weights differ by more
/// than the resolution of T, their sum alone does not tell that elements are missing.
/// @param sums       the sums above tau
/// @param is_near    whether tau may be so near the root that Newton's own step is tried first
/// @param sums_at    gives the sums above another tau
/// @param find_near  `find_near(tau, sums, next, root)` may find the root itself, when Newton's step from tau to next is short
template <class T, class SumsAt, class FindNear>
[[nodiscard]] inline found_threshold<T> newton_threshold(double total, T tau, threshold_sums sums, bool is_near, const SumsAt& sums_at,
                                                         const FindNear& find_near) noexcept {
    T bound = T(0);           // the root is not below
    double weight_below = 0;  // of the last tau below the root
    for (;; sums = sums_at(tau)) {
        constexpr double largest = static_cast<double>(largest_number<T>);
        if (!(sums.excess <= largest && sums.weight <= largest)) return found_threshold<T>::unknown(tau);
        if (!(sums.weight > 0)) {  // all elements are below tau
            if (tau == bound) return tau > T(0) ? found_threshold<T>::unknown(tau) : found_threshold<T>{tau, 0};
            tau = bound;
            continue;
        }
        const double mean_excess = total / sums.weight;
        const double difference = sums.excess - total;
        const double step = difference / sums.weight;
        const double newton = static_cast<double>(tau) + step;
        if (tau == T(0) && difference < -quotient_error<T> * total) return {tau, 0};
        const T next = newton > 0 ? (newton < largest ? static_cast<T>(newton) : largest_number<T>) : T(0);
        if (next == tau) return {tau, mean_excess};
        const bool below = next > tau;
        if (below && sums.weight == weight_below && difference <= quotient_error<T> * total) return {next, mean_excess};
        // Rounding has put the last step from below beyond the root; how far, only the step back says.
        if (!below && tau == bound) return {next, -step <= 0x1p-20 * static_cast<double>(tau) ? mean_excess - step : __builtin_inf()};
        found_threshold<T> root;
        if (find_near(tau, sums, next, root)) return root;
        const double factor = is_near ? 1 : 2 / (1 + __builtin_sqrt(total / sums.excess));
        const double stepped = static_cast<double>(tau) + factor * step;
        const T further = stepped < largest ? static_cast<T>(stepped) : largest_number<T>;
        is_near = false;
        if (below) {
            weight_below = sums.weight;
            bound = next;
            tau = further;
        } else {
            tau = further < tau ? further : next;
            if (tau < bound) tau = bound;
        }
    }
}

/// The same, from the sums alone.
template <class T, class SumsAt>
[[nodiscard]] inline found_threshold<T> newton_threshold(double total, T tau, bool is_near, const SumsAt& sums_at) noexcept {
    return newton_threshold(total, tau, sums_at(tau), is_near, sums_at,
                            [](T, const threshold_sums&, T, found_threshold<T>&) { return false; });
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::kernels
