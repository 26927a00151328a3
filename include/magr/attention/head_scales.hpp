// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cstddef>
#include <type_traits>

#include <magr/attention/head_rows.hpp>
#include <magr/detail/convert.hpp>
#include <magr/detail/finite.hpp>
#include <magr/grid/code_map.hpp>
#include <magr/grid/grid_weights.hpp>
#include <magr/grid/quantized_matrix.hpp>
#include <magr/grid/storage.hpp>
#include <magr/kernels/multiply_add.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/matrix/matrix_view.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// The damped matrix of a factor in the order of H, with a mean diagonal of about 1.
template <compute_scalar Scalar>
[[nodiscard]] row_major_matrix<double> damped_matrix(const planned_hessian<Scalar>& from) {
    const double mean = from.H->mean();
    const row_major_matrix<double> h = load<double>(from.H->live().view()) / mean;
    row_major_matrix<double> damped = h.selfadjointView<Eigen::Lower>();
    const auto& [order, factor] = *from.plan;
    for (std::size_t k = 0; k < order.size(); ++k) damped(order[k], order[k]) += factor.added[k] / mean;
    return damped;
}

/// The scales of one head, a grid per row, refined for its codes.
///
/// With C the derivatives of the weights with respect to their scales and E = Q - W, one row j after another,
///
///   s_j <- s_j - (H_row E H)_j C_j^T / (H_row,jj C_j H C_j^T)        the minimiser of tr(H_row E H E^T) over this scale alone
template <compute_scalar Scalar>
class head_scales {
public:
    /// @param H, H_row  damped
    /// @param scratch   product_blocks<double>::scratch elements
    head_scales(quantized_matrix<Scalar>& q, std::type_identity_t<matrix_view<const Scalar>> w, index_t first_row,
                const row_major_matrix<double>& H, const row_major_matrix<double>& H_row, double* scratch)
        : q_(q),
          first_row_(first_row),
          H_row_(H_row),
          scratch_(scratch),
          direction_(H_row.rows(), w.cols()),
          error_(H_row.rows(), w.cols()) {
        with_code_map(q, [&](const auto& map_of) {
            for (index_t j = 0; j < H_row.rows(); ++j) {
                const index_t row = first_row + j;
                const auto map = map_of(q.scales(row, 0), q.zeros(row, 0));
                const auto per_scale = map_of(Scalar(1), q.zero_point == zero_point::offset ? Scalar(0) : q.zeros(row, 0));
                for (index_t k = 0; k < w.cols(); ++k) {
                    const auto code = static_cast<Scalar>(q.codes(row, k));
                    direction_(j, k) = static_cast<double>(weight_of_code(per_scale, code));
                    error_(j, k) = static_cast<double>(weight_of_code(map, code)) - static_cast<double>(w(row, k));
                }
            }
        });
        const auto times_H = [&](const row_major_matrix<double>& rows) {
            row_major_matrix<double> product = row_major_matrix<double>::Zero(rows.rows(), rows.cols());
            kernels::multiply_add(as_mutable_view(product), 1.0, as_const_view(rows), as_const_view(H), scratch);
            return product;
        };
        direction_H_ = times_H(direction_);
        error_H_ = times_H(error_);
    }

    /// tr(H_row E H E^T)
    [[nodiscard]] double loss() const {
        row_major_matrix<double> costs = row_major_matrix<double>::Zero(error_.rows(), error_.rows());
        kernels::multiply_add(as_mutable_view(costs), 1.0, as_const_view(error_), as_const_view(error_H_).transposed(), scratch_);
        return H_row_.cwiseProduct(costs).sum();
    }

    /// @return  how many scales changed
    [[nodiscard]] index_t refine() {
        index_t changes = 0;
        for (index_t j = 0; j < H_row_.rows(); ++j) {
            const double slope = H_row_.row(j).dot(error_H_ * direction_.row(j).transpose());
            const double curvature = H_row_(j, j) * direction_H_.row(j).dot(direction_.row(j));
            if (!(curvature > 0)) continue;
            Scalar& scale = q_.scales(first_row_ + j, 0);
            const double wanted = static_cast<double>(scale) - slope / curvature;
            if (!is_finite(wanted) || !(wanted > 0)) continue;
            const auto stored = store_scale<Scalar>(wanted, q_.storage, largest_multiple(q_.bits, q_.levels));
            if (infinite_weight(q_, stored, q_.zeros(first_row_ + j, 0)) != 0) continue;
            // the stored scale differs slightly from the wanted one, so keep it only if it still lowers the loss
            const double change = static_cast<double>(stored) - static_cast<double>(scale);
            const double gain = change * (2 * slope + change * curvature);
            if (!(gain < 0) || !is_finite(gain)) continue;
            scale = stored;
            error_.row(j) += change * direction_.row(j);
            error_H_.row(j) += change * direction_H_.row(j);
            ++changes;
        }
        return changes;
    }

private:
    quantized_matrix<Scalar>& q_;
    index_t first_row_;
    const row_major_matrix<double>& H_row_;
    double* scratch_;
    row_major_matrix<double> direction_, error_, direction_H_, error_H_;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
