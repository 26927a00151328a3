// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <limits>
#include <numeric>
#include <span>
#include <vector>

#include <magr/calibration/hessian.hpp>
#include <magr/detail/aligned_buffer.hpp>
#include <magr/detail/contract.hpp>
#include <magr/detail/convert.hpp>
#include <magr/detail/finite.hpp>
#include <magr/feedback/feedback_factor.hpp>
#include <magr/kernels/multiply_add.hpp>
#include <magr/linalg/triangular_solve.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/quantize/choose_damping.hpp>

namespace magr {
namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// B <- T^-1 B
/// @param T  transposed, as `feedback_factor` holds it
inline void solve_feedback(matrix_view<const double> T, row_major_matrix<double>& B, executor_ref exec) {
    constexpr index_t panel = 96;  // columns of a task
    constexpr index_t scratch = kernels::product_blocks<double, simd::default_arch>::scratch;
    const index_t n = B.rows(), m = B.cols();
    const aligned_buffer<double> memory(exec.concurrency() * scratch);
    exec.parallel_for((m + panel - 1) / panel, [&](index_t task, index_t worker) {
        const index_t first = task * panel;
        linalg::solve_lower_transposed(T, as_mutable_view(B).block(0, first, n, (std::min)(panel, m - first)),
                                       memory.data() + worker * scratch);
    });
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

MAGR_CORE damping_choice choose_damping(const hessian& fitting, const hessian& validation, std::span<const double> candidates,
                                        executor_ref exec) {
    const index_t n = fitting.inputs();
    detail::require_shape("choose_damping", "validation", validation.given(), n, n);
    detail::require_option(!candidates.empty(), "choose_damping", "candidates", "at least one", candidates.size());
    for (const double damping : candidates)
        detail::require_option(damping >= 0 && detail::is_finite(damping), "choose_damping", "candidates", ">= 0 and finite", damping);

    std::vector<index_t> order(static_cast<std::size_t>(n));
    std::iota(order.begin(), order.end(), index_t{0});
    const detail::row_major_matrix<double> V = detail::load<double>(validation.live().view()) / validation.mean();
    const double nearest = V.trace();
    damping_choice choice;
    double least = std::numeric_limits<double>::infinity();
    for (const double damping : candidates) {
        double error = std::numeric_limits<double>::infinity();
        const auto factor = factor_feedback<double>(fitting.live().view(), order, {.damping = damping, .raise_damping = false}, exec);
        if (factor.status == factor_status::as_requested) {
            detail::row_major_matrix<double> product = V;
            detail::solve_feedback(factor.feedback.view(), product, exec);
            product.transposeInPlace();  // V T^-T
            detail::solve_feedback(factor.feedback.view(), product, exec);
            const double cost = product.trace();
            if (detail::is_finite(cost)) error = nearest > 0 ? cost / nearest : 1;
        }
        choice.errors.push_back(error);
        if (!(error < least)) continue;
        least = error;
        choice.damping = damping;
    }
    return choice;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
