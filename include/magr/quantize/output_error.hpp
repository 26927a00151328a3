// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include <magr/calibration/largest_eigenvalue.hpp>
#include <magr/calibration/live_gram.hpp>
#include <magr/detail/aligned_buffer.hpp>
#include <magr/detail/contract.hpp>
#include <magr/detail/convert.hpp>
#include <magr/kernels/multiply_add.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr {
namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Columns of H that an energy is computed with at a time.
inline constexpr index_t output_block = 128;

/// tr(M H M^T) = ||X M^T||_F^2 for H = X^T X, by block columns of the upper triangle of H: half the multiplications of M H.
[[nodiscard]] inline double output_energy(const row_major_matrix<double>& M, const row_major_matrix<double>& H) {
    constexpr index_t block = output_block;
    const aligned_buffer<double> scratch(kernels::product_blocks<double, simd::default_arch>::scratch);
    const auto m = as_const_view(M), h = as_const_view(H);
    row_major_matrix<double> product;
    double energy = 0;
    for (index_t first = 0; first < H.cols(); first += block) {
        const index_t width = (std::min)(block, H.cols() - first);
        product.setZero(M.rows(), width);
        const auto out = as_mutable_view(product);
        kernels::multiply_add(out, 2.0, m.block(0, 0, M.rows(), first), h.block(0, first, first, width), scratch.data());
        kernels::multiply_add(out, 1.0, m.block(0, first, M.rows(), width), h.block(first, first, width, width), scratch.data());
        energy += product.cwiseProduct(M.middleCols(first, width)).sum();
    }
    return energy;
}

/// error / energy, where no error is 0 whatever the energy, and an error without energy is infinite.
[[nodiscard]] inline double error_ratio(double error, double energy) {
    if (error <= 0) return 0;  // rounding can take an error of zero below it
    return energy > 0 ? error / energy : std::numeric_limits<double>::infinity();
}

/// Measures several replacements of the same weights. The same bits for every executor. Weights and H may be of any size: both are brought
/// near 1 by powers of two, so that no square of theirs leaves the range of numbers. Dead columns (H_jj = 0) have no part in anything.
class output_meter {
public:
    /// Bytes that it needs at most, measuring included.
    [[nodiscard]] static std::size_t bytes(index_t rows, index_t cols, index_t workers) noexcept {
        const index_t height = (std::min)(panel, rows);
        const index_t of_worker = height * (3 * cols + output_block) + kernels::product_blocks<double, simd::default_arch>::scratch;
        const index_t panels = (rows + panel - 1) / panel;
        return static_cast<std::size_t>(cols * cols + (std::min)(workers, panels) * of_worker + 2 * panels) * sizeof(double);
    }

    template <class T, class U>
    output_meter(matrix_view<T> W, matrix_view<U> H, executor_ref exec) : gram_(load<double>(live_gram(H, 0).view())) {
        gram_ *= unit_scale(as_const_view(gram_));
        energy_ = sum_over_panels(W.rows(), exec, [&](index_t first, index_t rows) -> row_major_matrix<double> {
            return load<double>(W.block(first, 0, rows, W.cols())) / 2;
        });
    }

    /// tr((Q - W) H (Q - W)^T) / tr(W H W^T)
    template <class T, class U>
    [[nodiscard]] double error(matrix_view<T> W, matrix_view<U> Q, executor_ref exec) const {
        const scaled_sum sum = sum_over_panels(W.rows(), exec, [&](index_t first, index_t rows) -> row_major_matrix<double> {
            return load<double>(Q.block(first, 0, rows, W.cols())) / 2 - load<double>(W.block(first, 0, rows, W.cols())) / 2;
        });
        return std::ldexp(error_ratio(sum.value, energy_.value), 2 * (sum.exponent - energy_.exponent));
    }

    /// Whether tr(W H W^T) > 0, so that ratios are numbers.
    [[nodiscard]] bool has_energy() const noexcept { return energy_.value > 0; }

private:
    static constexpr index_t panel = 256;  // rows

    /// value * 4^exponent
    struct scaled_sum {
        double value = 0;
        int exponent = 0;
    };

    /// The energy of all panels; `half_of` gives half of each, which a difference of the largest numbers does not overflow.
    template <class Half>
    [[nodiscard]] scaled_sum sum_over_panels(index_t rows, executor_ref exec, const Half& half_of) const {
        std::vector<scaled_sum> parts(static_cast<std::size_t>((rows + panel - 1) / panel));
        exec.parallel_for(static_cast<index_t>(parts.size()), [&](index_t task, index_t) {
            row_major_matrix<double> M = half_of(task * panel, (std::min)(panel, rows - task * panel));
            for (index_t j = 0; j < M.cols(); ++j)
                if (gram_(j, j) <= 0) M.col(j).setZero();
            int exponent = 0;
            static_cast<void>(std::frexp(M.cwiseAbs().maxCoeff(), &exponent));
            exponent = (std::max)(exponent, -1000);  // the reciprocal of its power of two is a number
            M *= std::ldexp(1.0, -exponent);
            parts[static_cast<std::size_t>(task)] = {output_energy(M, gram_), exponent};
        });
        scaled_sum sum;
        sum.exponent = parts.front().exponent;
        for (const scaled_sum& part : parts) sum.exponent = (std::max)(sum.exponent, part.exponent);
        for (const scaled_sum& part : parts) sum.value += std::ldexp(part.value, 2 * (part.exponent - sum.exponent));
        return sum;
    }

    row_major_matrix<double> gram_;
    scaled_sum energy_;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// Relative error of a layer's output when its weights W are replaced by Q:
///
///   tr((Q - W) H (Q - W)^T) / tr(W H W^T)  =  ||X (Q - W)^T||_F^2 / ||X W^T||_F^2     for H = X^T X
///
/// @par Shapes    W, Q: rows x cols; H: cols x cols; each of any storage and layout
/// @return        >= 0; 0 if the error is zero, also when tr(W H W^T) is zero; infinity if only tr(W H W^T) is zero
/// @par Cost      rows * cols^2 multiply-adds in double, tasks of 256 rows; allocates H and for each worker two blocks of 256 rows in
/// double
/// @par Numerics  all in double, and right for weights and H of any size; H is taken as symmetric, and only its upper triangle and its
///                diagonal blocks are read. Weights of dead columns (H_jj = 0) do not matter. The same bits for every executor
/// @par Errors    shape_error; value_error if an entry is NaN or infinite, or H is not a Gram matrix
template <class Weights, class Quantized, class Gram>
[[nodiscard]] double output_error(const Weights& W, const Quantized& Q, const Gram& H, executor_ref exec = {}) {
    const auto w = as_const_view(W);
    const auto q = as_const_view(Q);
    const auto h = as_const_view(H);
    detail::require_not_empty("output_error", "W", w);
    detail::require_shape("output_error", "Q", q, w.rows(), w.cols());
    detail::require_gram("output_error", "H", h, w.cols());
    detail::require_finite("output_error", "W", w);
    detail::require_finite("output_error", "Q", q);

    return detail::output_meter(w, h, exec).error(w, q, exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
