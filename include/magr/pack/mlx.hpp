// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include <magr/grid/quantized_matrix.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/pack/format.hpp>
#include <magr/pack/stored_matrix.hpp>

namespace magr {

/// The tensors of a linear layer quantized in MLX's affine mode, with N outputs and K inputs, under their names there. w = scale c + bias.
struct mlx_tensors {
    int bits = 0;                  ///< `bits` in the configuration
    index_t group_size = 0;        ///< `group_size` there
    matrix<std::uint32_t> weight;  ///< N x K bits / 32: codes, packed along K without gaps
    stored_matrix scales;          ///< N x groups
    stored_matrix biases;          ///< N x groups, in the type of the scales: the weight of code 0

    friend bool operator==(const mlx_tensors&, const mlx_tensors&) = default;
};

inline namespace MAGR_ISA_NAMESPACE {

/// Packs a quantized matrix as MLX's affine mode does.
///
/// Scales and biases are stored in the type of `grid_options::storage`, f32 if it was native. An offset is the bias. Zero points that are
/// codes become the bias -scale * zero where that is exact in the storage type: always without zero points (short of overflow), seldom
/// otherwise.
///
/// @par Shapes    q: N x K, K a multiple of the group size
/// @pre           2, 3, 4, 5, 6 or 8 bits; zero_point offset, none or integer; consecutive groups of 32, 64 or 128
/// @par Cost      O(N K)
/// @par Errors    shape_error, option_error; value_error for an invalid code or grid, groups out of order, or a scale or bias that is not
///                a number of that type. Each says where
/// @par Source    mlx `python/src/ops.cpp`, `quantize`
template <compute_scalar Scalar>
[[nodiscard]] mlx_tensors pack_mlx(const quantized_matrix<Scalar>& q);

/// The inverse of `pack_mlx`, with zero_point offset.
///
/// @par Errors    shape_error, option_error; value_error for an invalid scale or bias, such as MLX's own negative scales
[[nodiscard]] MAGR_CORE quantized_matrix<float> unpack_mlx(const mlx_tensors& packed);

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/pack/mlx_impl.hpp>
#endif
