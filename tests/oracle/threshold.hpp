// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

/// The textbook versions of the threshold search, the l1 ball projection and the l_inf prox: by sorting, in long double.
/// Source: J. Duchi et al., Efficient projections onto the l1-ball for learning in high dimensions, ICML 2008, figure 1.
namespace oracle {

using real = long double;

/// One element of  sum_i e_i (m_i - tau)_+ = total.
struct element {
    real magnitude;
    real weight;
};

/// sum_i e_i (m_i - tau)_+
inline real excess(const std::vector<element>& elements, real tau) {
    real sum = 0;
    for (const auto& [m, e] : elements) sum += e * std::max(m - tau, real(0));
    return sum;
}

/// The root tau >= 0 of  excess(tau) = total,  0 if excess(0) <= total, max_i m_i if total = 0.
inline real threshold(std::vector<element> elements, real total) {
    std::sort(elements.begin(), elements.end(), [](const element& a, const element& b) { return a.magnitude > b.magnitude; });
    real largest_sum = 0, weight = 0, tau = elements.empty() ? 0 : elements.front().magnitude;
    if (total <= 0) return tau;
    for (const auto& [m, e] : elements) {
        largest_sum += e * m;
        weight += e;
        const real candidate = (largest_sum - total) / weight;
        if (m <= candidate) break;
        tau = candidate;
    }
    return std::max(tau, real(0));
}

/// The terms of v in the threshold equation of the prox of t ||.||_inf in the metric diag(d); without d in the Euclidean metric.
template <class T>
std::vector<element> prox_elements(const std::vector<T>& v, const std::vector<T>& d) {
    std::vector<element> elements(v.size());
    for (std::size_t i = 0; i < v.size(); ++i)
        elements[i] = {std::abs(static_cast<real>(v[i])), d.empty() ? real(1) : static_cast<real>(d[i])};
    return elements;
}

/// The terms of v in the threshold equation of the projection onto the l1 ball in the metric diag(d).
template <class T>
std::vector<element> projection_elements(const std::vector<T>& v, const std::vector<T>& d) {
    std::vector<element> elements(v.size());
    for (std::size_t i = 0; i < v.size(); ++i) {
        const real metric = d.empty() ? real(1) : static_cast<real>(d[i]);
        elements[i] = {metric * std::abs(static_cast<real>(v[i])), 1 / metric};
    }
    return elements;
}

/// argmin_x 1/2 (x - v)^T D (x - v) + t ||x||_inf
template <class T>
std::vector<real> prox_linf(const std::vector<T>& v, const std::vector<T>& d, real t) {
    const real tau = threshold(prox_elements(v, d), t);
    std::vector<real> x(v.size());
    for (std::size_t i = 0; i < v.size(); ++i) x[i] = std::clamp(static_cast<real>(v[i]), -tau, tau);
    return x;
}

/// argmin_x 1/2 (x - v)^T D (x - v)  subject to  ||x||_1 <= radius
template <class T>
std::vector<real> project_l1_ball(const std::vector<T>& v, const std::vector<T>& d, real radius) {
    const auto elements = projection_elements(v, d);
    const real tau = threshold(elements, radius);
    std::vector<real> x(v.size());
    for (std::size_t i = 0; i < v.size(); ++i)
        x[i] = std::copysign(elements[i].weight * std::max(elements[i].magnitude - tau, real(0)), static_cast<real>(v[i]));
    return x;
}

}  // namespace oracle
