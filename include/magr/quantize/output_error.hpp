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

/// Measures several replacements of the same weights.
class output_meter {
public:
    template <class T, class U>
    output_meter(matrix_view<T> W, matrix_view<U> H) : gram_(load<double>(H)) {
        for_each_panel(W.rows(), [&](index_t first, index_t rows) {
            energy_ += output_energy(load<double>(W.block(first, 0, rows, W.cols())), gram_);
        });
    }

    /// tr((Q - W) H (Q - W)^T) / tr(W H W^T)
    template <class T, class U>
    [[nodiscard]] double error(matrix_view<T> W, matrix_view<U> Q) const {
        double sum = 0;
        for_each_panel(W.rows(), [&](index_t first, index_t rows) {
            sum += output_energy(load<double>(Q.block(first, 0, rows, W.cols())) - load<double>(W.block(first, 0, rows, W.cols())), gram_);
        });
        return error_ratio(sum, energy_);
    }

private:
    template <class Use>
    static void for_each_panel(index_t rows, const Use& use) {
        constexpr index_t panel = 256;
        for (index_t first = 0; first < rows; first += panel) use(first, std::min(panel, rows - first));
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

    return detail::output_meter(w, h).error(w, q);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
