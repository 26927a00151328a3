// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <random>

namespace benchmarks {

/// Weights and the Gram matrix of correlated inputs: random walks along the channels, so neighbours see similar values.
struct layer {
    using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    matrix W;
    matrix H;

    explicit layer(Eigen::Index n) : W(n, n) {
        std::mt19937 random(17);
        std::normal_distribution<float> normal;
        for (Eigen::Index i = 0; i < W.size(); ++i) W.data()[i] = 0.02F * normal(random);
        matrix X(n + n / 2, n);
        for (Eigen::Index t = 0; t < X.rows(); ++t) {
            float value = normal(random);
            for (Eigen::Index j = 0; j < n; ++j) X(t, j) = value = 0.9F * value + normal(random);
        }
        H.noalias() = X.transpose() * X;
    }
};

}  // namespace benchmarks
