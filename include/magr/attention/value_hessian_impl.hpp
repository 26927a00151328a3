// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <utility>

#include <magr/attention/value_hessian.hpp>
#include <magr/calibration/gram.hpp>
#include <magr/detail/aligned_buffer.hpp>
#include <magr/detail/contract.hpp>
#include <magr/detail/convert.hpp>
#include <magr/kernels/multiply_add.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

MAGR_LARGE_CORE_DEFINITION matrix<double> run_value_hessian(const matrix_ref& X, const matrix_ref& A, executor_ref exec) {
    require_not_empty("value_hessian", "X", X);
    require_not_empty("value_hessian", "A", A);
    require_shape("value_hessian", "A", A, A.rows(), X.rows());
    require_finite("value_hessian", "X", X, exec);
    require_finite("value_hessian", "A", A, exec);

    const row_major_matrix<double> inputs = load<double>(X), attention = load<double>(A);
    row_major_matrix<double> mixed = row_major_matrix<double>::Zero(A.rows(), X.cols());
    constexpr index_t panel = kernels::block_side;
    constexpr index_t scratch_size = kernels::product_blocks<double, simd::default_arch>::scratch;
    const aligned_buffer<double> scratch(exec.concurrency() * scratch_size);
    exec.parallel_for((A.rows() + panel - 1) / panel, [&](index_t task, index_t worker) {
        const index_t first = task * panel, rows = (std::min)(panel, A.rows() - first);
        kernels::multiply_add(as_mutable_view(mixed).block(first, 0, rows, X.cols()), 1.0,
                              as_const_view(attention).block(first, 0, rows, X.rows()), as_const_view(inputs),
                              scratch.data() + worker * scratch_size);
    });
    require_finite("value_hessian", "A X", as_const_view(mixed), exec);
    gram_accumulator<double> sum(X.cols());
    sum.add(mixed, exec);
    matrix<double> gram = std::move(sum).gram(exec);
    require_finite("value_hessian", "the Gram matrix of A X", gram.view(), exec);
    return gram;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
