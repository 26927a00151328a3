// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <limits>

#include <magr/linalg/cholesky.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/solver/gram_split.hpp>
#include <magr/solver/packed_matrix.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// A matrix below H_d whose inverse is cheap:
///
///     H_d >= N = diag(floor) + V diag(strength) V^T         V the directions of a `gram_split`
///
/// so that f^T N^-1 f bounds f^T H_d^-1 f from above. The lower bounds of an optimum are built on this.
struct gram_floor {
    Eigen::ArrayXd floor;     ///< zeros if nothing is known
    Eigen::ArrayXd strength;  ///< of each direction
};

/// Finds the floor  0.9 shift + 0.9 tau D  with the largest useful tau.
///
/// Damping alone gives H_d >= shift I, which is weak for inputs that are larger than most. H_d - 0.9 shift I - tau D, without the
/// dominating directions, has a Cholesky factor if tau is small enough. The function tries half, then a fifth, of the value that the
/// Lanczos steps of the split suggest. If neither would improve bounds much, or neither has a factor, the floor uses the shift alone.
///
/// @par Cost      at most two factorizations, in^3 / 6 multiply-adds each; allocates one matrix of H's size in S
/// @par Numerics  a factorization in S is off by about eps sqrt(in) diag(H_d), which must be less than a tenth of tau D
template <compute_scalar S>
[[nodiscard]] gram_floor make_gram_floor(const layer_problem& problem, const gram_split& split, executor_ref exec) {
    const index_t n = problem.cols(), stride = packed_matrix<S>::stride_for(n);
    // Subtract only so much of lambda that an eigenvalue of 1 in the metric D remains along each direction: with nothing left, there would
    // be no floor there.
    const Eigen::ArrayXd outside =
        (split.lambda - (split.V.array().square().colwise() / split.D).colwise().sum().transpose().inverse()).cwiseMax(0.0);
    for (const double share : {0.5, 0.2}) {
        const double tau = share * split.low;
        if (!(tau > 0)) break;
        const double left = (problem.shift / (problem.shift + tau * split.D)).mean();
        if (left > 0.85) break;
        Eigen::ArrayXd diagonal = problem.diagonal + 0.1 * problem.shift;
        for (index_t k = 0; k < split.directions(); ++k) diagonal -= outside(k) * split.V.col(k).array().square();
        const double rounding = 16 * static_cast<double>(std::numeric_limits<S>::epsilon()) * std::sqrt(static_cast<double>(n)) *
                                (diagonal / split.D).maxCoeff();
        if (rounding > 0.1 * tau) break;
        aligned_buffer<S> values =
            load_triangle<S>(problem, split.V, -outside, [&](index_t j) { return -0.9 * problem.shift - tau * split.D(j); });
        if (!linalg::cholesky(matrix_view<S>(values.data(), n, n, stride), exec)) continue;
        return {0.9 * problem.shift + 0.9 * tau * split.D, outside};
    }
    // H_d >= V diag(lambda) V^T and H_d >= shift I, so it is above any weighted mean of both
    const double part = split.directions() > 0 ? 0.75 : 1;
    return {Eigen::ArrayXd::Constant(n, part * problem.shift), (1 - part) * split.lambda};
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
