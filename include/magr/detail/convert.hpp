// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <type_traits>

#include <magr/detail/squares.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/matrix/scalar.hpp>

/// Copies between a user's matrix, of any strides and storage type, and the row-major working matrices of the algorithms.
namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar S>
using row_major_matrix = Eigen::Matrix<S, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <compute_scalar S>
using col_major_matrix = Eigen::Matrix<S, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor>;

/// Working copy of a matrix in the arithmetic type S.
template <compute_scalar S, class T>
[[nodiscard]] row_major_matrix<S> load(matrix_view<T> m) {
    row_major_matrix<S> out(m.rows(), m.cols());
    if (m.row_stride() >= m.col_stride()) {
        for (index_t i = 0; i < m.rows(); ++i)
            for (index_t j = 0; j < m.cols(); ++j) out(i, j) = static_cast<S>(m(i, j));
    } else {
        visit_in_squares(m.rows(), m.cols(), [&](index_t i, index_t j) { out(i, j) = static_cast<S>(m(i, j)); });
    }
    return out;
}

/// Writes a working matrix back, rounding to the storage type.
template <class Derived, class T>
void store(const Eigen::MatrixBase<Derived>& values, matrix_view<T> m) {
    for (index_t i = 0; i < m.rows(); ++i)
        for (index_t j = 0; j < m.cols(); ++j) m(i, j) = static_cast<T>(values(i, j));
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
