// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include <magr/calibration/largest_eigenvalue.hpp>
#include <magr/calibration/live_gram.hpp>
#include <magr/calibration/output_error.hpp>
#include <magr/calibration/output_meter.hpp>
#include <magr/detail/aligned_buffer.hpp>
#include <magr/detail/contract.hpp>
#include <magr/detail/convert.hpp>
#include <magr/kernels/multiply_add.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Number of columns of H processed at a time when computing an energy.
inline constexpr index_t output_block = 128;

/// tr(M H M^T) = ||X M^T||_F^2 for H = X^T X, by block columns of the upper triangle of H: half the multiplications of M H.
[[nodiscard]] inline double output_energy(const row_major_matrix<double>& M, matrix_view<const double> h) {
    constexpr index_t block = output_block;
    const aligned_buffer<double> scratch(kernels::product_blocks<double, simd::default_arch>::scratch_for(block));
    const auto m = as_const_view(M);
    row_major_matrix<double> product;
    double energy = 0;
    for (index_t first = 0; first < h.cols(); first += block) {
        const index_t width = (std::min)(block, h.cols() - first);
        product.setZero(M.rows(), width);
        const auto out = as_mutable_view(product);
        kernels::multiply_add(out, 2.0, m.block(0, 0, M.rows(), first), h.block(0, first, first, width), scratch.data());
        kernels::multiply_add(out, 1.0, m.block(0, first, M.rows(), width), h.block(first, first, width, width), scratch.data());
        energy += product.cwiseProduct(M.middleCols(first, width)).sum();
    }
    return energy;
}

inline constexpr index_t output_panel = 256;  // rows that are measured together

MAGR_CORE std::size_t output_meter::bytes(index_t rows, index_t cols, index_t workers) noexcept {
    const index_t height = (std::min)(output_panel, rows);
    const index_t of_worker =
        height * (2 * cols + output_block) + kernels::product_blocks<double, simd::default_arch>::scratch_for(output_block);
    const index_t panels = (rows + output_panel - 1) / output_panel;
    return static_cast<std::size_t>(cols * cols + (std::min)(workers, panels) * of_worker + 2 * panels) * sizeof(double);
}

/// H as passed in, brought near 1 by a power of two.
[[nodiscard]] inline matrix<double> load_near_one(const matrix_ref& H) {
    const live_gram live(H, 0);
    matrix<double> copy(H.rows(), H.cols());
    for (index_t i = 0; i < H.rows(); ++i) live.view().load_row(i, 0, H.cols(), &copy(i, 0));
    const double scale = unit_scale(copy.view());
    for (index_t k = 0; k < H.rows() * H.cols(); ++k) copy.data()[k] *= scale;
    return copy;
}

MAGR_CORE output_meter::output_meter(const matrix_ref& W, const hessian& H, executor_ref exec)
    : gram_(H.remember<matrix<double>>({}, [&] { return load_near_one(H.given()); })), energy_(energy_of(W, nullptr, exec)) {}

MAGR_CORE double output_meter::error(const matrix_ref& W, const matrix_ref& Q, executor_ref exec) const {
    const scaled_sum sum = energy_of(W, &Q, exec);
    return std::ldexp(error_ratio(sum.value, energy_.value), 2 * (sum.exponent - energy_.exponent));
}

MAGR_CORE output_meter::scaled_sum output_meter::energy_of(const matrix_ref& W, const matrix_ref* Q, executor_ref exec) const {
    std::vector<scaled_sum> parts(static_cast<std::size_t>((W.rows() + output_panel - 1) / output_panel));
    exec.parallel_for(static_cast<index_t>(parts.size()), [&](index_t task, index_t) {
        const index_t first = task * output_panel, rows = (std::min)(output_panel, W.rows() - first);
        // half of each, because a difference of two large numbers could overflow
        row_major_matrix<double> M = load<double>(W.block(first, 0, rows, W.cols()));
        const index_t numbers = rows * W.cols();
        for (index_t k = 0; k < numbers; ++k) M.data()[k] /= 2;
        if (Q != nullptr) {
            const row_major_matrix<double> replaced = load<double>(Q->block(first, 0, rows, W.cols()));
            for (index_t k = 0; k < numbers; ++k) M.data()[k] = replaced.data()[k] / 2 - M.data()[k];
        }
        for (index_t j = 0; j < M.cols(); ++j)
            for (index_t i = 0; gram_(j, j) <= 0 && i < rows; ++i) M(i, j) = 0;
        double largest = 0;
        for (index_t k = 0; k < numbers; ++k) largest = (std::max)(largest, std::abs(M.data()[k]));
        int exponent = 0;
        static_cast<void>(std::frexp(largest, &exponent));
        exponent = (std::max)(exponent, -1000);  // keeps the reciprocal of the power of two finite
        const double scale = std::ldexp(1.0, -exponent);
        for (index_t k = 0; k < numbers; ++k) M.data()[k] *= scale;
        parts[static_cast<std::size_t>(task)] = {output_energy(M, gram_.view()), exponent};
    });
    scaled_sum sum;
    sum.exponent = parts.front().exponent;
    for (const scaled_sum& part : parts) sum.exponent = (std::max)(sum.exponent, part.exponent);
    for (const scaled_sum& part : parts) sum.value += std::ldexp(part.value, 2 * (part.exponent - sum.exponent));
    return sum;
}

/// The definition of `output_error`.
MAGR_CORE double measure_output_error(const matrix_ref& W, const matrix_ref& Q, const gram_argument& H, executor_ref exec) {
    const used_hessian h("output_error", W, H, 0, exec);
    require_shape("output_error", "Q", Q, W.rows(), W.cols());
    require_finite("output_error", "Q", Q, exec);
    return output_meter(W, *h, exec).error(W, Q, exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
