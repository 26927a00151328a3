// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <span>
#include <type_traits>

#include <magr/detail/contract.hpp>
#include <magr/detail/finite.hpp>
#include <magr/detail/share_rows.hpp>
#include <magr/kernels/metric.hpp>
#include <magr/kernels/prox.hpp>
#include <magr/kernels/source.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/parallel/executor_ref.hpp>

/// Euclidean and diagonally weighted projection onto the l1 ball and prox of the l_inf norm, in place. They take one vector, unchecked, or
/// every row, column or group of a matrix, and then check their arguments.
namespace magr {

/// The vectors of a matrix: its rows or its columns.
enum class vector_axis { rows, columns };

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(vector_axis value) noexcept {
    switch (value) {
        case vector_axis::rows: return "rows";
        case vector_axis::columns: return "columns";
    }
    return "unknown";
}

/// Which parts of a matrix are vectors of their own.
struct vectors_of {
    vector_axis along = vector_axis::rows;   ///< each row, or each column
    std::optional<index_t> group_size = {};  ///< at least 1: split it into vectors of this many elements; the last one may be shorter
};

inline namespace MAGR_ISA_NAMESPACE {

/// Euclidean projection of v onto the l1 ball, in place.
///
/// Solves  min_x 1/2 ||x - v||_2^2  subject to  ||x||_1 <= radius.  x_i = sign(v_i) (|v_i| - tau)_+
///
/// @par Units     radius: unit of the entries of v
/// @pre           radius >= 0; all entries finite; not checked
/// @return        the threshold tau; 0 if v was already inside (v is then bit-identical)
/// @par Cost      O(n) per pass and few passes; no sort; no allocation; noexcept
/// @par Numerics  tau is a few ulp from the root of sum_i (|v_i| - tau)_+ = radius; sums may exceed T; the signs of zeros are kept
/// @par Source    the equation of Duchi et al., ICML 2008, solved by Newton's method instead of their sort
template <class T>
    requires compute_scalar<T>
inline T project_l1_ball(std::span<T> v, double radius) noexcept {
    MAGR_ASSERT(radius >= 0);
    return kernels::project_l1_ball<T>(kernels::contiguous_source<T>{v.data()}, kernels::unit_metric{}, static_cast<index_t>(v.size()),
                                       radius);
}

/// Projection of v onto the l1 ball in the metric D = diag(d), in place.
///
/// Solves  min_x 1/2 (x - v)^T D (x - v)  subject to  ||x||_1 <= radius.  x_i = sign(v_i) (|v_i| - tau / d_i)_+
///
/// @par Shapes    d: as many elements as v
/// @pre           as the Euclidean projection; d_i > 0; d_i, 1 / d_i and d_i |v_i| finite; not checked
/// @return        the threshold tau
template <class T>
    requires compute_scalar<T>
inline T project_l1_ball(std::span<T> v, std::span<const std::type_identity_t<T>> d, double radius) noexcept {
    MAGR_ASSERT(radius >= 0 && d.size() == v.size());
    return kernels::project_l1_ball<T>(kernels::contiguous_source<T>{v.data()}, kernels::dual_diagonal_metric<T>{d.data()},
                                       static_cast<index_t>(v.size()), radius);
}

/// Proximal operator of t ||.||_inf at v, in place.
///
/// Solves  min_x 1/2 ||x - v||_2^2 + t ||x||_inf.  x_i = min(max(v_i, -tau), tau)  with  sum_i (|v_i| - tau)_+ = t,  or 0 if ||v||_1 <= t.
/// By Moreau's identity x is v minus its projection onto the l1 ball of radius t.
///
/// @par Units     t: unit of the entries of v
/// @pre           t >= 0; all entries finite; not checked
/// @return        the threshold tau: ||x||_inf (or more, by rounding, when t is too small to change v); with t = 0 v is bit-identical
/// @par Cost      O(n) per pass and few passes; no sort; no allocation; noexcept
/// @par Numerics  tau is a few ulp from the root; sums may exceed T; v is never divided by t
/// @par Source    arXiv 2406.00800, Algorithm 2, without its division by alpha and its sort
template <class T>
    requires compute_scalar<T>
inline T prox_linf(std::span<T> v, double t) noexcept {
    MAGR_ASSERT(t >= 0);
    return kernels::prox_linf<T>(kernels::contiguous_source<T>{v.data()}, kernels::unit_metric{}, static_cast<index_t>(v.size()), t);
}

/// Proximal operator of t ||.||_inf at v in the metric D = diag(d), in place.
///
/// Solves  min_x 1/2 (x - v)^T D (x - v) + t ||x||_inf.  x_i = min(max(v_i, -tau), tau)  with  sum_i d_i (|v_i| - tau)_+ = t
///
/// @par Shapes    d: as many elements as v
/// @pre           as the Euclidean prox; d_i > 0 and finite; not checked
/// @return        the threshold tau
template <class T>
    requires compute_scalar<T>
inline T prox_linf(std::span<T> v, std::span<const std::type_identity_t<T>> d, double t) noexcept {
    MAGR_ASSERT(t >= 0 && d.size() == v.size());
    return kernels::prox_linf<T>(kernels::contiguous_source<T>{v.data()}, kernels::diagonal_metric<T>{d.data()},
                                 static_cast<index_t>(v.size()), t);
}

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Calls `kernel(source, first element within its row or column, length)` for every vector of a matrix.
template <class T, class Kernel>
void for_each_vector(matrix_view<T> m, const vectors_of& part, executor_ref exec, const Kernel& kernel) {
    if (part.along == vector_axis::columns) m = m.transposed();
    const index_t length = part.group_size.value_or(m.cols());
    share_rows(m.rows(), exec, [&](index_t first_row, index_t last_row) {
        for (index_t i = first_row; i < last_row; ++i)
            for (index_t j = 0; j < m.cols(); j += length) {
                const index_t n = m.cols() - j < length ? m.cols() - j : length;
                T* first = m.data() + i * m.row_stride() + j * m.col_stride();
                if constexpr (compute_scalar<T>) {
                    if (m.col_stride() == 1) {
                        kernel(kernels::contiguous_source<T>{first}, j, n);
                        continue;
                    }
                }
                kernel(kernels::strided_source<compute_t<T>, T>{first, m.col_stride()}, j, n);
            }
    });
}

template <class T>
void require_vectors(const char* function, matrix_view<T> m, const vectors_of& part, executor_ref exec) {
    require_distinct(function, "M", m);
    require_finite(function, "M", m, exec);
    require_enumerator(function, "along", part.along);
    if (part.group_size) require_option(*part.group_size >= 1, function, "group_size", "at least 1", *part.group_size);
}

template <class T, class S>
void require_metric(const char* function, std::span<const S> d, matrix_view<T> m, const vectors_of& part) {
    const index_t length = part.along == vector_axis::rows ? m.cols() : m.rows();
    if (static_cast<index_t>(d.size()) != length)
        raise<shape_error>(concat(function, ": d must have ", length, " elements, it has ", d.size()));
    constexpr S largest_without_reciprocal = (std::numeric_limits<S>::min)() / 4;
    for (std::size_t i = 0; i < d.size(); ++i)
        if (!(d[i] > largest_without_reciprocal && is_finite(d[i])))
            raise<value_error>(concat(function, ": d must be positive and finite with a finite reciprocal, element ", i, " is ", d[i]));
}

/// Refuses entries whose product with their d_i overflows.
template <class T, class S>
void require_weighted_finite(const char* function, std::span<const S> d, matrix_view<T> m, const vectors_of& part) {
    for (index_t i = 0; i < m.rows(); ++i)
        for (index_t j = 0; j < m.cols(); ++j) {
            const S weight = d[static_cast<std::size_t>(part.along == vector_axis::rows ? j : i)];
            const S largest = (std::numeric_limits<S>::max)() / (std::max)(weight, S(1));
            if (std::abs(static_cast<S>(m(i, j))) > largest)
                raise<value_error>(concat(function, ": d times M must be finite, entry (row ", i, ", column ", j, ") is ",
                                          static_cast<S>(m(i, j)), " and its d is ", weight));
        }
}

}  // namespace MAGR_ISA_NAMESPACE

/// The arithmetic type of a matrix's elements.
template <class Matrix>
using arithmetic_of = compute_t<typename view_of_t<Matrix>::value_type>;

}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// `project_l1_ball` of every row, column or group of a matrix, in place.
///
/// @par Shapes    M: any dense matrix; 16-bit entries are projected in float and rounded back
/// @par Errors    before anything is written: value_error (an entry of M is not finite), option_error (radius < 0, group_size < 1)
/// @par Cost      as for its vectors, of which each worker takes some; strided and 16-bit vectors are gathered again for every pass
/// @par Numerics  the same bits for every executor
template <class Matrix>
    requires mutable_dense_matrix<Matrix>
void project_l1_ball(Matrix&& M, double radius, const vectors_of& part = {}, executor_ref exec = {}) {
    const auto view = as_mutable_view(M);
    using compute = detail::arithmetic_of<Matrix>;
    detail::require_option(radius >= 0, "project_l1_ball", "radius", "at least 0", radius);
    detail::require_vectors("project_l1_ball", view, part, exec);
    detail::for_each_vector(view, part, exec, [&](const auto& v, index_t, index_t n) {
        kernels::project_l1_ball<compute>(v, kernels::unit_metric{}, n, radius);
    });
}

/// `project_l1_ball` in the metric diag(d) of every row, column or group of a matrix, in place.
///
/// @par Shapes    M: any dense matrix; d: one element per entry of a row (of a column with `vector_axis::columns`); groups use their part
///                of it
/// @par Errors    before anything is written: as without d, and shape_error (size of d), value_error (d_i not positive; d_i, 1 / d_i or
///                d_i times an entry not finite)
/// @par Cost      as without d
template <class Matrix>
    requires mutable_dense_matrix<Matrix>
void project_l1_ball(Matrix&& M, std::span<const detail::arithmetic_of<Matrix>> d, double radius, const vectors_of& part = {},
                     executor_ref exec = {}) {
    const auto view = as_mutable_view(M);
    using compute = detail::arithmetic_of<Matrix>;
    detail::require_option(radius >= 0, "project_l1_ball", "radius", "at least 0", radius);
    detail::require_vectors("project_l1_ball", view, part, exec);
    detail::require_metric("project_l1_ball", d, view, part);
    detail::require_weighted_finite("project_l1_ball", d, view, part);
    detail::for_each_vector(view, part, exec, [&](const auto& v, index_t first, index_t n) {
        kernels::project_l1_ball<compute>(v, kernels::dual_diagonal_metric<compute>{d.data() + first}, n, radius);
    });
}

/// `prox_linf` of every row, column or group of a matrix, in place.
///
/// @par Shapes    M: any dense matrix; for 16-bit entries the prox is taken in float and rounded back
/// @par Errors    before anything is written: value_error (an entry of M is not finite), option_error (t < 0, group_size < 1)
/// @par Cost      as for its vectors, of which each worker takes some; strided and 16-bit vectors are gathered again for every pass
/// @par Numerics  the same bits for every executor
template <class Matrix>
    requires mutable_dense_matrix<Matrix>
void prox_linf(Matrix&& M, double t, const vectors_of& part = {}, executor_ref exec = {}) {
    const auto view = as_mutable_view(M);
    using compute = detail::arithmetic_of<Matrix>;
    detail::require_option(t >= 0, "prox_linf", "t", "at least 0", t);
    detail::require_vectors("prox_linf", view, part, exec);
    detail::for_each_vector(view, part, exec,
                            [&](const auto& v, index_t, index_t n) { kernels::prox_linf<compute>(v, kernels::unit_metric{}, n, t); });
}

/// `prox_linf` in the metric diag(d) of every row, column or group of a matrix, in place.
///
/// @par Shapes    M: any dense matrix; d: one element per entry of a row (of a column with `vector_axis::columns`); groups use their part
///                of it
/// @par Errors    before anything is written: as without d, and shape_error (size of d), value_error (d_i not positive, or d_i or 1 / d_i
///                not finite)
/// @par Cost      as without d
template <class Matrix>
    requires mutable_dense_matrix<Matrix>
void prox_linf(Matrix&& M, std::span<const detail::arithmetic_of<Matrix>> d, double t, const vectors_of& part = {},
               executor_ref exec = {}) {
    const auto view = as_mutable_view(M);
    using compute = detail::arithmetic_of<Matrix>;
    detail::require_option(t >= 0, "prox_linf", "t", "at least 0", t);
    detail::require_vectors("prox_linf", view, part, exec);
    detail::require_metric("prox_linf", d, view, part);
    detail::for_each_vector(view, part, exec, [&](const auto& v, index_t first, index_t n) {
        kernels::prox_linf<compute>(v, kernels::diagonal_metric<compute>{d.data() + first}, n, t);
    });
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
