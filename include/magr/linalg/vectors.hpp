// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <Eigen/Eigenvalues>
#include <cmath>

#include <magr/matrix/matrix_view.hpp>
#include <magr/matrix/scalar.hpp>

/// Sums and products of Krylov methods, by Eigen, for contiguous vectors and matrices by columns. Each is compiled once, where something
/// calls it; expressions of Eigen would be compiled for each combination of their operands.
namespace magr::linalg {
inline namespace MAGR_ISA_NAMESPACE {

/// The order of its additions depends on how x is aligned.
template <compute_scalar T>
[[nodiscard]] T sum(const T* x, index_t n) {
    return Eigen::Map<const Eigen::Vector<T, Eigen::Dynamic>>(x, n).sum();
}

/// x^T y
template <compute_scalar T>
[[nodiscard]] T dot(const T* x, const T* y, index_t n) {
    using vector = Eigen::Map<const Eigen::Vector<T, Eigen::Dynamic>>;
    return vector(x, n).dot(vector(y, n));
}

template <int Instance = 0>
[[nodiscard]] double norm(const double* x, index_t n) {
    return std::sqrt(dot(x, x, n));
}

/// x <- x - (x^T v) v for each column v of V in turn
/// @param V  n x count
template <int Instance = 0>
void leave_out(const double* V, index_t count, double* x, index_t n) {
    for (const double* v = V; v != V + count * n; v += n) {
        const double along = dot(x, v, n);
        for (index_t i = 0; i < n; ++i) x[i] -= along * v[i];
    }
}

/// y <- A x
/// @param A  rows x cols
template <int Instance = 0>
void multiply(const double* A, index_t rows, index_t cols, const double* x, double* y) {
    Eigen::Map<Eigen::VectorXd>(y, rows).noalias() =
        Eigen::Map<const Eigen::MatrixXd>(A, rows, cols) * Eigen::Map<const Eigen::VectorXd>(x, cols);
}

/// y <- A^T x
/// @param A  rows x cols
template <int Instance = 0>
void multiply_transposed(const double* A, index_t rows, index_t cols, const double* x, double* y) {
    Eigen::Map<Eigen::VectorXd>(y, cols).noalias() =
        Eigen::Map<const Eigen::MatrixXd>(A, rows, cols).transpose() * Eigen::Map<const Eigen::VectorXd>(x, rows);
}

/// Eigenvalues, ascending, and eigenvectors of a symmetric tridiagonal matrix.
/// @param off  beside the diagonal: size - 1 numbers
template <int Instance = 0>
[[nodiscard]] Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> tridiagonal_eigenvectors(const double* diagonal, const double* off,
                                                                                      index_t size) {
    Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver;
    solver.computeFromTridiagonal(Eigen::Map<const Eigen::VectorXd>(diagonal, size), Eigen::Map<const Eigen::VectorXd>(off, size - 1),
                                  Eigen::ComputeEigenvectors);
    return solver;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::linalg
