// SPDX-License-Identifier: MIT
#pragma once

#include <type_traits>

#include <magr/matrix/dense_matrix.hpp>

// As Eigen declares it: a program without Eigen does not need its headers.
namespace Eigen {
template <class Derived>
class DenseBase;
}  // namespace Eigen

namespace magr {
namespace detail {

template <class D>
void accept_dense(const Eigen::DenseBase<D>&);  // never defined: asks whether a type derives from DenseBase

/// Eigen types that have storage: not sums, products or other expressions.
template <class D>
concept eigen_direct_access = requires(const D& m) {
    accept_dense(m);
    m.data();
    m.innerStride();
    m.outerStride();
} && storage_scalar<typename D::Scalar>;

template <class D>
inline constexpr bool eigen_writable = requires(D& m) { requires !std::is_const_v<std::remove_pointer_t<decltype(m.data())>>; };

}  // namespace detail

/// Eigen's matrices, arrays, maps, refs and blocks, of either storage order and any inner stride.
template <detail::eigen_direct_access D>
struct matrix_traits<D> {
    using scalar = typename D::Scalar;

    static auto view(D& m) noexcept
        requires detail::eigen_writable<D>
    {
        return strided<scalar>(m.data(), m);
    }
    static auto view(const D& m) noexcept { return strided<const scalar>(m.data(), m); }

private:
    template <class T>
    static matrix_view<T> strided(T* data, const D& m) noexcept {
        const bool row_major = D::IsRowMajor;
        return matrix_view<T>::with_strides(data, m.rows(), m.cols(), row_major ? m.outerStride() : m.innerStride(),
                                            row_major ? m.innerStride() : m.outerStride());
    }
};

}  // namespace magr
