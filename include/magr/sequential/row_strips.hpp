// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>

#include <magr/kernels/register_tile.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/simd/pack.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Some columns of neighbouring rows: strips of `height` rows one after another, each by columns. So a strip, from any column on, is packed
/// as the right operand of register tiles.
template <compute_scalar Scalar>
struct row_strips {
    static constexpr index_t height = kernels::register_tile<Scalar, simd::default_arch>::cols;

    Scalar* data;
    index_t columns;

    /// Column k of strip s: `height` numbers.
    [[nodiscard]] Scalar* column(index_t s, index_t k) const noexcept { return data + (s * columns + k) * height; }

    /// The first `rows` rows of a strip.
    [[nodiscard]] auto strip(index_t s, index_t rows) const {
        using matrix = const Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor>;
        return Eigen::Map<matrix, Eigen::Unaligned, Eigen::OuterStride<>>(column(s, 0), rows, columns, Eigen::OuterStride<>(height));
    }
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
