// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <type_traits>

#include <magr/matrix/matrix_view.hpp>
#include <magr/matrix/scalar.hpp>

/// Copies between a user's matrix, of any strides and storage type, and the row-major working matrices of the algorithms.
namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar S>
using row_major_matrix = Eigen::Matrix<S, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <compute_scalar S>
using col_major_matrix = Eigen::Matrix<S, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor>;

/// A view as an Eigen map, for assignments and products.
template <class T>
[[nodiscard]] auto as_eigen(matrix_view<T> m) {
    using plain = Eigen::Matrix<std::remove_const_t<T>, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    using target = std::conditional_t<std::is_const_v<T>, const plain, plain>;
    using stride = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
    return Eigen::Map<target, Eigen::Unaligned, stride>(m.data(), m.rows(), m.cols(), stride(m.row_stride(), m.col_stride()));
}

/// Working copy of a matrix in the arithmetic type S.
template <compute_scalar S, class T>
[[nodiscard]] row_major_matrix<S> load(matrix_view<T> m) {
    row_major_matrix<S> out(m.rows(), m.cols());
    if (m.row_stride() >= m.col_stride()) {
        for (index_t i = 0; i < m.rows(); ++i)
            for (index_t j = 0; j < m.cols(); ++j) out(i, j) = static_cast<S>(m(i, j));
    } else {  // in tiles, so that neither matrix is walked far against its memory order
        constexpr index_t tile = 32;
        for (index_t i0 = 0; i0 < m.rows(); i0 += tile)
            for (index_t j0 = 0; j0 < m.cols(); j0 += tile)
                for (index_t j = j0; j < (std::min)(j0 + tile, m.cols()); ++j)
                    for (index_t i = i0; i < (std::min)(i0 + tile, m.rows()); ++i) out(i, j) = static_cast<S>(m(i, j));
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
