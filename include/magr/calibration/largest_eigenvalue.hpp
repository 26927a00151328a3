// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include <magr/matrix/matrix_view.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Largest eigenvalue of a symmetric positive semi-definite matrix by the Lanczos method with full reorthogonalisation.
///
/// @pre           H symmetric and finite, with a positive diagonal entry
/// @return        theta <= lambda_max with an error estimate of at most 1e-10 theta, or after 200 steps the best theta found
/// @par Cost      n^2 multiply-adds per step, commonly 10-40 steps; allocates steps * n doubles
/// @par Numerics  in double whatever H is stored in; always the same start vector
/// @par Source    Golub and Van Loan, Matrix Computations, section 10.1
template <class T>
[[nodiscard]] double largest_eigenvalue(matrix_view<const T> H) {
    const index_t n = H.rows();
    if (H.row_stride() > H.col_stride()) return largest_eigenvalue(H.transposed());
    double unit = 0;  // what H is divided by: Eigen's tridiagonal solver does not scale
    for (index_t i = 0; i < n; ++i) unit = std::max(unit, static_cast<double>(H(i, i)));
    // column j of H times x, in independent sums that the compiler may put into vectors
    const auto column_times = [&](index_t j, const double* x) {
        constexpr index_t lanes = 16;
        double sums[lanes] = {};
        const auto add = [&](auto stride) {
            const T* const column = H.data() + j * H.col_stride();
            index_t i = 0;
            for (; i + lanes <= n; i += lanes)
                for (index_t k = 0; k < lanes; ++k) sums[k] += static_cast<double>(column[(i + k) * stride]) * x[i + k];
            for (index_t k = 0; i + k < n; ++k) sums[k] += static_cast<double>(column[(i + k) * stride]) * x[i + k];
        };
        if (H.row_stride() == 1)
            add(std::integral_constant<index_t, 1>{});
        else
            add(H.row_stride());
        double total = 0;
        for (const double sum : sums) total += sum;
        return total / unit;
    };
    const index_t limit = std::min<index_t>(n, 200);
    Eigen::MatrixXd basis(n, limit);
    Eigen::VectorXd diagonal(limit);
    Eigen::VectorXd off(limit);
    Eigen::VectorXd next = Eigen::VectorXd::Zero(n);
    // A start vector of scattered signs and sizes: one with a pattern could be orthogonal to the eigenvector that is looked for.
    std::uint64_t state = 0x9e3779b97f4a7c15u;
    for (index_t i = 0; i < n; ++i) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        next(i) = static_cast<double>(state >> 11) * 0x1p-52 - 1.0;
    }
    basis.col(0) = next / next.norm();
    Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> ritz;
    double theta = 0;
    for (index_t k = 0; k < limit; ++k) {
        for (index_t i = 0; i < n; ++i) next(i) = column_times(i, basis.col(k).data());
        diagonal(k) = next.dot(basis.col(k));
        for (int pass = 0; pass < 2; ++pass) next -= basis.leftCols(k + 1) * (basis.leftCols(k + 1).transpose() * next);
        off(k) = next.norm();
        if ((k + 1) % 4 == 0 || k + 1 == limit || off(k) <= 1e-14 * diagonal.head(k + 1).maxCoeff()) {
            ritz.computeFromTridiagonal(diagonal.head(k + 1), off.head(k), Eigen::ComputeEigenvectors);
            theta = ritz.eigenvalues()(k);
            if (off(k) * std::abs(ritz.eigenvectors()(k, k)) <= 1e-10 * theta) break;
        }
        if (k + 1 < limit) basis.col(k + 1) = next / off(k);
    }
    return theta * unit;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
