// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <magr/config.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/matrix/scalar.hpp>

namespace magr {

/// A quantized weight matrix: integer codes and the grids that give them meaning.
///
/// The weight (i, j) is `scales(i, g) * (codes(i, j) - zeros(i, g))` with g = `group_of_column[j]`. Columns are in the order of the matrix
/// that was quantized, whatever order they were processed in.
///
/// @tparam Scalar type of scales and of the dequantized weights
template <compute_scalar Scalar>
struct quantized_matrix {
    int bits = 0;                          ///< codes lie in 0..2^bits - 1
    index_t group_size = 0;                ///< columns per group; the last group may have fewer
    matrix<std::uint8_t> codes;            ///< rows x cols
    matrix<Scalar> scales;                 ///< rows x groups, > 0
    matrix<Scalar> zeros;                  ///< rows x groups, integers in 0..2^bits - 1
    std::vector<index_t> group_of_column;  ///< cols; j / group_size unless groups were formed in another column order

    [[nodiscard]] index_t rows() const noexcept { return codes.rows(); }
    [[nodiscard]] index_t cols() const noexcept { return codes.cols(); }

    /// The weights that the codes stand for, rows x cols.
    /// @par Numerics  code - zero is exact, so each weight carries one rounding
    /// @par Cost      O(rows * cols), allocates the result
    [[nodiscard]] MAGR_ALWAYS_INLINE matrix<Scalar> dequantize() const;
};

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar Scalar>
[[nodiscard]] matrix<Scalar> dequantize(const quantized_matrix<Scalar>& q) {
    matrix<Scalar> weights(q.rows(), q.cols());
    for (index_t i = 0; i < q.rows(); ++i)
        for (index_t j = 0; j < q.cols(); ++j) {
            const index_t group = q.group_of_column[static_cast<std::size_t>(j)];
            weights(i, j) = q.scales(i, group) * (static_cast<Scalar>(q.codes(i, j)) - q.zeros(i, group));
        }
    return weights;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

// inlined into every caller, so that this type, which may cross translation units, leaves no symbol that depends on the instruction set
template <compute_scalar Scalar>
MAGR_ALWAYS_INLINE matrix<Scalar> quantized_matrix<Scalar>::dequantize() const {
    return detail::dequantize(*this);
}

}  // namespace magr
