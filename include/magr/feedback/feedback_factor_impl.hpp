// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <magr/calibration/live_gram.hpp>
#include <magr/detail/aligned_buffer.hpp>
#include <magr/detail/contract.hpp>
#include <magr/detail/finite.hpp>
#include <magr/feedback/factor_precision.hpp>
#include <magr/feedback/feedback_factor.hpp>
#include <magr/linalg/cholesky.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr {
namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Makes one attempt: fills feedback and pivots, or reports that the matrix is not numerically positive definite.
///
/// H = T D T^T runs from the last column to the first. With rows and columns reversed it is an ordinary Cholesky factorization. This avoids
/// the inverse of H, from which the feedback is usually derived.
template <compute_scalar Factor, compute_scalar Scalar>
[[nodiscard]] bool factor_once(const matrix_ref& H, std::span<const index_t> order, const live_columns& live, feedback_factor<Scalar>& out,
                               executor_ref exec) {
    const index_t n = H.cols();
    const auto column = [&](index_t k) { return order[static_cast<std::size_t>(n - 1 - k)]; };
    const auto dead = [&](index_t j) { return live.dead[static_cast<std::size_t>(j)] != 0; };
    // in units of the mean diagonal entry, because float cannot hold every scale of H
    const auto diagonal = [&](index_t k) {
        const index_t b = column(k);
        const double added = out.added[static_cast<std::size_t>(n - 1 - k)];
        return dead(b) ? Factor(1) : static_cast<Factor>((H(b, b) + added) / live.mean);
    };
    // Squares, so that neither side of a transposition walks long distances across its memory order. Divisions have loops of their own,
    // which compilers vectorise.
    constexpr index_t square = 32;
    const bool is_natural = std::is_sorted(order.begin(), order.end());
    const index_t strips = (n + square - 1) / square;

    const aligned_buffer<Factor> memory(n * n);
    const matrix_view<Factor> turned(memory.data(), n, n);  // only its lower triangle is used
    exec.parallel_for(strips, [&](index_t strip, index_t) {
        const index_t end = (std::min)(n, (strip + 1) * square);
        for (index_t k0 = 0; k0 < end; k0 += square)
            for (index_t i = strip * square; i < end; ++i) {
                const index_t a = column(i), count = (std::min)(square, i - k0);
                if (count <= 0) continue;
                double entries[square];
                if (is_natural) {
                    H.load_column(column(k0 + count - 1), a, count, entries);
                    std::reverse(entries, entries + count);
                } else {
                    for (index_t k = 0; k < count; ++k) {
                        const index_t b = column(k0 + k);
                        entries[k] = H((std::max)(a, b), (std::min)(a, b));
                    }
                }
                for (index_t k = 0; k < count; ++k) turned(i, k0 + k) = static_cast<Factor>(entries[k] / live.mean);
            }
        for (index_t i = strip * square; i < end; ++i) {
            turned(i, i) = diagonal(i);
            if (out.dead.empty()) continue;
            for (index_t k = 0; k < i; ++k)
                if (dead(column(i)) || dead(column(k))) turned(i, k) = 0;
        }
    });
    if (!linalg::cholesky(turned, exec)) return false;

    // a pivot this far below its diagonal entry has lost most of its digits to rounding, and so has the feedback computed from it
    constexpr double smallest = std::is_same_v<Factor, double> ? 1e-10 : 1e-4;
    std::vector<char> accepted(static_cast<std::size_t>(strips), 1);
    exec.parallel_for(strips, [&](index_t strip, index_t) {
        const index_t first = strip * square, end = (std::min)(n, first + square);
        bool good = true;
        Factor roots[square];
        for (index_t k = first; k < end; ++k) {
            roots[k - first] = turned(k, k);
            const double root = static_cast<double>(turned(k, k));
            const double pivot = root * root;
            good = good && pivot >= smallest * static_cast<double>(diagonal(k));
            out.pivots[static_cast<std::size_t>(n - 1 - k)] = dead(column(k)) ? 0 : pivot * live.mean;
            out.feedback(n - 1 - k, n - 1 - k) = 1;
        }
        for (index_t i0 = first; i0 < n; i0 += square) {
            const index_t last = (std::min)(i0 + square, n);
            Scalar ratios[square][square];
            for (index_t i = i0; i < last; ++i)
                for (index_t k = first; k < (std::min)(end, i); ++k)
                    ratios[i - i0][k - first] = static_cast<Scalar>(turned(i, k) / roots[k - first]);
            for (index_t k = first; k < end; ++k)
                for (index_t i = (std::max)(i0, k + 1); i < last; ++i) out.feedback(n - 1 - k, n - 1 - i) = ratios[i - i0][k - first];
        }
        const auto rows = std::as_const(out.feedback).view().block(n - end, 0, end - first, n - first);
        accepted[static_cast<std::size_t>(strip)] = good && is_finite(rows);
    });
    return std::all_of(accepted.begin(), accepted.end(), [](char good) { return good != 0; });
}

/// Refuses arguments of `factor_feedback` that no result of the library can be.
inline void require_factorable(const matrix_ref& H, std::span<const index_t> order, const factor_options& options) {
    constexpr const char* function = "factor_feedback";
    require_not_empty(function, "H", H);
    require_shape(function, "H", H, H.cols(), H.cols());
    require_option(options.damping >= 0 && is_finite(options.damping), function, "damping", "at least 0 and finite", options.damping);
    require_option(options.dead_threshold >= 0 && options.dead_threshold < 1, function, "dead_threshold", "in [0, 1)",
                   options.dead_threshold);
    require_enumerator(function, "precision", options.precision);
    const auto n = static_cast<std::size_t>(H.cols());
    if (order.size() != n) raise<shape_error>(concat(function, ": order must have ", n, " entries, it has ", order.size()));
    std::vector<char> seen(n);
    for (const index_t j : order) {
        if (j < 0 || j >= H.cols() || seen[static_cast<std::size_t>(j)] != 0)
            raise<value_error>(concat(function, ": order must contain each of 0..", n - 1, " once, one entry is ", j));
        seen[static_cast<std::size_t>(j)] = 1;
    }
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar Scalar>
feedback_factor<Scalar> factor_feedback(const detail::matrix_ref& H, std::span<const index_t> order, const factor_options& options,
                                        executor_ref exec) {
    detail::require_factorable(H, order, options);
    constexpr double first_retry = 1e-6;
    constexpr double last_retry = 1;
    constexpr double first_floor = 1e-6;
    constexpr double last_floor = 0.2;  // 0.1, with a margin for rounding
    const auto n = static_cast<std::size_t>(H.cols());
    const detail::live_columns live = detail::find_live_columns(H, options.dead_threshold);
    feedback_factor<Scalar> factor;
    for (std::size_t j = 0; j < n; ++j)
        if (live.dead[j]) factor.dead.push_back(static_cast<index_t>(j));
    factor.feedback = matrix<Scalar>(H.cols(), H.cols());
    factor.pivots.resize(n);
    factor.added.resize(n);

    factor.precision = options.precision;
    if (options.precision == factor_precision::automatic)
        factor.precision = std::is_same_v<Scalar, double> ? factor_precision::float64 : factor_precision::float32;

    const auto attempt = [&] {
        ++factor.attempts;
        for (std::size_t k = 0; k < n; ++k) {
            const auto j = static_cast<std::size_t>(order[k]);
            const double energy = H(order[k], order[k]);
            const double damped = energy + factor.damping * live.mean;
            factor.added[k] = live.dead[j] ? 0 : (std::max)(damped, factor.diagonal_floor) - energy;
        }
        bool good = factor.precision == factor_precision::float32 && detail::factor_once<float>(H, order, live, factor, exec);
        if (!good && options.precision != factor_precision::float32) {
            factor.precision = factor_precision::float64;
            good = detail::factor_once<double>(H, order, live, factor, exec);
        }
        if (good) factor.status = factor.attempts == 1 ? factor_status::as_requested : factor_status::damped_more;
        return good;
    };
    factor.damping = options.damping;
    if (attempt()) return factor;
    if (options.raise_damping) {
        while (factor.damping < last_retry) {
            factor.damping = (std::min)(last_retry, (std::max)(first_retry, 10 * factor.damping));
            if (attempt()) return factor;
        }
        for (double fraction = first_floor; fraction < last_floor; fraction *= 10) {
            factor.diagonal_floor = fraction * live.largest;
            if (attempt()) return factor;
        }
    }
    factor.feedback = {};
    factor.pivots.clear();
    factor.added.clear();
    return factor;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
