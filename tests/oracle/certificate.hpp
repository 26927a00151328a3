// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

/// How far a point is from being the projection or the prox. Uses the optimality conditions alone, without knowing the solution.
namespace oracle {

/// Violations of the two conditions that characterise the solution: both are 0 (up to rounding) at the solution and nowhere else.
struct violation {
    long double infeasibility;
    long double gap;
};

/// x is the projection of v onto the l1 ball in the metric D iff ||x||_1 <= r and <D (v - x), y - x> <= 0 for all y in the ball.
/// The largest left side over y is  r ||D (v - x)||_inf - <D (v - x), x>.
template <class T>
violation projection_violation(const std::vector<T>& v, const std::vector<T>& x, const std::vector<T>& d, long double radius) {
    long double l1 = 0, largest = 0, inner = 0;
    for (std::size_t i = 0; i < v.size(); ++i) {
        const auto at = static_cast<long double>(x[i]);
        const long double normal = (d.empty() ? 1 : static_cast<long double>(d[i])) * (static_cast<long double>(v[i]) - at);
        l1 += std::abs(at);
        largest = std::max(largest, std::abs(normal));
        inner += normal * at;
    }
    return {std::max(l1 - radius, 0.0L), radius * largest - inner};
}

/// x is the prox of t ||.||_inf at v in the metric D iff s = D (v - x) is a subgradient of t ||.||_inf at x:
/// ||s||_1 <= t and <s, x> = t ||x||_inf.
template <class T>
violation prox_violation(const std::vector<T>& v, const std::vector<T>& x, const std::vector<T>& d, long double t) {
    long double l1 = 0, largest = 0, inner = 0;
    for (std::size_t i = 0; i < v.size(); ++i) {
        const auto at = static_cast<long double>(x[i]);
        const long double s = (d.empty() ? 1 : static_cast<long double>(d[i])) * (static_cast<long double>(v[i]) - at);
        l1 += std::abs(s);
        largest = std::max(largest, std::abs(at));
        inner += s * at;
    }
    return {std::max(l1 - t, 0.0L), t * largest - inner};
}

}  // namespace oracle
