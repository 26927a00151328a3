// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include <magr/grid/quantized_matrix.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/pack/format.hpp>

namespace magr {

/// The tensors of a linear layer in an AWQ checkpoint (version "gemm", 4 bits), with N outputs and K inputs, under their names there.
struct awq_tensors {
    index_t group_size = 0;        ///< `group_size` in the configuration
    matrix<std::int32_t> qweight;  ///< K x N / 8: the codes of an input, packed along N in the order 0, 2, 4, 6, 1, 3, 5, 7
    matrix<std::int32_t> qzeros;   ///< groups x N / 8: zero points, packed likewise
    matrix<std::uint16_t> scales;  ///< groups x N, bits of f16

    friend bool operator==(const awq_tensors&, const awq_tensors&) = default;
};

inline namespace MAGR_ISA_NAMESPACE {

/// Packs a quantized matrix in AutoAWQ's GEMM layout. Without zero points, the middle code, 8, is written as the zero point.
///
/// @par Shapes    q: N x K, N a multiple of 8, K a multiple of the group size
/// @pre           4 bits; zero_point none or integer; consecutive groups
/// @par Cost      O(N K), two copies of the codes
/// @par Errors    shape_error, option_error; value_error for an invalid code or grid, groups out of order, or a scale that is not an f16
///                number. Each says where
/// @par Source    AutoAWQ `awq/modules/linear/gemm.py`. The weights of a file need not have been scaled by AWQ
template <compute_scalar Scalar>
[[nodiscard]] awq_tensors pack_awq(const quantized_matrix<Scalar>& q);

/// The inverse of `pack_awq`.
///
/// @return        with zero_point integer, which means the same as none with the middle code
/// @par Errors    shape_error, option_error; value_error for an invalid scale
[[nodiscard]] MAGR_CORE quantized_matrix<float> unpack_awq(const awq_tensors& packed);

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/pack/awq_impl.hpp>
#endif
