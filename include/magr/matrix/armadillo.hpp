// SPDX-License-Identifier: MIT
#pragma once

#include <magr/matrix/dense_matrix.hpp>

// As Armadillo declares them: a program without Armadillo does not need its headers.
namespace arma {
template <typename eT>
class Mat;
template <typename eT>
class subview;
}  // namespace arma

namespace magr {
namespace detail {

// Never defined: they ask whether a type derives from Mat or subview.
template <class T>
void accept_armadillo(const arma::Mat<T>&);
template <class T>
void accept_armadillo(const arma::subview<T>&);

template <class M>
concept armadillo_matrix = requires(const M& m) { accept_armadillo(m); } && storage_scalar<typename M::elem_type>;

}  // namespace detail

/// Armadillo's matrices, rows, columns and slices of cubes, and contiguous submatrices of them. They are column-major.
template <detail::armadillo_matrix M>
struct matrix_traits<M> {
    static auto view(M& m) noexcept { return of_columns(m.colptr(0), m); }
    static auto view(const M& m) noexcept { return of_columns(m.colptr(0), m); }

private:
    template <class T>
    static matrix_view<T> of_columns(T* data, const M& m) noexcept {
        index_t column_stride = static_cast<index_t>(m.n_rows);
        if constexpr (requires { m.m.n_rows; }) column_stride = static_cast<index_t>(m.m.n_rows);  // of the whole matrix
        return {data, static_cast<index_t>(m.n_rows), static_cast<index_t>(m.n_cols), column_stride, matrix_layout::col_major};
    }
};

}  // namespace magr
