// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include <magr/calibration/largest_eigenvalue.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/parallel/executor.hpp>
#include <magr/preprocess/layer_problem.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// A symmetric tridiagonal matrix whose quadrature stands for a spectrum: (T^-1)_11 and the like are means over the eigenvalues.
struct lanczos_quadrature {
    static constexpr index_t limit = 32;
    std::array<double, limit> diagonal;
    std::array<double, limit> off_squared;
    index_t size = 0;

    /// mean of shift / (lambda + shift)
    [[nodiscard]] double mean_share(double shift) const noexcept {
        double fraction = 0;
        for (index_t k = size - 1; k >= 0; --k) {
            const auto at = static_cast<std::size_t>(k);
            fraction = 1 / (diagonal[at] + shift - off_squared[at] * fraction);
        }
        return shift * fraction;
    }
};

/// Lanczos steps with D^-1/2 H_d D^-1/2 from a vector of scattered signs, which every eigenvector takes about the same part in.
template <class Gram, executor Executor>
[[nodiscard]] lanczos_quadrature make_quadrature(const layer_problem<Gram>& problem, const Eigen::ArrayXd& D, Executor& exec) {
    const index_t n = problem.cols();
    const Eigen::ArrayXd root = D.rsqrt();
    Eigen::ArrayXd last = Eigen::ArrayXd::Zero(n), here(n), scaled(n), next(n);
    std::uint64_t state = 0x9e3779b97f4a7c15u;
    for (index_t i = 0; i < n; ++i) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        here(i) = (state >> 63 != 0 ? 1 : -1) / std::sqrt(static_cast<double>(n));
    }
    lanczos_quadrature made;
    double off = 0;
    while (made.size < (std::min)(n, made.limit)) {
        scaled = problem.scale * root * here;
        constexpr index_t chunk = 64;
        exec.parallel_for((n + chunk - 1) / chunk, [&](index_t task, index_t) {
            for (index_t i = task * chunk; i < (std::min)(n, (task + 1) * chunk); ++i)
                next(i) = root(i) * (problem.unit * column_times(problem.H, i, scaled.data()) + problem.shift * root(i) * here(i));
        });
        const double along = (next * here).sum();
        next -= along * here + off * last;
        off = next.matrix().norm();
        const auto at = static_cast<std::size_t>(made.size++);
        made.diagonal[at] = along;
        made.off_squared[at] = off * off;
        if (!(off > 1e-10)) break;  // the vectors so far are all that the first one has part in
        last.swap(here);
        here = next / off;
    }
    return made;
}

/// The step rho of ADMM in the metric D that suits a layer: with the eigenvalues lambda of D^-1/2 H_d D^-1/2,
///
///     mean of (rho / 4) / (lambda + rho / 4) = 1 / 8,         or the nearest rho from 0.01 (without damping 0.05) to 0.35
///
/// The iteration creeps along eigenvectors with eigenvalues far from rho on either side. The largest ones are few, so rho belongs to the
/// lower end of the spectrum, which damping alone tells little about: the best rho of two layers with the same damping may differ by ten.
///
/// @param D       diagonal of the metric; positive
/// @par Cost      32 in^2 multiply-adds, in parallel; allocates a few rows
/// @par Numerics  one vector instead of a trace, and 32 steps instead of all: rho changes by a few percent, the number of iterations hardly
///                does. The same bits for every executor
/// @par Source    the mean: Ubaru, Chen and Saad, Fast estimation of tr(f(A)) via stochastic Lanczos quadrature, SIAM J. Matrix Anal. Appl.
///                38(4), 2017; the numbers 4 and 8: fewest iterations on the layers of tests/preprocess with damping from 0.001 to 0.1
template <class Gram, executor Executor>
[[nodiscard]] double choose_rho(const layer_problem<Gram>& problem, const Eigen::ArrayXd& D, Executor& exec) {
    const lanczos_quadrature spectrum = make_quadrature(problem, D, exec);
    // Without damping the lower end of the spectrum is noise, which matters to the bounds but hardly to the objective.
    double low = problem.shift > 0 ? 0.01 : 0.05, high = 0.35;
    while (high > 1.01 * low) {  // the share grows with rho
        const double middle = std::sqrt(low * high);
        (spectrum.mean_share(middle / 4) < 0.125 ? low : high) = middle;
    }
    return low;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
