// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <vector>

#include <magr/gguf/gguf_block.hpp>
#include <magr/grid/quantized_matrix.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/pack/format.hpp>

namespace magr {

/// A quantized matrix as the bytes of a tensor in a GGUF file, whose dimensions there are {cols, rows}.
struct gguf_tensor {
    ggml_type type = ggml_type::q4_0;
    index_t rows = 0;
    index_t cols = 0;
    std::vector<std::uint8_t> data;  ///< blocks, row after row

    friend bool operator==(const gguf_tensor&, const gguf_tensor&) = default;
};

inline namespace MAGR_ISA_NAMESPACE {

/// Packs a quantized matrix into blocks of ggml, as GGUF files hold them.
///
///   q4_0, q5_0, q8_0   zero_point middle or none, or integer with such a code; f16 scales; groups of a multiple of 32 columns
///   q2_0               the same; groups of a multiple of 64 columns
///   q4_1, q5_1         zero_point offset; f16 scales and offsets; groups of a multiple of 32 columns
///   q2_k .. q6_k       on the grids of `fit_k_quant_grids`
///
/// A type without offsets has one zero point. A negative scale stands for the other one of the two middle codes: s (c - 7) is
/// -s ((15 - c) - 8).
///
/// @par Shapes    q: rows x cols, cols a multiple of the block, 32, 64 or 256; a group longer than a block has its scale written several
///                times
/// @pre           consecutive groups
/// @par Cost      O(rows * cols)
/// @par Errors    shape_error, option_error; value_error for an invalid code or grid, groups out of order, a scale or offset that is not
///                an f16 number, or grids that are not products of shared scales. Each says where
/// @par Source    ggml `src/ggml-common.h` and `src/ggml-quants.c`
template <compute_scalar Scalar>
[[nodiscard]] gguf_tensor pack_gguf(const quantized_matrix<Scalar>& q, ggml_type type);

/// The inverse of `pack_gguf`, with one group per block where a block has one scale, and zero_point middle if there are no offsets.
///
/// Other programs may have written scales of 0 (or negative ones beside an offset). They are returned unchanged, and the weights are right
/// nevertheless.
///
/// @par Errors    shape_error; value_error for a number that is not finite
[[nodiscard]] MAGR_CORE quantized_matrix<float> unpack_gguf(const gguf_tensor& packed);

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/gguf/gguf_impl.hpp>
#endif
