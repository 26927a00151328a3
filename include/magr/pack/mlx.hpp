// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

#include <magr/matrix/matrix.hpp>
#include <magr/pack/format.hpp>
#include <magr/pack/packing.hpp>
#include <magr/pack/stored_matrix.hpp>
#include <magr/quantize/quantized_matrix.hpp>
#include <magr/quantize/storage.hpp>

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
[[nodiscard]] mlx_tensors pack_mlx(const quantized_matrix<Scalar>& q) {
    constexpr const char* function = "pack_mlx";
    detail::require_packable(function, packed_format::mlx, q);
    const storage_type type = detail::type_in_file(q.storage);
    detail::require_stored_exactly(function, "scale", q.scales, type);
    matrix<Scalar> biases = q.zeros;
    if (q.zero_point != zero_point::offset)
        for (index_t i = 0; i < biases.rows(); ++i)
            for (index_t g = 0; g < biases.cols(); ++g) {
                // exact in double: a zero point has at most 8 bits, and a stored scale at most 24
                const double bias = -static_cast<double>(q.scales(i, g)) * static_cast<double>(q.zeros(i, g));
                if (round_to_storage<double>(bias, type) != bias)
                    detail::raise<value_error>(detail::concat(function, ": -scale * zero point (row ", i, ", group ", g,
                                                              ") must be a number of type ", to_string(type), ", it is ", bias,
                                                              "; quantize with zero_point::offset"));
                biases(i, g) = static_cast<Scalar>(bias);
            }
    detail::require_stored_exactly(function, "offset", biases, type);
    return {q.bits, q.group_size, detail::pack_rows<std::uint32_t>(q.codes, q.bits), detail::store_matrix(q.scales, type),
            detail::store_matrix(biases, type)};
}

/// The inverse of `pack_mlx`, with zero_point offset.
///
/// @par Errors    shape_error, option_error; value_error for an invalid scale or bias, such as MLX's own negative scales
[[nodiscard]] inline quantized_matrix<float> unpack_mlx(const mlx_tensors& packed) {
    constexpr const char* function = "unpack_mlx";
    const index_t rows = packed.scales.rows;
    const index_t cols = packed.weight.cols() * 32 / (std::max)(packed.bits, 1);
    const grid_options options{
        .bits = packed.bits, .zero_point = zero_point::offset, .group_size = packed.group_size, .storage = packed.scales.type};
    const index_t groups = detail::require_unpackable(function, packed_format::mlx, rows, cols, options);
    detail::require_shape(function, "weight", packed.weight.view(), rows, detail::packed_words<std::uint32_t>(cols, packed.bits));
    matrix<float> scales = detail::load_matrix(function, "scales", packed.scales, rows, groups);
    matrix<float> biases = detail::load_matrix(function, "biases", packed.biases, rows, groups);
    return detail::finish_unpacked(function, options, detail::unpack_rows(packed.weight, packed.bits, cols), std::move(scales),
                                   std::move(biases));
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
