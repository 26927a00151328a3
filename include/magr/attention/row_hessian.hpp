// SPDX-License-Identifier: MIT
#pragma once

#include <utility>

#include <magr/attention/rope_means.hpp>
#include <magr/calibration/gram.hpp>
#include <magr/detail/contract.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/parallel/executor_ref.hpp>

/// The row Hessians of `quantize_boa` for query and key projections: what an error in each output of a head costs in attention scores.
///
/// An error dW in a query projection changes the scores of a head by K dW x for each input x, and one in a key projection by Q dW x. Their
/// squares sum to tr(H_row dW H dW^T) with H_row = K^T K or Q^T Q. Query heads that share a key head share H_row: their queries are summed.
///
/// Keys and queries are those that enter the scores: with bias, after any norm, and rotated. Tokens of several sequences go one below the
/// other. If they do not fit into memory, pass them to a `gram_accumulator` in batches, and its sum to `rope_means::unrotated`.
namespace magr {
namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// The sum of the Gram matrices of `heads` blocks of columns.
template <class T>
[[nodiscard]] matrix<double> gram_of_heads(const char* function, const char* argument, matrix_view<const T> rows, index_t heads,
                                           const rope_means* rope, executor_ref exec) {
    require_not_empty(function, argument, rows);
    require_option(heads >= 1, function, "query_heads", "at least 1", heads);
    if (rows.cols() % heads != 0)
        raise<shape_error>(concat(function, ": the columns of ", argument, " must be those of ", heads, " heads, there are ", rows.cols()));
    const index_t head_size = rows.cols() / heads;
    if (rope != nullptr) rope->require_head(function, head_size);
    require_finite(function, argument, rows, exec);
    gram_accumulator<double> sum(head_size);
    for (index_t h = 0; h < heads; ++h) sum.add(rows.block(0, h * head_size, rows.rows(), head_size), exec);
    matrix<double> gram = std::move(sum).gram(exec);
    require_finite(function, "the Gram matrix", gram.view());
    return rope != nullptr ? rope->unrotated_gram(function, "the Gram matrix", gram.view()) : gram;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// The row Hessian of the query heads that read one key head: K^T K.
///
/// @par Shapes    K: tokens x head_size, any storage and layout
/// @return        head_size x head_size
/// @par Cost      tokens * head_size^2 / 2 multiply-adds
/// @par Numerics  in double; exactly symmetric; the same bits for every executor
/// @par Errors    shape_error; value_error if an entry is NaN or infinite, or the sum overflows
/// @par Source    BoA (arXiv 2406.13474): without the causal mask and the Jacobian of the softmax. Exact for the scores of one sequence
///                without mask and rotation; pooling sequences is an approximation
template <class Keys>
[[nodiscard]] matrix<double> row_hessian_from_keys(const Keys& K, executor_ref exec = {}) {
    return detail::gram_of_heads("row_hessian_from_keys", "K", as_const_view(K), 1, nullptr, exec);
}

/// The same for rotated keys: the mean of R_t^T K^T K R_t over the positions t of queries.
template <class Keys>
[[nodiscard]] matrix<double> row_hessian_from_keys(const Keys& K, const rope_means& rope, executor_ref exec = {}) {
    return detail::gram_of_heads("row_hessian_from_keys", "K", as_const_view(K), 1, &rope, exec);
}

/// The row Hessian of one key head: the sum of Q_h^T Q_h over the query heads h that read it.
///
/// @param query_heads  how many query heads read it: 1 without grouped queries
/// @par Shapes    Q: tokens x (query_heads * head_size), these heads side by side, any storage and layout
/// @par Errors    also option_error if query_heads < 1. Otherwise as `row_hessian_from_keys`
template <class Queries>
[[nodiscard]] matrix<double> row_hessian_from_queries(const Queries& Q, index_t query_heads, executor_ref exec = {}) {
    return detail::gram_of_heads("row_hessian_from_queries", "Q", as_const_view(Q), query_heads, nullptr, exec);
}

/// The same for rotated queries: the mean of R_t^T Q^T Q R_t over the positions t of keys.
template <class Queries>
[[nodiscard]] matrix<double> row_hessian_from_queries(const Queries& Q, index_t query_heads, const rope_means& rope,
                                                      executor_ref exec = {}) {
    return detail::gram_of_heads("row_hessian_from_queries", "Q", as_const_view(Q), query_heads, &rope, exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
