// SPDX-License-Identifier: MIT
#pragma once

#include <magr/kernels/apply_threshold.hpp>
#include <magr/kernels/source.hpp>
#include <magr/kernels/threshold.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/simd/pack.hpp>

/// The two sides of Moreau's identity: v is the sum of its projection onto the l1 ball and its prox of the l_inf norm.
namespace magr::kernels {
inline namespace MAGR_ISA_NAMESPACE {

/// Projection onto the l1 ball, in place, of a vector given as a source (see `contiguous_source`); `magr::project_l1_ball` defines it.
/// @return the threshold; a vector inside the ball is left bit-identical
template <class T, class Source, class Metric, class Arch = simd::default_arch>
inline T project_l1_ball(const Source& v, Metric metric, index_t n, double radius, T hint = T(0), Arch arch = {}) noexcept {
    if (n == 0) return T(0);
    const T tau = find_threshold(read_only(v), metric, n, radius, hint, arch);
    if (tau > T(0)) apply_threshold_to<shrink>(v, metric, n, tau, arch);
    return tau;
}

/// Prox of t ||.||_inf, in place, of a vector given as a source (see `contiguous_source`); `magr::prox_linf` defines it.
/// @return the threshold; with t = 0 the vector is left bit-identical
template <class T, class Source, class Metric, class Arch = simd::default_arch>
inline T prox_linf(const Source& v, Metric metric, index_t n, double t, T hint = T(0), Arch arch = {}) noexcept {
    if (n == 0) return T(0);
    const T tau = find_threshold(read_only(v), metric, n, t, hint, arch);
    if (t > 0) apply_threshold_to<clip>(v, metric, n, tau, arch);
    return tau;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::kernels
