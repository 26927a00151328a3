// SPDX-License-Identifier: MIT
#pragma once

#include <type_traits>

#include <magr/error.hpp>
#include <magr/matrix/dense_matrix.hpp>

namespace magr {
namespace detail {

/// Types with the interface of `std::mdspan`, two dimensions, and elements behind a plain pointer; not those whose accessor computes what
/// it returns.
template <class M>
concept mdspan_matrix = requires(const M& m) {
    typename M::accessor_type;
    requires std::is_same_v<decltype(m.data_handle()), const typename M::data_handle_type&> ||
                 std::is_same_v<decltype(m.data_handle()), typename M::data_handle_type>;
    requires std::is_same_v<typename M::data_handle_type, typename M::element_type*>;
    requires std::is_same_v<typename M::reference, typename M::element_type&>;
    requires M::rank() == 2;
    m.mapping();
    m.is_strided();
    m.extent(0);
    m.stride(0);
} && storage_scalar<typename M::value_type>;

}  // namespace detail

/// `std::mdspan`, Kokkos' mdspan and what else has their interface, of every layout with strides. Like a view, it does not own its
/// elements: a const mdspan can be written through, one of const elements cannot.
///
/// @par Errors    shape_error if the layout has no strides
template <detail::mdspan_matrix M>
struct matrix_traits<M> {
    static matrix_view<typename M::element_type> view(const M& m) {
        if (!m.is_strided()) detail::raise<shape_error>("as_view: the layout of an mdspan must have strides, this one has none");
        const auto index = [](auto value) { return static_cast<index_t>(value); };
        return matrix_view<typename M::element_type>::with_strides(m.data_handle(), index(m.extent(0)), index(m.extent(1)),
                                                                   index(m.stride(0)), index(m.stride(1)));
    }
};

}  // namespace magr
