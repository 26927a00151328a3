// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <limits>

#include <magr/linalg/cholesky.hpp>
#include <magr/linalg/vectors.hpp>
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

/// Whether H_d + V diag(strength) V^T + diag(added) has a Cholesky factor in S.
template <compute_scalar S>
[[nodiscard]] bool has_factor(const layer_problem& problem, const Eigen::MatrixXd& V, const Eigen::ArrayXd& strength,
                              const Eigen::ArrayXd& added, executor_ref exec) {
    const index_t n = problem.cols(), stride = packed_matrix<S>::stride_for(n);
    const aligned_buffer<S> values = load_triangle<S>(problem, V, strength, added);
    return linalg::cholesky(matrix_view<S>(values.data(), n, n, stride), exec);
}

/// `make_gram_floor` for an S of this epsilon, where `is_definite` is `has_factor<S>`.
template <int Instance = 0>  // compiled only where it is called
[[nodiscard]] gram_floor find_gram_floor(const layer_problem& problem, const gram_split& split, double epsilon,
                                         bool (*is_definite)(const layer_problem&, const Eigen::MatrixXd&, const Eigen::ArrayXd&,
                                                             const Eigen::ArrayXd&, executor_ref),
                                         executor_ref exec) {
    const index_t n = problem.cols();
    // Subtract only so much of lambda that an eigenvalue of 1 in the metric D remains along each direction: with nothing left, there would
    // be no floor there.
    const Eigen::ArrayXd outside =
        (split.lambda - (split.V.array().square().colwise() / split.D).colwise().sum().transpose().inverse()).cwiseMax(0.0);
    for (const double share : {0.5, 0.2}) {
        const double tau = share * split.low;
        if (!(tau > 0)) break;
        Eigen::ArrayXd values(n);
        for (index_t j = 0; j < n; ++j) values(j) = problem.shift / (problem.shift + tau * split.D(j));
        if (linalg::sum(values.data(), n) / static_cast<double>(n) > 0.85) break;
        double largest = 0;
        for (index_t j = 0; j < n; ++j) {
            double diagonal = problem.diagonal(j) + 0.1 * problem.shift;
            for (index_t k = 0; k < split.directions(); ++k) diagonal -= outside(k) * (split.V(j, k) * split.V(j, k));
            largest = (std::max)(largest, diagonal / split.D(j));
        }
        if (16 * epsilon * std::sqrt(static_cast<double>(n)) * largest > 0.1 * tau) break;
        for (index_t j = 0; j < n; ++j) values(j) = -0.9 * problem.shift - tau * split.D(j);
        if (!is_definite(problem, split.V, -outside, values, exec)) continue;
        for (index_t j = 0; j < n; ++j) values(j) = 0.9 * problem.shift + 0.9 * tau * split.D(j);
        return {values, outside};
    }
    // H_d >= V diag(lambda) V^T and H_d >= shift I, so it is above any weighted mean of both
    const double part = split.directions() > 0 ? 0.75 : 1;
    return {Eigen::ArrayXd::Constant(n, part * problem.shift), (1 - part) * split.lambda};
}

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
    return find_gram_floor(problem, split, static_cast<double>(std::numeric_limits<S>::epsilon()), &has_factor<S>, exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
