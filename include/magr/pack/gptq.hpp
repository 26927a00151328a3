// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <vector>

#include <magr/grid/quantized_matrix.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/pack/format.hpp>

namespace magr {

/// The two ways in which GPTQ checkpoints store zero points: `checkpoint_format` in quantize_config.json.
enum class gptq_version {
    v1,  ///< "gptq": z - 1, so there is no zero point 0
    v2   ///< "gptq_v2": z
};

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(gptq_version version) noexcept {
    switch (version) {
        case gptq_version::v1: return "v1";
        case gptq_version::v2: return "v2";
    }
    return "unknown";
}

/// The tensors of a linear layer in a GPTQ checkpoint, with N outputs and K inputs, under their names there.
struct gptq_tensors {
    gptq_version version = gptq_version::v1;
    int bits = 0;                     ///< `bits` in quantize_config.json
    index_t group_size = 0;           ///< `group_size` there; K stands for -1
    matrix<std::int32_t> qweight;     ///< K bits / 32 x N: the codes of an output, packed along K without gaps
    matrix<std::int32_t> qzeros;      ///< groups x N bits / 32: zero points, packed along N
    matrix<std::uint16_t> scales;     ///< groups x N, bits of f16
    std::vector<std::int32_t> g_idx;  ///< K: the group of each input

    friend bool operator==(const gptq_tensors&, const gptq_tensors&) = default;
};

inline namespace MAGR_ISA_NAMESPACE {

/// Packs a quantized matrix as GPTQ checkpoints do. Without zero points, the middle code is written as the zero point.
///
/// @par Shapes    q: N x K, both multiples of 32; any groups, also those of `act_order` and a shorter last one
/// @pre           2, 3, 4 or 8 bits; zero_point none or integer
/// @par Cost      O(N K), one copy of the packed words
/// @par Errors    shape_error, option_error; value_error for an invalid code or grid, a scale that is not an f16 number, and in v1 a zero
///                point 0. Each says where
/// @par Source    AutoGPTQ `qlinear_cuda.py`; v2 as GPTQModel defines it
template <compute_scalar Scalar>
[[nodiscard]] gptq_tensors pack_gptq(const quantized_matrix<Scalar>& q, gptq_version version);

/// The inverse of `pack_gptq`.
///
/// @return        with zero_point integer, which means the same as none with the middle code
/// @par Errors    shape_error, option_error; value_error for an invalid group index, scale or zero point
[[nodiscard]] MAGR_CORE quantized_matrix<float> unpack_gptq(const gptq_tensors& packed);

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/pack/gptq_impl.hpp>
#endif
