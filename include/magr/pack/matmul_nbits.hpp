// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include <magr/grid/quantized_matrix.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/pack/format.hpp>
#include <magr/pack/stored_matrix.hpp>

namespace magr {

/// Attributes and inputs of the ONNX operator com.microsoft::MatMulNBits, under their names there.
struct matmul_nbits_tensors {
    int bits = 0;
    index_t N = 0;
    index_t K = 0;
    index_t block_size = 0;
    matrix<std::uint8_t> B;            ///< N x blocks * (block_size bits / 8): codes along K without gaps, 0 after the last
    stored_matrix scales;              ///< N x blocks
    matrix<std::uint8_t> zero_points;  ///< N x ceil(blocks bits / 8): integer zero points, packed along K; else 0 x 0
    stored_matrix real_zero_points;    ///< N x blocks in the type of the scales: the same input if zero points are real; else 0 x 0

    friend bool operator==(const matmul_nbits_tensors&, const matmul_nbits_tensors&) = default;
};

inline namespace MAGR_ISA_NAMESPACE {

/// Packs a quantized matrix as the ONNX operator com.microsoft::MatMulNBits takes it.
///
/// Scales, and real zero points, are stored in the type of `grid_options::storage`, f32 if it was native. Without zero points there is no
/// such input. A single group per row becomes one block of the next power of 2.
///
/// @par Shapes    q: N x K
/// @pre           2, 4 or 8 bits; zero_point none, integer or real; consecutive groups of 16, 32, 64, 128 or 256, or a whole row of at
///                most 256
/// @par Cost      O(N K)
/// @par Errors    shape_error, option_error; value_error for an invalid code or grid, groups out of order, or a scale or real zero point
///                that is not a number of that type. Each says where
/// @par Source    ContribOperators.md of ONNX Runtime. Not every kernel takes every combination: that of version 1.31 for CPUs
///                takes real zero points with 2 and 4 bits
template <compute_scalar Scalar>
[[nodiscard]] matmul_nbits_tensors pack_matmul_nbits(const quantized_matrix<Scalar>& q);

/// The inverse of `pack_matmul_nbits`.
///
/// @par Errors    shape_error, option_error; value_error for an invalid scale or zero point
[[nodiscard]] MAGR_CORE quantized_matrix<float> unpack_matmul_nbits(const matmul_nbits_tensors& packed);

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/pack/matmul_nbits_impl.hpp>
#endif
