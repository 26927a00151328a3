// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <random>

namespace tests {

/// Independent normal numbers.
[[nodiscard]] inline Eigen::MatrixXd random_matrix(Eigen::Index rows, Eigen::Index cols, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<double> normal;
    return Eigen::MatrixXd::NullaryExpr(rows, cols, [&] { return normal(random); });
}

}  // namespace tests
