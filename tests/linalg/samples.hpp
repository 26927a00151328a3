// SPDX-License-Identifier: MIT
// Matrices for the tests of factorizations.
#pragma once

#include <Eigen/Core>
#include <Eigen/LU>
#include <Eigen/QR>
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include <magr/matrix/matrix_view.hpp>

namespace samples {

using magr::index_t;
using magr::matrix_view;

template <class T>
using dense = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Half the distance from 1 to the next number: the largest relative error of an operation.
template <class T>
inline constexpr long double unit = static_cast<long double>(std::numeric_limits<T>::epsilon()) / 2;

template <class T>
magr::matrix_view<T> view(dense<T>& A) {
    return {A.data(), A.rows(), A.cols()};
}

inline dense<double> normal(index_t rows, index_t cols, std::mt19937& random) {
    std::normal_distribution<double> entry;
    dense<double> out(rows, cols);
    for (index_t i = 0; i < out.size(); ++i) out.data()[i] = entry(random);
    return out;
}

/// Symmetric with eigenvalues from 1 / condition to 1, evenly spaced on a logarithmic scale. Rounding to T moves each by at most n unit<T>.
template <class T>
dense<T> with_condition(index_t n, double condition, unsigned seed) {
    std::mt19937 random(seed);
    const dense<double> Q = Eigen::HouseholderQR<dense<double>>(normal(n, n, random)).householderQ();
    Eigen::VectorXd eigenvalues(n);
    for (index_t k = 0; k < n; ++k) eigenvalues(k) = std::pow(condition, n > 1 ? -static_cast<double>(k) / static_cast<double>(n - 1) : 0);
    const dense<T> A = (Q * eigenvalues.asDiagonal() * Q.transpose()).template cast<T>();
    return A.template triangularView<Eigen::Lower>().toDenseMatrix() +
           A.template triangularView<Eigen::StrictlyLower>().toDenseMatrix().transpose();
}

/// I + X X^T for a few random columns X: fast to make for large n, with the largest eigenvalue near 5, and an inverse by Woodbury's
/// formula.
template <class T>
struct low_rank_and_identity {
    dense<double> X;
    dense<T> A;

    low_rank_and_identity(index_t n, unsigned seed) {
        std::mt19937 random(seed);
        X = normal(n, 4, random) * (2 / std::sqrt(static_cast<double>(n)));
        const dense<double> exact = dense<double>::Identity(n, n) + X * X.transpose();
        A = dense<double>(exact.selfadjointView<Eigen::Lower>()).template cast<T>();
    }
    [[nodiscard]] dense<double> inverse() const {
        const Eigen::Matrix4d small = Eigen::Matrix4d::Identity() + X.transpose() * X;
        return dense<double>::Identity(X.rows(), X.rows()) - X * small.inverse() * X.transpose();
    }
    [[nodiscard]] double condition() const { return 1 + X.squaredNorm(); }  // upper bound
};

/// L D L^T of unit lower triangular L with small entries: its pivots are those of D, up to rounding.
template <class T>
dense<T> with_pivots(const Eigen::VectorXd& D, unsigned seed) {
    std::mt19937 random(seed);
    const index_t n = D.size();
    dense<double> L = normal(n, n, random).template triangularView<Eigen::StrictlyLower>();
    L *= 1 / std::sqrt(static_cast<double>(n));
    L += dense<double>::Identity(n, n);
    return (L * D.asDiagonal() * L.transpose()).template cast<T>();
}

/// A copy of a matrix amid numbers that must not change: rows contiguous without (0) or with (1) gaps between them, columns contiguous (2),
/// or neither (3).
template <class T>
struct placed {
    std::vector<T> data;
    matrix_view<T> view;

    placed(const dense<T>& A, int arrangement) {
        const index_t n = A.rows(), gap = arrangement == 0 ? 0 : 3;
        data.resize(static_cast<std::size_t>(2 * (n + gap) * (n + gap) + 1));
        for (std::size_t k = 0; k < data.size(); ++k) data[k] = static_cast<T>(k % 17) - 8;
        const index_t wide = (arrangement == 3 ? 2 : 1) * (n + gap), narrow = arrangement == 3 ? 2 : 1;
        view = matrix_view<T>::with_strides(data.data() + 1, n, n, arrangement == 2 ? narrow : wide, arrangement == 2 ? wide : narrow);
        for (index_t i = 0; i < n; ++i)
            for (index_t j = 0; j < n; ++j) view(i, j) = A(i, j);
    }

    [[nodiscard]] dense<T> copy() const {
        dense<T> out(view.rows(), view.cols());
        for (index_t i = 0; i < out.rows(); ++i)
            for (index_t j = 0; j < out.cols(); ++j) out(i, j) = view(i, j);
        return out;
    }
};

/// Equal bits: NaN is NaN, and 0 is not -0.
template <class T>
[[nodiscard]] bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}
template <class T>
[[nodiscard]] bool same_bits(const dense<T>& a, const dense<T>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(T)) == 0;
}

/// Sizes around the sides of blocks, strips and tiles, with one block and with several.
inline const std::vector<index_t> near_blocks{95, 96, 97, 100, 191, 192, 193, 203, 287, 288, 289, 300};

/// Sizes at which the blocks grow, and the update has several tasks in each direction.
inline const std::vector<index_t> large{1000, 1023, 1024, 1025, 1130};
/// A size at which they grow once more: five whole blocks and a part.
inline constexpr index_t largest = 2060;

}  // namespace samples
