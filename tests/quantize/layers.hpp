// SPDX-License-Identifier: MIT
// Named random layers: weights, and Gram matrices of inputs of different character.
#pragma once

#include <Eigen/Core>
#include <cmath>
#include <ostream>
#include <random>

namespace layers {

using Eigen::MatrixXd;

enum class inputs {
    independent,  ///< white noise
    neighbours,   ///< each channel resembles the one before it
    low_rank,     ///< a few directions and a little noise
    outliers,     ///< correlated, with a few channels thirty times larger
    few_tokens    ///< fewer tokens than channels: H is singular
};

inline constexpr inputs all_inputs[] = {inputs::independent, inputs::neighbours, inputs::low_rank, inputs::outliers, inputs::few_tokens};

inline std::ostream& operator<<(std::ostream& out, inputs kind) {
    constexpr const char* names[] = {"independent", "neighbours", "low_rank", "outliers", "few_tokens"};
    return out << names[static_cast<int>(kind)];
}

struct layer {
    MatrixXd W;
    MatrixXd H;
};

inline MatrixXd normal_matrix(Eigen::Index rows, Eigen::Index cols, std::mt19937& random) {
    std::normal_distribution<double> normal;
    MatrixXd m(rows, cols);
    for (Eigen::Index i = 0; i < m.size(); ++i) m.data()[i] = normal(random);
    return m;
}

inline layer make_layer(Eigen::Index rows, Eigen::Index cols, inputs kind, unsigned seed) {
    std::mt19937 random(seed);
    layer out;
    out.W = normal_matrix(rows, cols, random);
    const Eigen::Index tokens = kind == inputs::few_tokens ? (cols + 1) / 2 : 4 * cols;
    MatrixXd X = normal_matrix(tokens, cols, random);
    if (kind == inputs::neighbours || kind == inputs::outliers || kind == inputs::few_tokens)
        for (Eigen::Index j = 1; j < cols; ++j) X.col(j) += 0.9 * X.col(j - 1);
    if (kind == inputs::low_rank) {
        const Eigen::Index rank = 1 + cols / 8;
        const MatrixXd directions = normal_matrix(rank, cols, random);
        X = (X.leftCols(rank) * directions + 0.2 * X).eval();
    }
    if (kind == inputs::outliers)
        for (Eigen::Index j = cols / 2; j < cols; j += 7) X.col(j) *= 30;
    out.H = X.transpose() * X;
    return out;
}

/// The layer of the QuIP authors' counterexample (arXiv 2307.13304): on codes 0..3 with step 1, feedback does harm.
inline layer clamping_counterexample(Eigen::Index n) {
    constexpr double c = 0.01;
    layer out{MatrixXd(1, n), MatrixXd::Ones(n, n) + MatrixXd::Identity(n, n)};
    out.H(n - 1, n - 1) = 1;
    for (Eigen::Index j = 1; j < n - 1; ++j) {
        out.H(0, j) += 2 * c;
        out.H(j, 0) += 2 * c;
    }
    out.H(0, n - 1) += c;
    out.H(n - 1, 0) += c;
    out.H(0, 0) += 4 * c + static_cast<double>(n) * c * c;
    for (Eigen::Index j = 0; j < n; ++j) out.W(0, j) = 0.499 + 0.002 * static_cast<double>(j % 2);
    return out;
}

}  // namespace layers
