// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <magr/config.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/quantize/code_map.hpp>
#include <magr/quantize/weight_grids.hpp>

namespace magr {

/// A quantized weight matrix: integer codes and the grids that give them meaning.
///
/// Columns are in the order of the matrix that was quantized, whatever order they were processed in.
///
/// @tparam Scalar type of scales and of the dequantized weights
template <compute_scalar Scalar>
struct quantized_matrix : weight_grids<Scalar> {
    matrix<std::uint8_t> codes;  ///< rows x cols

    /// The weights that the codes stand for, rows x cols.
    /// @par Numerics  with integer zero points code - zero is exact, so each weight carries one rounding; otherwise two
    /// @par Cost      O(rows * cols), allocates the result
    [[nodiscard]] MAGR_ALWAYS_INLINE matrix<Scalar> dequantize() const;
};

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar Scalar>
[[nodiscard]] matrix<Scalar> dequantize(const quantized_matrix<Scalar>& q) {
    matrix<Scalar> weights(q.codes.rows(), q.codes.cols());
    with_code_map(q, [&](const auto& map_of) {
        for (index_t i = 0; i < q.codes.rows(); ++i)
            for (index_t j = 0; j < q.codes.cols(); ++j) {
                const index_t group = q.group_of_column[static_cast<std::size_t>(j)];
                const auto map = map_of(q.scales(i, group), q.zeros(i, group));
                weights(i, j) = weight_of_code(map, static_cast<Scalar>(q.codes(i, j)));
            }
    });
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
