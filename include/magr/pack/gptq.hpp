// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include <magr/matrix/matrix.hpp>
#include <magr/pack/format.hpp>
#include <magr/pack/packing.hpp>
#include <magr/pack/stored_matrix.hpp>
#include <magr/quantize/quantized_matrix.hpp>

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

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

[[nodiscard]] constexpr packed_format format_of(gptq_version version) noexcept {
    return version == gptq_version::v1 ? packed_format::gptq_v1 : packed_format::gptq_v2;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

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
[[nodiscard]] gptq_tensors pack_gptq(const quantized_matrix<Scalar>& q, gptq_version version) {
    detail::require_enumerator("pack_gptq", "version", version);
    detail::require_packable("pack_gptq", detail::format_of(version), q, detail::group_order::any);
    detail::require_stored_exactly("pack_gptq", "scale", q.scales, storage_type::f16);
    matrix<std::uint8_t> zeros = detail::to_codes(q.zeros);
    if (version == gptq_version::v1)
        for (index_t i = 0; i < zeros.rows(); ++i)
            for (index_t g = 0; g < zeros.cols(); ++g) {
                if (zeros(i, g) == 0)
                    detail::raise<value_error>(detail::concat("pack_gptq: zero point (row ", i, ", group ", g,
                                                              ") must be at least 1 in version v1, which stores it less one, it is 0; "
                                                              "use gptq_version::v2 or zero_point::none"));
                --zeros(i, g);
            }
    return {version,
            q.bits,
            q.group_size,
            detail::transposed(detail::pack_rows<std::int32_t>(q.codes, q.bits)),
            detail::pack_rows<std::int32_t>(detail::transposed(zeros), q.bits),
            detail::transposed(detail::half_bits(q.scales)),
            detail::to_group_index(q.group_of_column)};
}

/// The inverse of `pack_gptq`.
///
/// @return        with zero_point integer, which means the same as none with the middle code
/// @par Errors    shape_error, option_error; value_error for an invalid group index, scale or zero point
[[nodiscard]] inline quantized_matrix<float> unpack_gptq(const gptq_tensors& packed) {
    constexpr const char* function = "unpack_gptq";
    detail::require_enumerator(function, "version", packed.version);
    const auto cols = static_cast<index_t>(packed.g_idx.size());
    const index_t rows = packed.scales.cols();
    const grid_options options{.bits = packed.bits, .group_size = packed.group_size, .storage = storage_type::f16};
    const index_t groups = detail::require_unpackable(function, detail::format_of(packed.version), rows, cols, options);
    detail::require_shape(function, "qweight", packed.qweight.view(), cols * packed.bits / 32, rows);
    detail::require_shape(function, "qzeros", packed.qzeros.view(), groups, rows * packed.bits / 32);
    detail::require_shape(function, "scales", packed.scales.view(), groups, rows);

    matrix<float> zeros = detail::to_numbers(detail::transposed(detail::unpack_rows(packed.qzeros, packed.bits, rows)));
    if (packed.version == gptq_version::v1)
        for (index_t i = 0; i < rows; ++i)
            for (index_t g = 0; g < groups; ++g) ++zeros(i, g);
    return detail::finish_unpacked(function, options, detail::unpack_rows(detail::transposed(packed.qweight), packed.bits, cols),
                                   detail::half_values(detail::transposed(packed.scales)), std::move(zeros), packed.g_idx);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
