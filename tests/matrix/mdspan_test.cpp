// SPDX-License-Identifier: MIT
#include <magr/matrix/mdspan.hpp>

#include <array>
#include <cstddef>
#include <type_traits>
#include <vector>
#include <version>

#include "matrix/same_results.hpp"
#include "support/catch.hpp"

// std::mdspan and Kokkos' where they are, and always a type that has their interface.
#ifdef __cpp_lib_mdspan
#include <mdspan>
#endif
#if __has_include(<mdspan/mdspan.hpp>)
#include <mdspan/mdspan.hpp>
#define MAGR_TEST_KOKKOS
#endif

using magr::dense_matrix;
using magr::index_t;
using magr::mutable_dense_matrix;
using tests::inputs;
using tests::outputs;

namespace {

/// The part of the interface of std::mdspan that an adaptor needs. Its layout may lack strides.
template <class T, std::size_t Rank = 2, class Reference = T&>
struct span_of_rank {
    using element_type = T;
    using value_type = std::remove_cv_t<T>;
    using accessor_type = void;
    using data_handle_type = T*;
    using reference = Reference;
    using index_type = unsigned;

    T* handle;
    std::array<unsigned, Rank> extents, strides;
    bool has_strides = true;

    static constexpr std::size_t rank() noexcept { return Rank; }
    const data_handle_type& data_handle() const noexcept { return handle; }
    int mapping() const noexcept { return 0; }
    bool is_strided() const noexcept { return has_strides; }
    index_type extent(std::size_t d) const noexcept { return extents[d]; }
    index_type stride(std::size_t d) const noexcept { return strides[d]; }
};

/// What an accessor that computes returns.
using computed = span_of_rank<const float, 2, float>;

template <class Span>
void check_span(Span W, Span H) {
    const auto elements_of = [](Span m) {
        return [m](index_t i, index_t j) -> auto& {
            using index = typename Span::index_type;
            return m.data_handle()[static_cast<index>(i) * m.stride(0) + static_cast<index>(j) * m.stride(1)];
        };
    };
    tests::check_same_results(W, H, elements_of(W), elements_of(H));
}

}  // namespace

static_assert(mutable_dense_matrix<span_of_rank<float>> && mutable_dense_matrix<const span_of_rank<double>&>);
static_assert(dense_matrix<span_of_rank<const float>> && !mutable_dense_matrix<span_of_rank<const float>>);
static_assert(!dense_matrix<span_of_rank<float, 1>> && !dense_matrix<span_of_rank<float, 3>> && !dense_matrix<span_of_rank<int>>);
static_assert(!dense_matrix<computed>);

TEMPLATE_TEST_CASE("mdspan: a type with its interface gives the same bits as magr::matrix", "[matrix][mdspan]", float, double) {
    std::vector<TestType> w(3 * outputs * inputs), h(inputs * inputs);
    const span_of_rank<TestType> H{h.data(), {inputs, inputs}, {inputs, 1}};
    SECTION("by rows") { check_span(span_of_rank<TestType>{w.data(), {outputs, inputs}, {inputs, 1}}, H); }
    SECTION("by columns") { check_span(span_of_rank<TestType>{w.data(), {outputs, inputs}, {1, outputs + 3}}, H); }
    SECTION("with two strides") { check_span(span_of_rank<TestType>{w.data(), {outputs, inputs}, {2 * inputs + 5, 2}}, H); }
}

TEST_CASE("mdspan: a layout without strides is refused", "[matrix][mdspan][error]") {
    float values[4] = {};
    const span_of_rank<float> m{values, {2, 2}, {2, 1}, false};
    CHECK_THROWS_AS(magr::as_view(m), magr::shape_error);
    CHECK_THROWS_WITH(magr::as_view(m), "as_view: the layout of an mdspan must have strides, this one has none");
}

#ifdef __cpp_lib_mdspan
static_assert(mutable_dense_matrix<std::mdspan<float, std::dextents<int, 2>>>);
static_assert(mutable_dense_matrix<std::mdspan<double, std::extents<std::size_t, 3, 4>, std::layout_left>>);
static_assert(!mutable_dense_matrix<std::mdspan<const float, std::dextents<int, 2>>>);
static_assert(!dense_matrix<std::mdspan<float, std::dextents<int, 3>>>);

TEMPLATE_TEST_CASE("mdspan: the standard one gives the same bits as magr::matrix", "[matrix][mdspan]", float, double) {
    std::vector<TestType> w(3 * outputs * inputs), h(inputs * inputs);
    using extents = std::dextents<index_t, 2>;
    SECTION("by rows") { check_span(std::mdspan(w.data(), extents(outputs, inputs)), std::mdspan(h.data(), extents(inputs, inputs))); }
    SECTION("by columns") {
        check_span(std::mdspan(w.data(), std::layout_left::mapping(extents(outputs, inputs))),
                   std::mdspan(h.data(), std::layout_left::mapping(extents(inputs, inputs))));
    }
    SECTION("with strides") {
        using strided = std::layout_stride::mapping<extents>;
        check_span(std::mdspan(w.data(), strided(extents(outputs, inputs), std::array<index_t, 2>{2 * inputs + 5, 2})),
                   std::mdspan(h.data(), strided(extents(inputs, inputs), std::array<index_t, 2>{1, inputs})));
    }
}
#endif

#ifdef MAGR_TEST_KOKKOS
TEMPLATE_TEST_CASE("mdspan: Kokkos' gives the same bits as magr::matrix", "[matrix][mdspan]", float, double) {
    std::vector<TestType> w(3 * outputs * inputs), h(inputs * inputs);
    using extents = Kokkos::dextents<index_t, 2>;
    using strided = Kokkos::layout_stride::mapping<extents>;
    check_span(Kokkos::mdspan(w.data(), strided(extents(outputs, inputs), std::array<index_t, 2>{2 * inputs + 5, 2})),
               Kokkos::mdspan(h.data(), strided(extents(inputs, inputs), std::array<index_t, 2>{1, inputs})));
    static_assert(!dense_matrix<Kokkos::mdspan<float, Kokkos::dextents<int, 3>>>);
}
#endif
