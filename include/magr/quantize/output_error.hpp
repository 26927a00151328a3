// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <limits>

#include <magr/detail/contract.hpp>
#include <magr/detail/convert.hpp>
#include <magr/matrix/dense_matrix.hpp>

namespace magr {
namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// tr(M H M^T) = ||X M^T||_F^2 for H = X^T X, by block columns of the upper triangle of H: half the multiplications of M H.
[[nodiscard]] inline double output_energy(const row_major_matrix<double>& M, const row_major_matrix<double>& H) {
    constexpr index_t block = 128;
    row_major_matrix<double> product;
    double energy = 0;
    for (index_t first = 0; first < H.cols(); first += block) {
        const index_t width = std::min(block, H.cols() - first);
        product.noalias() = 2 * M.leftCols(first) * H.block(0, first, first, width);
        product.noalias() += M.middleCols(first, width) * H.block(first, first, width, width);
        energy += product.cwiseProduct(M.middleCols(first, width)).sum();
    }
    return energy;
}

/// error / energy, where no error is 0 whatever the energy, and an error without energy is infinite.
[[nodiscard]] inline double error_ratio(double error, double energy) {
    if (error <= 0) return 0;  // rounding can take an error of zero below it
    return energy > 0 ? error / energy : std::numeric_limits<double>::infinity();
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// Relative error of a layer's output when its weights W are replaced by Q:
///
///   tr((Q - W) H (Q - W)^T) / tr(W H W^T)  =  ||X (Q - W)^T||_F^2 / ||X W^T||_F^2     for H = X^T X
///
/// @par Shapes    W, Q: rows x cols; H: cols x cols; each of any storage and layout
/// @return        >= 0; 0 if the error is zero, also when tr(W H W^T) is zero; infinity if only tr(W H W^T) is zero
/// @par Cost      rows * cols^2 multiply-adds in double; allocates H and two blocks of 256 rows in double
/// @par Numerics  all in double; H is taken as symmetric, and only its upper triangle and its diagonal blocks are read
/// @par Errors    shape_error; value_error if an entry is NaN or infinite, or H is not a Gram matrix
template <class Weights, class Quantized, class Gram>
[[nodiscard]] double output_error(const Weights& W, const Quantized& Q, const Gram& H) {
    const auto w = as_const_view(W);
    const auto q = as_const_view(Q);
    const auto h = as_const_view(H);
    detail::require_not_empty("output_error", "W", w);
    detail::require_shape("output_error", "Q", q, w.rows(), w.cols());
    detail::require_gram("output_error", "H", h, w.cols());
    detail::require_finite("output_error", "W", w);
    detail::require_finite("output_error", "Q", q);

    constexpr index_t panel = 256;
    const auto gram = detail::load<double>(h);
    double error = 0;
    double energy = 0;
    for (index_t first = 0; first < w.rows(); first += panel) {
        const index_t rows = std::min(panel, w.rows() - first);
        const auto weights = detail::load<double>(w.block(first, 0, rows, w.cols()));
        energy += detail::output_energy(weights, gram);
        error += detail::output_energy(detail::load<double>(q.block(first, 0, rows, q.cols())) - weights, gram);
    }
    return detail::error_ratio(error, energy);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
