// SPDX-License-Identifier: MIT
#pragma once

#include <magr/config.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr {
namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

MAGR_LARGE_CORE [[nodiscard]] matrix<double> run_value_hessian(const matrix_ref& X, const matrix_ref& A, executor_ref exec);

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// The Gram matrix of the inputs of a value head as attention mixes them: (A X)^T (A X).
///
/// An error dW in a value projection changes the output of its head by A X dW^T. Quantize the rows of each value head with its own H, by
/// `quantize_optq` for example. For several sequences sum the matrices.
///
/// @par Shapes    X: tokens x in, the inputs of one sequence; A: any number x tokens, the attention weights of one head, or of all heads
///                that read this value head, one below the other. Any storage and layout
/// @return        in x in
/// @par Cost      A.rows() * in * (tokens + in / 2) multiply-adds in double; allocates X, A, A X and the result in double
/// @par Numerics  in double; exactly symmetric; the same bits for every executor
/// @par Errors    shape_error; value_error if an entry is NaN or infinite, or A X or the sum overflows
/// @par Source    BoA (arXiv 2406.13474), without the weights of the output projection
template <class Inputs, class Attention>
[[nodiscard]] matrix<double> value_hessian(const Inputs& X, const Attention& A, executor_ref exec = {}) {
    return detail::run_value_hessian(as_const_view(X), as_const_view(A), exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/attention/value_hessian_impl.hpp>
#endif
