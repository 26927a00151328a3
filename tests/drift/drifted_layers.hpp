// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include <magr/calibration/column_order.hpp>
#include <magr/grid/quantized_matrix.hpp>
#include <magr/grid/weight_grids.hpp>
#include <magr/matrix/eigen.hpp>

#include "support/random_matrix.hpp"

namespace tests {

using long_matrix = Eigen::Matrix<long double, Eigen::Dynamic, Eigen::Dynamic>;
using long_vector = Eigen::Matrix<long double, Eigen::Dynamic, 1>;

inline constexpr magr::column_order every_order[] = {magr::column_order::natural, magr::column_order::act_order,
                                                     magr::column_order::group_aware};

/// A layer whose inputs have drifted.
struct drifted_layer {
    Eigen::MatrixXd X, Y, W;  // X: inputs in full precision, Y: in the quantized network

    [[nodiscard]] Eigen::MatrixXd H() const { return Y.transpose() * Y; }
    [[nodiscard]] Eigen::MatrixXd C() const { return (X - Y).transpose() * Y; }
    /// ||X W^T - Y Q^T||^2
    [[nodiscard]] double loss(const Eigen::MatrixXd& Q) const { return (X * W.transpose() - Y * Q.transpose()).squaredNorm(); }
};

/// Similar inputs of different sizes, with noise in Y that grows with `drift`.
[[nodiscard]] inline drifted_layer drifted(Eigen::Index tokens, Eigen::Index rows, Eigen::Index n, double drift, unsigned seed) {
    drifted_layer layer;
    const Eigen::MatrixXd mixing = random_matrix(n, n, seed + 1) + 2 * Eigen::MatrixXd::Identity(n, n);
    layer.X = random_matrix(tokens, n, seed) * mixing;
    layer.Y = layer.X + drift * random_matrix(tokens, n, seed + 2) * mixing.transpose();
    layer.W = random_matrix(rows, n, seed + 3);
    return layer;
}

/// Inputs that are gone in the quantized network.
inline void kill(drifted_layer& layer, std::initializer_list<Eigen::Index> inputs) {
    for (const Eigen::Index j : inputs) layer.Y.col(j).setZero();
}

[[nodiscard]] inline Eigen::MatrixXd as_eigen(const magr::matrix<double>& m) {
    return Eigen::Map<const Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>(m.data(), m.rows(), m.cols());
}

[[nodiscard]] inline std::vector<magr::index_t> order_of(const Eigen::MatrixXd& H, magr::column_order order, magr::index_t group_size) {
    return magr::order_columns(magr::as_const_view(H), order, group_size);
}

/// Rounds single weights as a grid does, and remembers how near they were to a tie.
struct textbook_grid {
    const magr::weight_grids<double>& grids;  // integer zero points
    double margin = 1;                        // distance to the nearest tie so far, in steps
    std::vector<std::vector<int>> codes = {};

    explicit textbook_grid(const magr::weight_grids<double>& grids_)
        : grids(grids_), codes(static_cast<std::size_t>(grids_.rows()), std::vector<int>(static_cast<std::size_t>(grids_.cols()))) {}

    long double operator()(long double weight, magr::index_t row, magr::index_t column) {
        const magr::index_t group = grids.group_of_column[static_cast<std::size_t>(column)];
        const double scale = grids.scales(row, group), zero = grids.zeros(row, group), largest = std::exp2(grids.bits) - 1;
        const long double steps = weight / scale;
        if (steps != 0) margin = std::min(margin, static_cast<double>(std::abs(steps - std::floor(steps) - 0.5L)));
        const double code = std::clamp(static_cast<double>(std::nearbyint(steps)) + zero, 0.0, largest);
        codes[static_cast<std::size_t>(row)][static_cast<std::size_t>(column)] = static_cast<int>(code);
        return static_cast<long double>(scale) * (code - zero);
    }

    /// How many codes are others.
    [[nodiscard]] int different(const magr::quantized_matrix<double>& q) const {
        int count = 0;
        for (magr::index_t i = 0; i < q.rows(); ++i)
            for (magr::index_t j = 0; j < q.cols(); ++j)
                count += codes[static_cast<std::size_t>(i)][static_cast<std::size_t>(j)] != q.codes(i, j);
        return count;
    }
};

}  // namespace tests
