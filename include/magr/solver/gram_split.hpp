// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <magr/calibration/largest_eigenvalue.hpp>
#include <magr/linalg/vectors.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/solver/direction_matrix.hpp>
#include <magr/solver/layer_problem.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// A damped Gram matrix as the sum of a few dominating directions and the bulk of the others:
///
///     H_d = B + V diag(lambda) V^T
///
/// Inputs with a large common mean, a few common factors, or massive channels that move together produce such directions. diag(H_d)
/// describes these and nothing else, while diag(B) describes the directions in which weights can change.
struct gram_split {
    Eigen::MatrixXd V;      ///< in x r, r from 0 to most_directions
    Eigen::ArrayXd lambda;  ///< r
    Eigen::ArrayXd D;       ///< diag(B) + 1e-3 mean(diag B)
    double low = 0;         ///< about the largest number with  B >= 0.9 shift I + low D  where the directions are not
    double rho = 0;         ///< the step of ADMM that suits B in the metric D, from 0.001 to 2.4

    [[nodiscard]] index_t directions() const noexcept { return V.cols(); }
};

/// Lanczos steps from a vector of scattered signs, in which all eigenvectors that are not left out have similar weight.
struct lanczos_steps {
    std::vector<double> basis;  // in x size
    std::vector<double> diagonal, off;

    /// mean of shift / (eigenvalue + shift), by quadrature: ((T + shift)^-1)_11 of the tridiagonal matrix T
    [[nodiscard]] double mean_share(double shift) const noexcept {
        double fraction = 0;
        for (std::size_t k = diagonal.size(); k-- > 0;) fraction = 1 / (diagonal[k] + shift - off[k] * off[k] * fraction);
        return shift * fraction;
    }
};

/// @param without  orthonormal eigenvectors of A to leave out
/// @param apply    (x, y): y <- A x
template <class Apply>
[[nodiscard]] lanczos_steps run_lanczos(const Eigen::MatrixXd& without, const Apply& apply) {
    const index_t n = without.rows();
    const index_t limit = (std::min<index_t>)(n, 32);
    lanczos_steps made{std::vector<double>(static_cast<std::size_t>(n * limit)), {}, {}};
    std::uint64_t state = 0x9e3779b97f4a7c15u;
    double* const basis = made.basis.data();
    for (index_t i = 0; i < n; ++i) {
        state = next_scattered(state);
        basis[i] = (state >> 63 != 0 ? 1 : -1) / std::sqrt(static_cast<double>(n));
    }
    linalg::leave_out(without.data(), without.cols(), basis, n);
    const double length = linalg::norm(basis, n);
    for (index_t i = 0; i < n && length > 0; ++i) basis[i] /= length;
    std::vector<double> next(static_cast<std::size_t>(n));
    for (index_t k = 0;; ++k) {
        apply(basis + k * n, next.data());
        made.diagonal.push_back(linalg::dot(next.data(), basis + k * n, n));
        for (int pass = 0; pass < 2; ++pass) {
            linalg::leave_out(without.data(), without.cols(), next.data(), n);
            linalg::leave_out(basis, k + 1, next.data(), n);
        }
        made.off.push_back(linalg::norm(next.data(), n));
        double largest = 0;
        for (const double value : made.diagonal) largest = (std::max)(largest, std::abs(value));
        // Below this the Krylov space of the first vector is exhausted.
        if (k + 1 == limit || !(made.off.back() > 1e-13 * largest)) break;
        for (index_t i = 0; i < n; ++i) basis[(k + 1) * n + i] = next[static_cast<std::size_t>(i)] / made.off.back();
    }
    return made;
}

/// Finds the directions that dominate a layer, and the step rho that suits the rest.
///
/// In the metric D = diag(B) + 1e-3 mean(diag B) of the remaining bulk, a direction dominates if lambda v^T D^-1 v > 40; the mean of all
/// eigenvalues of the bulk is 1. If the penalty changes weights little, only those inputs count whose D falls to less than a quarter
/// without the direction: the diagonal still describes the others well. D must be the metric without the direction: three massive channels
/// that move together have an eigenvalue of only 3 in the metric of H_d, and without their direction the diagonal that describes them falls
/// by 1e5. A single massive channel has an eigenvalue of 1 there, and the diagonal alone describes it: below 1.5 no direction is taken.
///
/// With the eigenvalues mu of D^-1/2 B D^-1/2, rho is  r (1 + 1.4 r)  with
///
///     mean of (r / 4) / (mu + r / 4) = 1 / 8,         or the nearest r from 0.001 .. 0.01 (see below) to 1
///
/// where the mean is over the eigenvalues that remain without the directions. The lower limit is 0.1 sqrt(damping), at least 0.001 and at
/// most 0.01, and 0.05 without damping.
///
/// The iteration creeps along eigenvectors whose eigenvalues are far from rho on either side. The largest eigenvalues are few, so rho must
/// suit the lower end of the spectrum. Damping alone says little about that end: the best rho of two layers with the same damping may
/// differ by a factor of ten.
///
/// @param all  whether all inputs count
/// @par Cost      32 in^2 multiply-adds in double, in parallel; if a direction dominates, 32 in^2 more for each further look, commonly one;
///                allocates 32 rows, and one for each direction
/// @par Numerics  one vector instead of a trace, and 32 steps instead of all: this changes rho by a few percent and the number of
///                iterations hardly at all. The same bits for every executor
/// @par Source    the mean: Ubaru, Chen and Saad, Fast estimation of tr(f(A)) via stochastic Lanczos quadrature, SIAM J. Matrix Anal. Appl.
///                38(4), 2017; the numbers 40, 1.5, 4, 8 and 1.4: fewest iterations on the layers of tests/preprocess
template <int Instance = 0>  // compiled only where it is called
[[nodiscard]] gram_split split_gram(const layer_problem& problem, bool all, executor_ref exec) {
    const index_t n = problem.cols();
    gram_split made;
    Eigen::ArrayXd left(n), work(n);  // left: diag(B)
    for (index_t i = 0; i < n; ++i) left(i) = problem.diagonal(i) + problem.shift;
    const auto set_metric = [&](const Eigen::ArrayXd& diagonal, Eigen::ArrayXd& D) {
        D.resize(n);
        for (index_t i = 0; i < n; ++i) D(i) = (std::max)(diagonal(i), 0.0);
        const double mean = linalg::sum(D.data(), n) / static_cast<double>(n);
        for (index_t i = 0; i < n; ++i) D(i) += 1e-3 * mean;
    };
    set_metric(left, made.D);
    made.V.resize(n, 0);
    made.lambda.resize(0);
    Eigen::ArrayXd scaled(n), root(n);
    Eigen::MatrixXd null(n, 0);  // spanned by vectors that B maps to zero
    for (int look = 0;; ++look) {
        for (index_t i = 0; i < n; ++i) root(i) = 1 / std::sqrt(made.D(i));
        const auto apply = [&](const double* x, double* y) {
            for (index_t i = 0; i < n; ++i) scaled(i) = problem.scale * (root(i) * x[i]);
            direction_vector along{};
            for (index_t k = 0; k < made.directions(); ++k) {
                for (index_t i = 0; i < n; ++i) work(i) = made.V(i, k) * root(i);
                along[static_cast<std::size_t>(k)] = made.lambda(k) * linalg::dot(work.data(), x, n);
            }
            constexpr index_t chunk = 64;
            exec.parallel_for((n + chunk - 1) / chunk, [&](index_t task, index_t) {
                for (index_t i = task * chunk; i < (std::min)(n, (task + 1) * chunk); ++i) {
                    double sum = problem.unit * problem.H.column_times(i, scaled.data()) + problem.shift * root(i) * x[i];
                    for (index_t k = 0; k < made.directions(); ++k) sum -= made.V(i, k) * along[static_cast<std::size_t>(k)];
                    y[i] = root(i) * sum;
                }
            });
        };
        Eigen::MatrixXd without(n, null.cols());
        for (index_t k = 0; k < without.cols(); ++k) {
            double* const v = without.data() + k * n;
            for (index_t i = 0; i < n; ++i) v[i] = null(i, k) / root(i);
            for (int pass = 0; pass < 2; ++pass) linalg::leave_out(without.data(), k, v, n);
            const double length = linalg::norm(v, n);
            for (index_t i = 0; i < n && length > 0; ++i) v[i] /= length;
        }
        const lanczos_steps steps = run_lanczos(without, apply);
        const auto size = static_cast<index_t>(steps.diagonal.size());
        const auto ritz = linalg::tridiagonal_eigenvectors(steps.diagonal.data(), steps.off.data(), size);
        const auto eigenvector = [&](index_t k, double* to) {
            linalg::multiply(steps.basis.data(), n, size, ritz.eigenvectors().data() + k * size, to);
        };

        index_t found = 0;
        Eigen::MatrixXd directions(n, most_directions);
        Eigen::ArrayXd kept = left, D(n);
        direction_vector values{};
        for (index_t k = 0; look < 4 && k < (std::min)(size, most_directions - made.directions()); ++k) {
            const index_t at = size - 1 - k;
            const double value = ritz.eigenvalues()(at);
            // An eigenvector that has not converged has an eigenvalue close to the next ones.
            if (!(value > 0 && steps.off.back() * std::abs(ritz.eigenvectors()(size - 1, at)) <= 1e-9 * value)) break;
            double* const v = directions.data() + k * n;
            eigenvector(at, v);
            for (index_t i = 0; i < n; ++i) v[i] = std::sqrt(made.D(i)) * v[i];
            values[static_cast<std::size_t>(k)] = value;
            for (index_t i = 0; i < n; ++i) kept(i) -= value * (v[i] * v[i]);
            set_metric(kept, D);
            for (index_t i = 0; i < n; ++i) work(i) = all || made.D(i) > 4 * D(i) ? value * (v[i] * v[i]) / D(i) : 0.0;
            if (value > 1.5 && linalg::sum(work.data(), n) > 40) {
                found = k + 1;
                left = kept;
            }
        }
        if (found == 0) {
            // Without damping the lower end of the spectrum is noise. It matters to the bounds but hardly to the objective.
            const double damping = problem.shift / problem.mean;
            double low = damping > 0 ? std::clamp(0.1 * std::sqrt(damping), 1e-3, 1e-2) : 0.05, high = 1;
            while (high > 1.01 * low) {  // mean_share grows with rho
                const double middle = std::sqrt(low * high);
                (steps.mean_share(middle / 4) < 0.125 ? low : high) = middle;
            }
            made.rho = low * (1 + 1.4 * low);
            Eigen::ArrayXd lowest(n);
            eigenvector(0, lowest.data());
            for (index_t i = 0; i < n; ++i) work(i) = lowest(i) * lowest(i) / made.D(i);
            made.low =
                ritz.eigenvalues()(0) - 0.9 * problem.shift * linalg::sum(work.data(), n) / linalg::dot(lowest.data(), lowest.data(), n);
            return made;
        }
        const index_t before = made.directions();
        made.V.conservativeResize(Eigen::NoChange, before + found);
        made.lambda.conservativeResize(before + found);
        null.conservativeResize(Eigen::NoChange, before + found);
        for (index_t k = 0; k < found; ++k) {
            made.lambda(before + k) = values[static_cast<std::size_t>(k)];
            for (index_t i = 0; i < n; ++i) {
                made.V(i, before + k) = directions(i, k);
                null(i, before + k) = directions(i, k) / made.D(i);
            }
        }
        set_metric(left, made.D);
    }
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
