// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include <magr/grid/quantized_matrix.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/pack/format.hpp>
#include <magr/pack/stored_matrix.hpp>

namespace magr {

/// The tensors of a linear layer in a compressed-tensors checkpoint (format "pack-quantized"), with N outputs and K inputs, under their
/// names there.
struct compressed_tensors_weight {
    int bits = 0;                                   ///< `num_bits` in the configuration
    index_t group_size = 0;                         ///< `group_size` there; K stands for the strategy "channel"
    matrix<std::int32_t> weight_packed;             ///< N x ceil(K bits / 32): codes, packed along K without gaps
    stored_matrix weight_scale;                     ///< N x groups
    matrix<std::int32_t> weight_zero_point;         ///< ceil(N bits / 32) x groups: zero points, packed along N; 0 x 0 if `symmetric`
    std::array<std::int64_t, 2> weight_shape = {};  ///< N, K
    std::vector<std::int32_t> weight_g_idx;         ///< the group of each input; empty if groups are of neighbouring inputs

    friend bool operator==(const compressed_tensors_weight&, const compressed_tensors_weight&) = default;
};

inline namespace MAGR_ISA_NAMESPACE {

/// Packs a quantized matrix as compressed-tensors does since version 0.18.
///
/// 2, 4 and 8 bits are the same bytes in all versions; before 0.18, codes of the other widths did not cross words. Scales are stored in
/// the type of `grid_options::storage`, f32 if it was native.
///
/// @par Shapes    q: N x K, K a multiple of the group size
/// @pre           zero_point none or integer
/// @par Cost      O(N K)
/// @par Errors    shape_error, option_error; value_error for an invalid code or grid, or a scale that is not a number of that type. Each
///                says where
/// @par Source    vllm-project/compressed-tensors, `compressors/pack_quantized`. Codes are its signed integers plus 2^(bits-1)
template <compute_scalar Scalar>
[[nodiscard]] compressed_tensors_weight pack_compressed_tensors(const quantized_matrix<Scalar>& q);

/// The inverse of `pack_compressed_tensors`.
///
/// @par Errors    shape_error, option_error; value_error for an invalid group index or scale
[[nodiscard]] MAGR_CORE quantized_matrix<float> unpack_compressed_tensors(const compressed_tensors_weight& packed);

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/pack/compressed_tensors_impl.hpp>
#endif
