// SPDX-License-Identifier: MIT
#pragma once

#include <magr/matrix/matrix_view.hpp>
#include <magr/simd/pack.hpp>

/// The threshold search behind the projection onto the l1 ball and the prox of the l_inf norm: the only one in the library.
namespace magr::kernels {

// How a vector v enters the threshold equation  sum_i e_i (m_i - tau)_+ = total: as magnitudes m_i >= 0 with weights e_i > 0.

/// m_i = |v_i|, e_i = 1: the Euclidean metric.
struct unit_metric {};

/// m_i = |v_i|, e_i = d_i: the prox of the l_inf norm in the metric diag(d).
template <class T>
struct diagonal_metric {
    const T* d;
};

/// m_i = d_i |v_i|, e_i = 1 / d_i: the projection onto the l1 ball in the metric diag(d).
template <class T>
struct dual_diagonal_metric {
    const T* d;
};

inline namespace MAGR_ISA_NAMESPACE {

/// Elements of one block.
inline constexpr index_t block_size = 1024;

template <class T>
inline constexpr T largest_number = sizeof(T) == sizeof(float) ? static_cast<T>(__FLT_MAX__) : static_cast<T>(__DBL_MAX__);

/// A vector of n elements as contiguous blocks. `block(i, m, buffer)` returns a pointer to elements i..i+m, which a source without
/// contiguous elements of type T first copies into `buffer`; `write_back` returns them from there.
template <class T>
struct contiguous_source {
    T* data;
    MAGR_ALWAYS_INLINE T* block(index_t i, index_t, T*) const noexcept { return data + i; }
    MAGR_ALWAYS_INLINE void write_back(index_t, index_t, const T*) const noexcept {}
};

/// Elements with a stride or in a storage type that is converted for arithmetic.
template <class T, class Storage>
struct strided_source {
    Storage* data;
    index_t stride;
    MAGR_ALWAYS_INLINE T* block(index_t i, index_t m, T* buffer) const noexcept {
        for (index_t k = 0; k < m; ++k) buffer[k] = static_cast<T>(data[(i + k) * stride]);
        return buffer;
    }
    MAGR_ALWAYS_INLINE void write_back(index_t i, index_t m, const T* values) const noexcept {
        for (index_t k = 0; k < m; ++k) data[(i + k) * stride] = static_cast<Storage>(values[k]);
    }
};

/// The part of a metric that belongs to elements i...
MAGR_ALWAYS_INLINE unit_metric metric_at(unit_metric, index_t) noexcept { return {}; }
template <class T, template <class> class Metric>
MAGR_ALWAYS_INLINE Metric<T> metric_at(Metric<T> metric, index_t i) noexcept {
    return {metric.d + i};
}

/// Magnitude and weight of one pack (or one element).
template <class Pack>
struct weighted_magnitude {
    Pack magnitude;
    Pack weight;
};

template <class T, class Arch>
MAGR_ALWAYS_INLINE auto load_weighted(const T* v, unit_metric, index_t i, Arch) noexcept {
    using traits = simd::pack_traits<T, Arch>;
    return weighted_magnitude<typename traits::type>{simd::abs(traits::load(v + i)), traits::broadcast(T(1))};
}
template <class T, class Arch>
MAGR_ALWAYS_INLINE auto load_weighted(const T* v, diagonal_metric<T> metric, index_t i, Arch) noexcept {
    using traits = simd::pack_traits<T, Arch>;
    return weighted_magnitude<typename traits::type>{simd::abs(traits::load(v + i)), traits::load(metric.d + i)};
}
template <class T, class Arch>
MAGR_ALWAYS_INLINE auto load_weighted(const T* v, dual_diagonal_metric<T> metric, index_t i, Arch) noexcept {
    using traits = simd::pack_traits<T, Arch>;
    const auto d = traits::load(metric.d + i);
    return weighted_magnitude<typename traits::type>{simd::abs(traits::load(v + i)) * d, traits::broadcast(T(1)) / d};
}

/// What one pass over a vector finds out.
struct threshold_sums {
    double excess = 0;  ///< sum of e_i (m_i - tau)_+
    double weight = 0;  ///< sum of e_i over m_i > tau
};

/// Whether additions under a mask are to take the place of a selection and additions: where mask registers are, and the weight is in a
/// register, too; from memory, compilers would load it for each addition.
template <class Metric, class Arch>
inline constexpr bool adds_under_mask = false;
#if MAGR_HAS_XSIMD
template <std::derived_from<xsimd::avx512f> Arch>
inline constexpr bool adds_under_mask<unit_metric, Arch> = true;
#endif

/// Elements whose sums are kept in T: so few that at most 16 additions follow each other, whose rounding stays at a few ulp.
template <class T, class Arch>
inline constexpr index_t sum_block = 64 * simd::pack_traits<T, Arch>::lanes < block_size ? 64 * simd::pack_traits<T, Arch>::lanes
                                                                                         : block_size;

/// One pass over at most `sum_block` elements, added to `sums`. `load(i, arch)` gives the `weighted_magnitude` of pack i.., with
/// `simd::scalar_arch` of element i, in a metric of that type.
template <class T, class Load, class Metric, class Arch>
inline void add_threshold_sums(const Load& load, Metric, index_t n, T tau, threshold_sums& sums, Arch arch) noexcept {
    using traits = simd::pack_traits<T, Arch>;
    using pack = typename traits::type;
    constexpr index_t lanes = traits::lanes;
    constexpr index_t unroll = 4;  // hides the latency of the additions
    const pack threshold = traits::broadcast(tau);
    const pack zero = traits::broadcast(T(0));
    pack excess[unroll] = {zero, zero, zero, zero};
    pack weight[unroll] = {zero, zero, zero, zero};
    const index_t unrolled = n - n % (unroll * lanes);
    const index_t packed = n - n % lanes;
    const auto step = [&](index_t at, index_t k) {
        const auto [m, e] = load(at, arch);
        if constexpr (adds_under_mask<Metric, Arch>) {
            const auto above = m > threshold;
            excess[k] = simd::select(above, simd::fma(e, m - threshold, excess[k]), excess[k]);
            weight[k] = simd::select(above, weight[k] + e, weight[k]);
        } else {
            const pack active = simd::select(m > threshold, e, zero);
            excess[k] = simd::fma(active, m - threshold, excess[k]);
            weight[k] = weight[k] + active;
        }
    };
    for (index_t i = 0; i < unrolled; i += unroll * lanes)
        for (index_t k = 0; k < unroll; ++k) step(i + k * lanes, k);
    for (index_t i = unrolled; i < packed; i += lanes) step(i, 0);
    const auto fold = [](const pack(&p)[unroll]) { return (p[0] + p[1]) + (p[2] + p[3]); };
    double excess_sum = static_cast<double>(simd::reduce_add(fold(excess)));
    double weight_sum = static_cast<double>(simd::reduce_add(fold(weight)));
    for (index_t i = packed; i < n; ++i) {
        const auto [m, e] = load(i, simd::scalar_arch{});
        if (m > tau) {
            excess_sum += static_cast<double>(e * (m - tau));
            weight_sum += static_cast<double>(e);
        }
    }
    sums.excess += excess_sum;
    sums.weight += weight_sum;
}

/// One pass over a whole vector.
template <class T, class Source, class Metric, class Arch>
[[nodiscard]] inline threshold_sums sums_above(const Source& v, Metric metric, index_t n, T tau, Arch arch) noexcept {
    threshold_sums sums;
    T buffer[block_size];
    constexpr index_t size = sum_block<T, Arch>;
    for (index_t i = 0; i < n; i += size) {
        const index_t m = n - i < size ? n - i : size;
        const T* block = v.block(i, m, buffer);
        const Metric block_metric = metric_at(metric, i);
        add_threshold_sums([&](index_t k, auto pack_arch) { return load_weighted(block, block_metric, k, pack_arch); }, metric, m, tau,
                           sums, arch);
    }
    return sums;
}

/// The same, and the largest magnitude of all.
template <class T, class Source, class Metric, class Arch>
[[nodiscard]] inline threshold_sums sums_above_and_largest(const Source& v, Metric metric, index_t n, T tau, T& largest,
                                                           Arch arch) noexcept {
    using traits = simd::pack_traits<T, Arch>;
    threshold_sums sums;
    auto largest_of_lanes = traits::broadcast(T(0));
    largest = 0;
    T buffer[block_size];
    constexpr index_t size = sum_block<T, Arch>;
    for (index_t i = 0; i < n; i += size) {
        const index_t m = n - i < size ? n - i : size;
        const T* block = v.block(i, m, buffer);
        const Metric block_metric = metric_at(metric, i);
        const auto load = [&](index_t k, auto pack_arch) {
            const auto one = load_weighted(block, block_metric, k, pack_arch);
            if constexpr (simd::pack_traits<T, decltype(pack_arch)>::lanes == 1)
                largest = simd::max(one.magnitude, largest);
            else
                largest_of_lanes = simd::max(one.magnitude, largest_of_lanes);
            return one;
        };
        add_threshold_sums(load, metric, m, tau, sums, arch);
    }
    T lanes[traits::lanes];
    simd::store(lanes, largest_of_lanes);
    for (const T magnitude : lanes) largest = simd::max(largest, magnitude);
    return sums;
}

/// The elements of largest magnitude of interleaved groups; element i belongs to group i % groups.
template <class T>
struct group_maxima {
    static constexpr index_t groups = 256;
    T magnitude[groups] = {};
    T weight[groups] = {};  ///< of the element with that magnitude
};

/// One pass over a whole vector.
template <class T, class Source, class Metric, class Arch>
[[nodiscard]] inline group_maxima<T> find_group_maxima(const Source& v, Metric metric, index_t n, Arch arch) noexcept {
    constexpr index_t groups = group_maxima<T>::groups;
    constexpr index_t lanes = simd::pack_traits<T, Arch>::lanes;
    static_assert(block_size % groups == 0 && groups % lanes == 0);
    group_maxima<T> maxima;
    T buffer[block_size];
    for (index_t i = 0; i < n; i += block_size) {
        const index_t m = n - i < block_size ? n - i : block_size;
        const T* block = v.block(i, m, buffer);
        const Metric block_metric = metric_at(metric, i);
        const auto keep_larger = [&](index_t group, index_t end, auto pack_arch) {  // elements group, group + groups, ... before end
            using traits = simd::pack_traits<T, decltype(pack_arch)>;
            auto magnitude = traits::load(maxima.magnitude + group);
            auto weight = traits::load(maxima.weight + group);
            for (index_t k = group; k < end; k += groups) {
                const auto [one_m, one_e] = load_weighted(block, block_metric, k, pack_arch);
                weight = simd::select(one_m > magnitude, one_e, weight);
                magnitude = simd::max(one_m, magnitude);
            }
            simd::store(maxima.magnitude + group, magnitude);
            simd::store(maxima.weight + group, weight);
        };
        const index_t packed = m - m % lanes;
        for (index_t group = 0; group < groups; group += lanes) keep_larger(group, packed, arch);
        for (index_t k = packed; k < m; ++k) {
            const auto [one_m, one_e] = load_weighted(block, block_metric, k, simd::scalar_arch{});
            if (one_m > maxima.magnitude[k % groups]) {
                maxima.magnitude[k % groups] = one_m;
                maxima.weight[k % groups] = one_e;
            }
        }
    }
    return maxima;
}

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
/// @param near       whether tau may be so near the root that Newton's own step is tried first
/// @param sums_at    gives the sums above another tau
/// @param find_near  `find_near(tau, sums, next, root)` may find the root itself, when Newton's step from tau to next is short
template <class T, class SumsAt, class FindNear>
[[nodiscard]] inline found_threshold<T> newton_threshold(double total, T tau, threshold_sums sums, bool near, const SumsAt& sums_at,
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
        const double factor = near ? 1 : 2 / (1 + __builtin_sqrt(total / sums.excess));
        const double stepped = static_cast<double>(tau) + factor * step;
        const T further = stepped < largest ? static_cast<T>(stepped) : largest_number<T>;
        near = false;
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
[[nodiscard]] inline found_threshold<T> newton_threshold(double total, T tau, bool near, const SumsAt& sums_at) noexcept {
    return newton_threshold(total, tau, sums_at(tau), near, sums_at,
                            [](T, const threshold_sums&, T, found_threshold<T>&) { return false; });
}

/// The elements with magnitudes in (low, high], as whole packs; what else is in these has weight zero.
template <class T, class Arch>
struct threshold_band {
    static constexpr index_t lanes = simd::pack_traits<T, Arch>::lanes;
    static constexpr index_t capacity = 64 * lanes;
    T magnitude[capacity];
    T weight[capacity];
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

/// The threshold from any tau >= 0 and the sums above it; `find_threshold` says how.
/// @param near  as for `newton_threshold`
template <class T, class Source, class Metric, class Arch>
[[nodiscard]] inline found_threshold<T> threshold_from(const Source& v, Metric metric, index_t n, double total, T tau,
                                                       const threshold_sums& sums, bool near, Arch arch) noexcept {
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
    return newton_threshold(total, tau, sums, near, [&](T at) { return sums_above(v, metric, n, at, arch); }, find_near);
}

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
    T buffer[run];
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

/// One pass, which finds the root if all elements above tau are equal, but for so little that the root is the same.
/// @param sums  becomes the sums above tau
template <class T, class Source, class Metric, class Arch>
[[nodiscard]] inline bool find_root_of_equal(const Source& v, Metric metric, index_t n, double total, T tau, threshold_sums& sums,
                                             found_threshold<T>& root, Arch arch) noexcept {
    T largest;
    sums = sums_above_and_largest(v, metric, n, tau, largest, arch);
    if (!(sums.weight > 0 && sums.excess >= total && sums.excess <= static_cast<double>(largest_number<T>))) return false;
    // The root is not above where it were if all elements above tau were equal, and not below Newton's step.
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

/// The largest magnitude of all.
template <class T, class Source, class Metric, class Arch>
[[nodiscard]] inline T largest_magnitude(const Source& v, Metric metric, index_t n, Arch arch) noexcept {
    const group_maxima<T> maxima = find_group_maxima<T>(v, metric, n, arch);
    T largest = 0;
    for (const T magnitude : maxima.magnitude) largest = simd::max(largest, magnitude);
    return largest;
}

/// `find_threshold` for one who has already seen the vector once.
/// @param sums  the sums above the hint, which may also be 0
template <class T, class Source, class Metric, class Arch>
[[nodiscard]] inline T continue_threshold(const Source& v, Metric metric, index_t n, double total, T hint, const threshold_sums& sums,
                                          Arch arch) noexcept {
    if (!(total > 0)) return largest_magnitude<T>(v, metric, n, arch);
    // Of smaller totals T does not hold enough digits, or not the terms at all.
    constexpr double smallest = sizeof(T) == sizeof(float) ? 0x1p-120 : 0x1p-960;
    if (total < smallest * static_cast<double>(n)) return wide_threshold(v, metric, n, total, T(0));
    const bool is_start = hint > T(0) ? sums.weight > 0 : n < 4 * group_maxima<T>::groups && sums.weight > 0;
    const found_threshold<T> found = is_start ? threshold_from(v, metric, n, total, hint, sums, hint > T(0), arch)
                                              : cold_threshold(v, metric, n, total, hint, arch);
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
