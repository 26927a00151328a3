// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <type_traits>

#include <magr/error.hpp>
#include <magr/matrix/dense_matrix.hpp>

namespace magr {
namespace detail {

/// Types with the data interface of xtensor. Expressions and views without strides lack it.
template <class M>
concept xtensor_storage = requires(const M& m) {
    m.data();
    m.data_offset();
    m.dimension();
    m.shape()[0];
    m.strides()[0];
} && storage_scalar<std::remove_const_t<typename M::value_type>>;

}  // namespace detail

/// xtensor's containers, adaptors and strided views with two dimensions, of any layout.
///
/// @par Errors    shape_error if there are not two dimensions
template <detail::xtensor_storage M>
struct matrix_traits<M> {
    static auto view(M& m) { return strided(m.data(), m); }
    static auto view(const M& m) { return strided(m.data(), m); }

private:
    template <class T>
    static matrix_view<T> strided(T* storage, const M& m) {
        if (m.dimension() != 2)
            detail::raise<shape_error>("as_view: an array of xtensor must have 2 dimensions, it has " + std::to_string(m.dimension()));
        const auto index = [](auto value) { return static_cast<index_t>(value); };
        return matrix_view<T>::with_strides(storage + index(m.data_offset()), index(m.shape()[0]), index(m.shape()[1]),
                                            index(m.strides()[0]), index(m.strides()[1]));
    }
};

}  // namespace magr
