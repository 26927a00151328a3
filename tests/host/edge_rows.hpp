// SPDX-License-Identifier: MIT
// Weights and Gram matrices at the limits of floating-point numbers.
#pragma once

#include <Eigen/Core>
#include <cstddef>
#include <limits>
#include <vector>

#include <magr/matrix/matrix_view.hpp>

using magr::index_t;

template <class T>
using matrix_of = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Rows that are zero, constant, of one weight, of one sign, tiny, huge, and a mixture.
template <class T>
matrix_of<T> edge_rows(index_t cols) {
    constexpr T smallest = std::numeric_limits<T>::min();
    constexpr T tiny = std::numeric_limits<T>::denorm_min();
    const std::vector<T> sizes = {T(0), tiny, 3 * tiny, smallest / 8, smallest, T(1e-30), T(1e-6), T(1), T(1e4), T(1e15), T(1e30)};
    std::vector<std::vector<T>> rows;
    const auto add = [&](const auto& value) {
        std::vector<T> row;
        for (index_t j = 0; j < cols; ++j) row.push_back(static_cast<T>(value(j)));
        rows.push_back(row);
    };
    for (const T size : sizes) {
        add([&](index_t) { return size; });
        add([&](index_t) { return -size; });
        add([&](index_t j) { return j == 3 ? size : T(0); });
        add([&](index_t j) { return j == 3 ? -size : T(0); });
        add([&](index_t j) { return size * T((7 * j) % 13 - 6) / T(8); });
        add([&](index_t j) { return size * T((7 * j) % 13 + 1) / T(16); });
        add([&](index_t j) { return j % 2 == 0 ? size : -size; });
        add([&](index_t j) { return j == 0 ? size * (1 + std::numeric_limits<T>::epsilon()) : size; });
    }
    add([&](index_t j) { return sizes[static_cast<std::size_t>(j) % sizes.size()]; });
    matrix_of<T> W(static_cast<index_t>(rows.size()), cols);
    for (index_t i = 0; i < W.rows(); ++i)
        for (index_t j = 0; j < cols; ++j) W(i, j) = rows[static_cast<std::size_t>(i)][static_cast<std::size_t>(j)];
    return W;
}

/// Rows with numbers close to the largest one.
template <class T>
matrix_of<T> huge_rows(index_t cols, T largest) {
    matrix_of<T> W(5, cols);
    for (index_t j = 0; j < cols; ++j) {
        W(0, j) = largest;
        W(1, j) = j % 2 == 0 ? largest : -largest;
        W(2, j) = largest / 16 * static_cast<T>((7 * j) % 13 - 6);
        W(3, j) = j == 3 ? -largest : T(0);
        W(4, j) = j == 3 ? largest : std::numeric_limits<T>::denorm_min();
    }
    return W;
}

/// Gram matrices: well conditioned, with dead columns, singular, tiny and huge.
inline std::vector<Eigen::MatrixXd> grams(index_t n) {
    Eigen::MatrixXd good = Eigen::MatrixXd::Constant(n, n, 0.25), dead, ones = Eigen::MatrixXd::Ones(n, n), single;
    good.diagonal().array() += 1;
    dead = good;
    for (const index_t j : {index_t{0}, index_t{3}, n - 1}) {
        dead.row(j).setZero();
        dead.col(j).setZero();
    }
    single = Eigen::MatrixXd::Zero(n, n);
    single(7, 7) = 1;
    return {good, dead, ones, single, 1e-30 * good, 1e30 * good};
}
