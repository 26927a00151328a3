// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cstddef>
#include <limits>
#include <vector>

#include <magr/detail/aligned_buffer.hpp>
#include <magr/detail/contract.hpp>
#include <magr/detail/convert.hpp>
#include <magr/kernels/multiply_add.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/parallel/executor.hpp>

namespace magr {
namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// tr(M H M^T) = ||X M^T||_F^2 for H = X^T X, by block columns of the upper triangle of H: half the multiplications of M H.
[[nodiscard]] inline double output_energy(const row_major_matrix<double>& M, const row_major_matrix<double>& H) {
    constexpr index_t block = 128;
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

/// Measures several replacements of the same weights. The same bits for every executor.
class output_meter {
public:
    template <class T, class U, class Executor>
    output_meter(matrix_view<T> W, matrix_view<U> H, Executor& exec) : gram_(load<double>(H)) {
        energy_ = sum_over_panels(W.rows(), exec, [&](index_t first, index_t rows) {
            return output_energy(load<double>(W.block(first, 0, rows, W.cols())), gram_);
        });
    }

    /// tr((Q - W) H (Q - W)^T) / tr(W H W^T)
    template <class T, class U, class Executor>
    [[nodiscard]] double error(matrix_view<T> W, matrix_view<U> Q, Executor& exec) const {
        const double sum = sum_over_panels(W.rows(), exec, [&](index_t first, index_t rows) {
            return output_energy(load<double>(Q.block(first, 0, rows, W.cols())) - load<double>(W.block(first, 0, rows, W.cols())), gram_);
        });
        return error_ratio(sum, energy_);
    }

private:
    template <class Executor, class Energy>
    [[nodiscard]] static double sum_over_panels(index_t rows, Executor& exec, const Energy& energy) {
        constexpr index_t panel = 256;
        std::vector<double> energies(static_cast<std::size_t>((rows + panel - 1) / panel));
        exec.parallel_for(static_cast<index_t>(energies.size()), [&](index_t task, index_t) {
            energies[static_cast<std::size_t>(task)] = energy(task * panel, (std::min)(panel, rows - task * panel));
        });
        double sum = 0;
        for (const double part : energies) sum += part;
        return sum;
    }

    row_major_matrix<double> gram_;
    double energy_ = 0;
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
///                double, and 3.4 MB
/// @par Numerics  all in double; H is taken as symmetric, and only its upper triangle and its diagonal blocks are read. The same bits for
///                every executor
/// @par Errors    shape_error; value_error if an entry is NaN or infinite, or H is not a Gram matrix
template <class Weights, class Quantized, class Gram, executor Executor = serial_executor>
[[nodiscard]] double output_error(const Weights& W, const Quantized& Q, const Gram& H, Executor&& exec = {}) {
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
