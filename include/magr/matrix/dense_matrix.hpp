// SPDX-License-Identifier: MIT
#pragma once

#include <type_traits>
#include <utility>

#include <magr/matrix/matrix_view.hpp>
#include <magr/matrix/scalar.hpp>

namespace magr {

/// Customisation point: how the library sees a type as a dense matrix.
///
/// Anything for which `matrix_traits<M>::view(m)` returns a `matrix_view<T>` (or `matrix_view<const T>` for a const `m`) with a
/// `storage_scalar` T is a `dense_matrix`. Specialise it for a type of your own:
///
/// @code
/// template <>
/// struct magr::matrix_traits<my_tensor> {
///     static magr::matrix_view<float> view(my_tensor& m) { return {m.ptr, m.rows, m.cols, m.ld}; }
///     static magr::matrix_view<const float> view(const my_tensor& m) { return {m.ptr, m.rows, m.cols, m.ld}; }
/// };
/// @endcode
template <class M>
struct matrix_traits;

template <class T>
struct matrix_traits<matrix_view<T>> {
    static constexpr matrix_view<T> view(const matrix_view<T>& m) noexcept { return m; }
};

namespace detail {

template <class V>
struct is_matrix_view : std::false_type {};
template <class T>
struct is_matrix_view<matrix_view<T>> : std::bool_constant<storage_scalar<std::remove_const_t<T>>> {};

template <class M>
using view_of_t = decltype(matrix_traits<std::remove_cvref_t<M>>::view(std::declval<std::remove_reference_t<M>&>()));

}  // namespace detail

/// A matrix with storage that can be read: Eigen `Matrix`, `Array`, `Map`, `Ref`, blocks; `matrix`, `matrix_view`; matrices of Armadillo,
/// OpenCV, xtensor and mdspan; types with `matrix_traits`.
template <class M>
concept dense_matrix = requires { typename detail::view_of_t<M>; } && detail::is_matrix_view<detail::view_of_t<M>>::value;

/// A `dense_matrix` whose elements can be written.
template <class M>
concept mutable_dense_matrix = dense_matrix<M> && !std::is_const_v<typename detail::view_of_t<M>::element_type>;

namespace detail {

/// Rows that are arrays of their own, such as those of a vector of vectors.
template <class M>
concept separate_rows = requires(const std::remove_reference_t<M>& m) {
    m[0][0];
    requires storage_scalar<std::remove_cvref_t<decltype(m[0][0])>>;
};

/// Numbers without rows and columns: an array, or what has nothing but data and a size.
template <class M>
concept numbers_in_line = requires(const std::remove_reference_t<M>& m) {
    m[0];
    requires storage_scalar<std::remove_cvref_t<decltype(m[0])>>;
    requires std::is_pointer_v<std::decay_t<M>> || requires {
        m.data();
        m.size();
        requires !requires { m.rows(); } && !requires { m.shape(); };
    };
};

}  // namespace detail

/// The view of a matrix. The compiler refuses anything else with one readable message.
template <class M>
[[nodiscard]] constexpr auto as_view(M&& m) {
    if constexpr (!dense_matrix<M> && detail::separate_rows<M>)
        static_assert(dense_matrix<M>,
                      "magr: the argument is not a dense matrix: its rows are arrays of their own. Copy them into one magr::matrix, "
                      "or keep all numbers in one array and pass magr::matrix_view(data, rows, cols).");
    else if constexpr (!dense_matrix<M> && detail::numbers_in_line<M>)
        static_assert(dense_matrix<M>,
                      "magr: the argument is not a dense matrix: it does not say how many rows and columns it has. Pass "
                      "magr::matrix_view(data, rows, cols).");
    else
        static_assert(dense_matrix<M>,
                      "magr: the argument is not a dense matrix. It needs storage that can be viewed (evaluate an expression into a matrix "
                      "first) and elements of type float, double or one of the 16-bit types that magr::storage_scalar lists. Include "
                      "<magr/magr.hpp> or the header in magr/matrix/ for the library it is from; for a type of your own specialise "
                      "magr::matrix_traits.");
    if constexpr (dense_matrix<M>) {
        return matrix_traits<std::remove_cvref_t<M>>::view(m);
    } else {
        return matrix_view<float>{};  // keeps the message above the only error
    }
}

/// The writable view of a matrix. Works like `as_view`, but refuses const matrices.
template <class M>
[[nodiscard]] constexpr auto as_mutable_view(M&& m) {
    static_assert(!dense_matrix<M> || mutable_dense_matrix<M>, "magr: the argument is written to, so it must not be const.");
    if constexpr (dense_matrix<M> && !mutable_dense_matrix<M>) {
        return matrix_view<typename detail::view_of_t<M>::value_type>{};
    } else {
        return as_view(m);
    }
}

/// The read-only view of a matrix, whether the matrix is const or not.
template <class M>
[[nodiscard]] constexpr auto as_const_view(M&& m) {
    auto view = as_view(m);
    return matrix_view<const typename decltype(view)::value_type>(view);
}

}  // namespace magr
