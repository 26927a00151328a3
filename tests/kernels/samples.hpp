// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <random>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <magr/kernels/block_size.hpp>
#include <magr/prox.hpp>
#include <magr/simd/pack.hpp>

#include "oracle/threshold.hpp"

/// Inputs of the kernel tests, the rounding errors that kernels may have, and the text that a failed comparison prints.
namespace samples {

using magr::index_t;

/// A named distribution: element i of n, drawn with the generator.
struct distribution {
    const char* name;
    double (*draw)(std::mt19937& generator, index_t i, index_t n);
};

inline double gaussian(std::mt19937& generator) { return std::normal_distribution<double>()(generator); }
inline double uniform(std::mt19937& generator) { return std::uniform_real_distribution<double>()(generator); }
inline double random_sign(std::mt19937& generator) { return (generator() & 1U) != 0 ? 1.0 : -1.0; }

/// Distributions that make a threshold search hard: many or few elements near the threshold, ties, order, range, zeros.
inline const std::vector<distribution>& distributions() {
    static const std::vector<distribution> all = {
        {"gaussian", [](std::mt19937& g, index_t, index_t) { return gaussian(g); }},
        {"uniform", [](std::mt19937& g, index_t, index_t) { return 2 * uniform(g) - 1; }},
        {"heavy-tailed", [](std::mt19937& g, index_t, index_t) { return gaussian(g) / (0.01 + std::abs(gaussian(g))); }},
        {"log-normal", [](std::mt19937& g, index_t, index_t) { return random_sign(g) * std::exp(3 * gaussian(g)); }},
        {"twelve decades", [](std::mt19937& g, index_t, index_t) { return random_sign(g) * std::pow(10.0, 12 * uniform(g) - 6); }},
        {"harmonic, decreasing", [](std::mt19937& g, index_t i, index_t) { return random_sign(g) / static_cast<double>(i + 1); }},
        {"linear, increasing",
         [](std::mt19937& g, index_t i, index_t n) { return random_sign(g) * static_cast<double>(i + 1) / static_cast<double>(n); }},
        {"geometric", [](std::mt19937& g, index_t i, index_t) { return random_sign(g) * std::pow(0.99, static_cast<double>(i)); }},
        {"all equal", [](std::mt19937&, index_t, index_t) { return 0.1; }},
        {"one huge", [](std::mt19937& g, index_t i, index_t n) { return i == n / 2 ? -1e6 : gaussian(g); }},
        {"two clusters", [](std::mt19937& g, index_t, index_t) { return uniform(g) < 0.9 ? 1e-3 * gaussian(g) : 1 + 1e-3 * gaussian(g); }},
        {"small integers", [](std::mt19937& g, index_t, index_t) { return std::floor(7 * uniform(g)) - 3; }},
        {"mostly zeros", [](std::mt19937& g, index_t, index_t) { return uniform(g) < 0.95 ? -0.0 : gaussian(g); }},
        {"scale 1e30", [](std::mt19937& g, index_t, index_t) { return 1e30 * gaussian(g); }},
        {"scale 1e-30", [](std::mt19937& g, index_t, index_t) { return 1e-30 * gaussian(g); }},
    };
    return all;
}

inline const distribution& named(const std::string& name) {
    for (const auto& one : distributions())
        if (one.name == name) return one;
    throw std::invalid_argument("no distribution " + name);
}

/// A vector to work on; `d` is empty for the Euclidean metric.
template <class T>
struct sample {
    std::string name;
    std::vector<T> v;
    std::vector<T> d;
};

template <class T>
sample<T> make(const distribution& from, index_t n, bool weighted, unsigned seed = 1) {
    std::mt19937 generator(seed);
    sample<T> made;
    for (index_t i = 0; i < n; ++i) made.v.push_back(static_cast<T>(from.draw(generator, i, n)));
    if (weighted)
        for (index_t i = 0; i < n; ++i) made.d.push_back(static_cast<T>(std::pow(10.0, 4 * uniform(generator) - 2)));
    std::ostringstream name;
    name << from.name << ", n = " << n << (weighted ? ", weighted" : "") << ", seed " << seed;
    made.name = name.str();
    return made;
}

/// Every distribution in each size, in the Euclidean and in a diagonal metric.
template <class T>
std::vector<sample<T>> all(const std::vector<index_t>& sizes) {
    std::vector<sample<T>> made;
    for (const auto& from : distributions())
        for (const index_t n : sizes)
            for (const bool weighted : {false, true}) made.push_back(make<T>(from, n, weighted, static_cast<unsigned>(made.size())));
    return made;
}

/// Sizes around the pack widths, the unrolled loop, the groups that give a first threshold, and the blocks of the sums.
inline const std::vector<index_t>& sizes() {
    static const std::vector<index_t> all = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 128, 255, 257, 1023, 1024, 1025, 2049};
    return all;
}

/// Shares of  sum_i e_i m_i  for which the threshold is searched: almost nothing, some, almost everything, everything.
inline const std::vector<double>& shares() {
    static const std::vector<double> all = {1e-6, 1e-3, 0.03, 0.3, 0.9, 0.999, 1.5};
    return all;
}

inline long double total_of(const std::vector<oracle::element>& elements, double share) { return share * oracle::excess(elements, 0); }

inline long double largest_of(const std::vector<oracle::element>& elements) {
    long double largest = 0;
    for (const auto& element : elements) largest = std::max(largest, element.magnitude);
    return largest;
}

template <class T>
inline constexpr long double unit_roundoff = std::numeric_limits<T>::epsilon() / 2;

/// Relative error of the sums of one pass: a block of at most 1024 elements is added up in 4 accumulators for each lane, so a sum is a
/// chain of `additions` operations. Folding 4 accumulators and up to 64 lanes takes 8 more, and each term is rounded 4 times. Terms are not
/// negative, so errors are not amplified. Sums across blocks, in double, do not count.
template <class T, class Arch>
long double sum_error(index_t n) {
    const index_t additions = std::min(n, magr::kernels::block_size) / (4 * magr::simd::pack_traits<T, Arch>::lanes) + 3;
    return static_cast<long double>(additions + 12) * unit_roundoff<T>;
}

/// Bound of the error of a threshold. A Newton step goes from tau to tau + (excess - total) / weight. Both sums have a relative error of at
/// most `sum_error`, and excess / weight is an average of m_i - tau and so at most the largest magnitude. Hence the error of each step, and
/// so of the last one, is less than twice `sum_error` times the largest magnitude. The decision to stop uses the same sums, which doubles
/// the bound.
template <class T, class Arch = magr::simd::default_arch>
long double threshold_error(const std::vector<oracle::element>& elements) {
    return 4 * sum_error<T, Arch>(static_cast<index_t>(elements.size())) * largest_of(elements);
}

/// Errors of the x_i of a projection whose threshold has the error above: e_i times that, and the roundings of v_i d_i and 1 / d_i and two
/// more.
template <class T>
std::vector<long double> shrink_errors(const std::vector<oracle::element>& elements) {
    const auto of_threshold = threshold_error<T>(elements);
    std::vector<long double> errors;
    for (const auto& [m, e] : elements) errors.push_back(e * (of_threshold + 4 * unit_roundoff<T> * m));
    return errors;
}

/// Where two vectors first differ by more than `allowed`, in words; empty if nowhere.
template <class Actual, class Expected>
std::string first_difference(const Actual& actual, const Expected& expected, const std::vector<long double>& allowed) {
    if (actual.size() != expected.size() || actual.size() != allowed.size()) return "sizes differ";
    for (std::size_t i = 0; i < actual.size(); ++i) {
        const auto a = static_cast<long double>(actual[i]), e = static_cast<long double>(expected[i]);
        if (!(std::abs(a - e) <= allowed[i])) {
            std::ostringstream text;
            text.precision(12);
            text << "element " << i << " is " << a << ", expected " << e << " within " << allowed[i];
            return text.str();
        }
    }
    return {};
}

/// Where two vectors first differ in their bits, in words; empty if nowhere. Zeros of different sign differ.
template <class T>
std::string first_bit_difference(const std::vector<T>& actual, const std::vector<T>& expected) {
    if (actual.size() != expected.size()) return "sizes differ";
    for (std::size_t i = 0; i < actual.size(); ++i)
        if (!(actual[i] == expected[i] && std::signbit(actual[i]) == std::signbit(expected[i]))) {
            std::ostringstream text;
            text.precision(12);
            text << "element " << i << " is " << actual[i] << ", expected the bits of " << expected[i];
            return text.str();
        }
    return {};
}

/// Calls the public function for the metric of the sample. Returns x, and stores the threshold in *tau.
template <class T>
std::vector<T> project(const sample<T>& s, long double radius, T* tau = nullptr) {
    std::vector<T> x = s.v;
    const auto r = static_cast<double>(radius);
    const T found = s.d.empty() ? magr::project_l1_ball(std::span(x), r) : magr::project_l1_ball(std::span(x), s.d, r);
    if (tau) *tau = found;
    return x;
}
template <class T>
std::vector<T> prox(const sample<T>& s, long double t, T* tau = nullptr) {
    std::vector<T> x = s.v;
    const auto threshold = static_cast<double>(t);
    const T found = s.d.empty() ? magr::prox_linf(std::span(x), threshold) : magr::prox_linf(std::span(x), s.d, threshold);
    if (tau) *tau = found;
    return x;
}

}  // namespace samples
