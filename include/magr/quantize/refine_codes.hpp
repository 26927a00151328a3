// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <magr/calibration/live_gram.hpp>
#include <magr/detail/contract.hpp>
#include <magr/detail/finite.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/quantize/code_map.hpp>
#include <magr/quantize/column_order.hpp>
#include <magr/quantize/error_state.hpp>
#include <magr/quantize/quantized_matrix.hpp>

namespace magr {

/// How codes are refined.
struct code_refinement {
    index_t max_passes = 5;         ///< over all columns, >= 1; it ends earlier when a pass gains less than 1e-12 of the loss
    double damping = 1e-2;          ///< added to diag(H), as a fraction of its mean over live columns, >= 0; 0.75 in the authors' code
    double denominator_offset = 0;  ///< shortens each step: H_jj + offset divides the gradient, >= 0; 0.1 in the authors' code
    column_order order = column_order::natural;  ///< in which order columns are visited
    double dead_threshold = 0;                   ///< columns with H_jj <= this fraction of the mean are dead, in [0, 1)
};

inline namespace MAGR_ISA_NAMESPACE {

/// What is wrong with these options; empty if nothing is.
[[nodiscard]] inline std::vector<std::string> problems(const code_refinement& options) {
    detail::problem_list found("code_refinement");
    const auto amount = [](double value) { return value >= 0 && detail::is_finite(value); };
    found.require(options.dead_threshold >= 0 && options.dead_threshold < 1, "dead_threshold", "in [0, 1)", options.dead_threshold);
    found.require(options.max_passes >= 1, "max_passes", "at least 1", options.max_passes);
    found.require(amount(options.damping), "damping", "at least 0 and finite", options.damping);
    found.require(amount(options.denominator_offset), "denominator_offset", "at least 0 and finite", options.denominator_offset);
    found.require_enumerator("order", options.order);
    return found.take();
}

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// One pass of coordinate descent over some rows; returns how many codes changed.
template <compute_scalar Scalar, class Scales>
[[nodiscard]] index_t descend(quantized_matrix<Scalar>& q, const Scales& map_of, const packed_gram& gram, std::span<const index_t> order,
                              double denominator_offset, error_state& state) {
    const row_major_matrix<double>& H = gram.matrix();
    constexpr index_t block = 64;
    const index_t n = H.cols();
    col_major_matrix<double> memory(state.rows(), block + 1);
    auto change = memory.leftCols(block);
    auto gradient = memory.col(block);
    index_t changes = 0;
    for (index_t begin = 0; begin < n; begin += block) {
        const index_t width = (std::min)(block, n - begin);
        const index_t changes_before = changes;
        change.setZero();
        for (index_t k = begin; k < begin + width; ++k) {
            const double curvature = H(k, k);
            if (curvature <= 0) continue;  // a dead column: every code is as good
            gradient = state.gradient.col(k);
            gradient.noalias() += change.leftCols(k - begin) * H.col(k).segment(begin, k - begin);
            const index_t j = order[static_cast<std::size_t>(k)];
            const index_t group = q.group_of_column[static_cast<std::size_t>(j)];
            for (index_t i = 0; i < state.rows(); ++i) {
                const index_t row = state.first_row + i;
                const auto map = map_of(q.scales(row, group), q.zeros(row, group));
                const Scalar now = weight_of_code(map, static_cast<Scalar>(q.codes(row, j)));
                const double wanted = static_cast<double>(now) - gradient[i] / (curvature + denominator_offset);
                const Scalar steps = steps_on_grid(map, limited_to<Scalar>(wanted), row, j);
                const double step = static_cast<double>(map.weight(steps)) - static_cast<double>(now);
                const double gain = step * (0.5 * curvature * step + gradient[i]);
                // less could be rounding, and would let codes change to and fro
                if (!(gain < -1e-12 * std::abs(step * gradient[i])) || !is_finite(gain)) continue;
                q.codes(row, j) = static_cast<std::uint8_t>(map.code(steps));
                change(i, k - begin) = step;
                state.error(i, k) += step;
                ++changes;
            }
        }
        if (changes > changes_before) gram.add_product(as_const_view(change.leftCols(width)), begin, state.gradient, state.scratch.data());
    }
    return changes;
}

/// `refine_codes` after all checks.
/// @param h       of a `live_gram`
template <compute_scalar Scalar, class T, class U>
[[nodiscard]] refinement_result run_refine_codes(quantized_matrix<Scalar>& Q, matrix_view<T> w, matrix_view<U> h,
                                                 const code_refinement& options, executor_ref exec) {
    const std::vector<index_t> order = order_columns(h, options.order, Q.group_size);
    const packed_gram damped(load_damped(h, order, options.damping), exec);
    return refine_panels(
        Q, w, damped, order, options.max_passes,
        [&](const auto& map_of, error_state& state) { return descend(Q, map_of, damped, order, options.denominator_offset, state); }, exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// Improves the codes of a quantized matrix while its grids stay as they are, by cyclic coordinate descent:
///
///   c_j <- the code that minimises tr((Q - W) (H + damping mean(diag H) I) (Q - W)^T)  given all other codes of the row
///
/// A code changes only if that lowers the loss, so the loss never rises; where no code changes any more, no change of a single code
/// could lower it.
///
/// @par Shapes    Q: rows x cols (in/out); W: rows x cols, the weights to come close to: the original ones, not those that MagR made of
///                them; H: cols x cols. Any storage and layout
/// @return        loss before and after, passes and changes
/// @par Cost      rows * cols^2 multiply-adds in double, and as many again for each pass in which codes change; allocates H in double twice
/// @par Numerics  in double. Dead columns keep their codes and have no part in the losses. With a denominator offset the change that
///                is tried is shorter than the best one
/// @par Errors    option_error; shape_error; value_error if an entry is NaN or infinite, H is not a Gram matrix, a code is outside of its
///                grid, or a grid is not usable. All before Q is written
/// @par Source    the pass that MagR (arXiv 2406.00800) marks with a dagger. Differs from the authors' code in that a code is changed only
///                if it lowers the loss, and the target is always W
template <compute_scalar Scalar, class Weights, class Gram>
refinement_result refine_codes(quantized_matrix<Scalar>& Q, const Weights& W, const Gram& H, const code_refinement& options = {},
                               executor_ref exec = {}) {
    const auto w = as_const_view(W);
    const auto h = as_const_view(H);
    validate(options);
    detail::require_refinable("refine_codes", Q, w, h);
    return detail::run_refine_codes(Q, w, detail::live_gram(h, options.dead_threshold).view(), options, exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
