// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>

#include <magr/grid/quantized_matrix.hpp>

namespace tests {

/// What the codes of a matrix stand for, in double.
template <class Scalar>
[[nodiscard]] Eigen::MatrixXd values_of(const magr::quantized_matrix<Scalar>& q) {
    const magr::matrix<Scalar> values = q.dequantize();
    return Eigen::Map<const Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>(values.data(), q.rows(), q.cols())
        .template cast<double>();
}

}  // namespace tests
