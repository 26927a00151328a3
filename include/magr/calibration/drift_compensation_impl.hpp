// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include <magr/calibration/drift_compensation.hpp>
#include <magr/calibration/hessian.hpp>
#include <magr/detail/aligned_buffer.hpp>
#include <magr/detail/contract.hpp>
#include <magr/detail/convert.hpp>
#include <magr/detail/finite.hpp>
#include <magr/kernels/multiply_add.hpp>
#include <magr/linalg/cholesky.hpp>
#include <magr/linalg/triangular_solve.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

MAGR_CORE std::vector<std::string> problems(const drift_options& options) {
    detail::problem_list found("drift_options");
    found.require(options.fraction >= 0 && options.fraction <= 1, "fraction", "in [0, 1]", options.fraction);
    found.require(options.damping >= 0 && detail::is_finite(options.damping), "damping", "at least 0 and finite", options.damping);
    found.require(options.dead_threshold >= 0 && options.dead_threshold < 1, "dead_threshold", "in [0, 1)", options.dead_threshold);
    return found.take();
}

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

MAGR_CORE drift_result run_compensate_drift(const mutable_matrix_ref& W, const gram_argument& H, const matrix_ref& D,
                                            const drift_options& options, executor_ref exec) {
    validate(options);
    const used_hessian h("compensate_drift", W, H, options.dead_threshold, exec);
    require_shape("compensate_drift", "D", D, W.cols(), W.cols());
    require_finite("compensate_drift", "D", D, exec);

    const index_t n = W.cols();
    const live_gram& live = h->live();
    if (!live.has_live()) return {};
    const double mean = live.mean();
    row_major_matrix<double> factor = load<double>(live.view()) / mean;
    for (index_t j = 0; j < n; ++j) factor(j, j) = live.is_dead(j) ? 1 : factor(j, j) + options.damping;
    if (!linalg::cholesky(matrix_view<double>(factor.data(), n, n), exec)) return {};

    row_major_matrix<double> per_input = load<double>(D) / mean * options.fraction;
    for (index_t j = 0; j < n; ++j)
        if (live.is_dead(j)) per_input.col(j).setZero();
    row_major_matrix<double> before = load<double>(W);
    row_major_matrix<double> change(W.rows(), n);
    constexpr index_t panel = kernels::block_side;
    const index_t panels = (W.rows() + panel - 1) / panel;
    std::vector<char> finite(static_cast<std::size_t>(panels), 1);
    constexpr index_t scratch_size = kernels::product_blocks<double, simd::default_arch>::scratch;
    const aligned_buffer<double> memory(exec.concurrency() * scratch_size);
    exec.parallel_for(panels, [&](index_t task, index_t worker) {
        const index_t first = task * panel, count = (std::min)(panel, W.rows() - first);
        double* const scratch = memory.data() + worker * scratch_size;
        row_major_matrix<double> columns = row_major_matrix<double>::Zero(n, count);  // the change of some rows, transposed
        kernels::multiply_add(as_mutable_view(columns), 1.0, as_const_view(per_input).transposed(),
                              as_const_view(before).block(first, 0, count, n).transposed(), scratch);
        linalg::solve_lower(as_const_view(factor), as_mutable_view(columns), scratch);
        linalg::solve_lower_transposed(as_const_view(factor), as_mutable_view(columns), scratch);
        change.middleRows(first, count) = columns.transpose();
        row_major_matrix<double> stored = before.middleRows(first, count) + change.middleRows(first, count);
        W.type().round(stored.data(), stored.size());
        if (!is_finite(as_const_view(stored))) finite[static_cast<std::size_t>(task)] = 0;
    });
    if (std::find(finite.begin(), finite.end(), 0) != finite.end()) return {};
    store(row_major_matrix<double>(before + change), W);
    for (index_t j = 0; j < n; ++j)
        if (live.is_dead(j)) before.col(j).setZero();
    const double size = before.stableNorm();
    return {.compensated = true, .change = size > 0 ? change.stableNorm() / size : 0};
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr
