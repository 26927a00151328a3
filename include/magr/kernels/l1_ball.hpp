// SPDX-License-Identifier: MIT
#pragma once

#include <magr/kernels/apply_threshold.hpp>

namespace magr::kernels {
inline namespace MAGR_ISA_NAMESPACE {

/// Projection onto the l1 ball of a vector given as a source (see `contiguous_source`), in place; `magr::project_l1_ball` says what it is.
/// @return the threshold; a vector inside the ball is left bit-identical
template <class T, class Source, class Metric, class Arch = simd::default_arch>
inline T project_l1_ball(const Source& v, Metric metric, index_t n, double radius, T hint = T(0), Arch arch = {}) noexcept {
    if (n == 0) return T(0);
    const T tau = find_threshold(v, metric, n, radius, hint, arch);
    if (tau > T(0)) apply_threshold_to<shrink>(v, metric, n, tau, arch);
    return tau;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::kernels
