// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include <magr/calibration/drift.hpp>
#include <magr/calibration/live_gram.hpp>
#include <magr/detail/aligned_buffer.hpp>
#include <magr/detail/contract.hpp>
#include <magr/detail/convert.hpp>
#include <magr/detail/finite.hpp>
#include <magr/kernels/multiply_add.hpp>
#include <magr/linalg/cholesky.hpp>
#include <magr/linalg/triangular_solve.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr {

/// Options of `compensate_drift`.
struct drift_options {
    double strength = 0.5;      ///< fraction of the drift to compensate, in [0, 1]; 1 also fits noise of the calibration
    double damping = 0.1;       ///< added to diag(H), as a fraction of its mean over live columns, >= 0
    double dead_threshold = 0;  ///< columns with H_jj <= this fraction of the mean are dead and keep their weights; in [0, 1)
};

/// What `compensate_drift` did.
struct [[nodiscard]] drift_result {
    /// if false, W is unchanged: all inputs are dead, H + damping mean(diag H) I has no Cholesky factor, or numbers overflowed
    bool compensated = false;
    double change = 0;  ///< ||W' - W||_F / ||W||_F over live columns
};

inline namespace MAGR_ISA_NAMESPACE {

/// What is wrong with these options; empty if nothing is.
[[nodiscard]] inline std::vector<std::string> problems(const drift_options& options) {
    detail::problem_list found("drift_options");
    found.require(options.strength >= 0 && options.strength <= 1, "strength", "in [0, 1]", options.strength);
    found.require(options.damping >= 0 && detail::is_finite(options.damping), "damping", "at least 0 and finite", options.damping);
    found.require(options.dead_threshold >= 0 && options.dead_threshold < 1, "dead_threshold", "in [0, 1)", options.dead_threshold);
    return found.take();
}

/// Changes the weights of a layer in place, before they are quantized, to restore the output that it had before the layers in front of it
/// were quantized:
///
///     W' = W + strength * W D (H + damping mean(diag H) I)^-1,      H = Y^T Y,   D = (X - Y)^T Y
///
/// With strength 1 and no damping W' minimises ||Y W'^T - X W^T||_F, where X are the inputs in full precision and Y those of the quantized
/// network. Quantize W' with H as if it were the original. Dead columns, inputs that are always zero in the quantized network, do not count
/// in the mean, and their weights stay unchanged. They affect the target only through their inputs in full precision.
///
/// @par Shapes    W: out x in (in/out); H, D: in x in, of a `gram_accumulator` of Y and a `drift_accumulator` of the same tokens.
///                Any storage and layout
/// @par Cost      in^3 / 6 + 2 out in^2 multiply-adds in double; allocates two matrices of H's size and two of W's in double, and
///                3.4 MB and 96 rows for each worker
/// @par Numerics  in double; the lower triangle of H is read; a common factor of H and D cancels; the same bits for every executor
/// @par Errors    option_error; shape_error; value_error if an entry is NaN or infinite, or H is not a Gram matrix. All before W is written
/// @par Source    arXiv 2504.09629 (QEP), with its strength of 1/2; the damping, the same for all inputs, is ours
template <class Weights, class Gram, class Drift>
drift_result compensate_drift(Weights&& W, const Gram& H, const Drift& D, const drift_options& options = {}, executor_ref exec = {}) {
    const auto weights = as_mutable_view(W);
    using stored = typename decltype(weights)::value_type;
    const auto gram = as_const_view(H);
    const auto drift = as_const_view(D);
    validate(options);
    detail::require_layer("compensate_drift", weights, gram);
    detail::require_shape("compensate_drift", "D", drift, gram.rows(), gram.cols());
    detail::require_finite("compensate_drift", "D", drift);

    const index_t n = gram.cols();
    const detail::live_gram live(gram, options.dead_threshold);
    if (!live.has_live()) return {};
    const double mean = live.mean();
    detail::row_major_matrix<double> factor = detail::load<double>(live.view()) / mean;
    for (index_t j = 0; j < n; ++j) factor(j, j) = live.is_dead(j) ? 1 : factor(j, j) + options.damping;
    if (!linalg::cholesky(matrix_view<double>(factor.data(), n, n), exec)) return {};

    detail::row_major_matrix<double> per_input = detail::load<double>(drift) / mean * options.strength;
    for (index_t j = 0; j < n; ++j)
        if (live.is_dead(j)) per_input.col(j).setZero();
    detail::row_major_matrix<double> before = detail::load<double>(weights);
    detail::row_major_matrix<double> change(weights.rows(), n);
    constexpr index_t panel = kernels::block_side;
    const index_t panels = (weights.rows() + panel - 1) / panel;
    std::vector<char> finite(static_cast<std::size_t>(panels), 1);
    constexpr index_t scratch_size = kernels::product_blocks<double, simd::default_arch>::scratch;
    const detail::aligned_buffer<double> memory(exec.concurrency() * scratch_size);
    exec.parallel_for(panels, [&](index_t task, index_t worker) {
        const index_t first = task * panel, count = (std::min)(panel, weights.rows() - first);
        double* const scratch = memory.data() + worker * scratch_size;
        detail::row_major_matrix<double> columns = detail::row_major_matrix<double>::Zero(n, count);  // the transposed change of some rows
        kernels::multiply_add(as_mutable_view(columns), 1.0, as_const_view(per_input).transposed(),
                              as_const_view(before).block(first, 0, count, n).transposed(), scratch);
        linalg::solve_lower(as_const_view(factor), as_mutable_view(columns), scratch);
        linalg::solve_lower_transposed(as_const_view(factor), as_mutable_view(columns), scratch);
        change.middleRows(first, count) = columns.transpose();
        for (index_t i = first; i < first + count; ++i)
            for (index_t j = 0; j < n; ++j)
                if (!detail::is_finite(static_cast<compute_t<stored>>(static_cast<stored>(before(i, j) + change(i, j)))))
                    finite[static_cast<std::size_t>(task)] = 0;
    });
    if (std::find(finite.begin(), finite.end(), 0) != finite.end()) return {};
    detail::store(before + change, weights);
    for (index_t j = 0; j < n; ++j)
        if (live.is_dead(j)) before.col(j).setZero();
    const double size = before.stableNorm();
    return {.compensated = true, .change = size > 0 ? change.stableNorm() / size : 0};
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
