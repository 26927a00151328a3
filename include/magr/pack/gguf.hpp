// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <magr/matrix/matrix.hpp>
#include <magr/pack/format.hpp>
#include <magr/pack/gguf_block.hpp>
#include <magr/pack/packing.hpp>
#include <magr/pack/stored_matrix.hpp>
#include <magr/quantize/quantized_matrix.hpp>

namespace magr {

/// A quantized matrix as the bytes of a tensor in a GGUF file, whose dimensions there are {cols, rows}.
struct gguf_tensor {
    ggml_type type = ggml_type::q4_0;
    index_t rows = 0;
    index_t cols = 0;
    std::vector<std::uint8_t> data;  ///< blocks, row after row

    friend bool operator==(const gguf_tensor&, const gguf_tensor&) = default;
};

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

inline void write_half(float value, std::uint8_t* bytes) noexcept {
    const std::uint16_t bits = half_bits_of(value);
    bytes[0] = static_cast<std::uint8_t>(bits);
    bytes[1] = static_cast<std::uint8_t>(bits >> 8);
}

[[nodiscard]] inline float read_half(const std::uint8_t* bytes) noexcept {
    return half_value_of(static_cast<std::uint16_t>(bytes[0] | bytes[1] << 8));
}

/// Refuses the number of a type that is not here.
inline void require_known(const char* function, ggml_type type) {
    require_option(layout_of(type).weights > 0, function, "type", "an enumerator of ggml_type", static_cast<std::uint32_t>(type));
}

/// offset = -dmin m, with the sign of a zero always the same
template <compute_scalar Scalar>
[[nodiscard]] Scalar shared_offset(Scalar dmin, std::uint8_t code) noexcept {
    return Scalar(0) - dmin * static_cast<Scalar>(code);
}

/// Refuses grids that are not the products of shared scales that they should be.
template <compute_scalar Scalar>
void require_shared(const char* function, const weight_grids<Scalar>& grids, const k_quant& kind) {
    const auto& shared = grids.shared;
    const index_t rows = grids.rows(), groups = grids.scales.cols(), blocks = groups / kind.groups();
    if (shared.groups != kind.groups())
        raise<value_error>(concat(function, ": grids.shared.groups must be ", kind.groups(), ", it is ", shared.groups,
                                  "; quantize onto the grids of fit_k_quant_grids"));
    require_shape(function, "grids.shared.scales", shared.scales.view(), rows, blocks);
    require_shape(function, "grids.shared.scale_codes", shared.scale_codes.view(), rows, groups);
    if (kind.has_offsets()) {
        require_shape(function, "grids.shared.offsets", shared.offsets.view(), rows, blocks);
        require_shape(function, "grids.shared.offset_codes", shared.offset_codes.view(), rows, groups);
    }
    require_stored_exactly(function, "shared scale", shared.scales, storage_type::f16);
    require_stored_exactly(function, "shared offset", shared.offsets, storage_type::f16);
    for (index_t i = 0; i < rows; ++i)
        for (index_t g = 0; g < groups; ++g) {
            const auto require = [&](bool holds, const char* what, const auto& allowed, const auto& actual) {
                if (!holds)
                    raise<value_error>(concat(function, ": ", what, " (row ", i, ", group ", g, ") must be ", allowed, ", it is ", actual));
            };
            const int code = shared.scale_codes(i, g);
            require(code >= 1 && code <= kind.largest_scale, "scale code", concat("in 1..", kind.largest_scale), code);
            const Scalar scale = shared.scales(i, g / kind.groups()) * static_cast<Scalar>(code);
            require(grids.scales(i, g) == scale, "scale", concat("shared scale * scale code, ", scale), grids.scales(i, g));
            if (!kind.has_offsets()) continue;
            const std::uint8_t offset_code = shared.offset_codes(i, g);
            require(offset_code <= kind.largest_offset, "offset code", concat("in 0..", kind.largest_offset), int{offset_code});
            const Scalar offset = shared_offset(shared.offsets(i, g / kind.groups()), offset_code);
            require(grids.zeros(i, g) == offset, "offset", concat("-shared offset * offset code, ", offset), grids.zeros(i, g));
        }
}

/// Refuses what the numbers of a block cannot hold.
template <compute_scalar Scalar>
void require_block_grids(const char* function, ggml_type type, const quantized_matrix<Scalar>& q) {
    if (const k_quant kind = k_quant_of(type); kind.bits != 0) return require_shared(function, q, kind);
    require_stored_exactly(function, "scale", q.scales, storage_type::f16);
    if (q.zero_point == zero_point::offset) require_stored_exactly(function, "offset", q.zeros, storage_type::f16);
    if (type != ggml_type::q2_0) return;
    for (index_t i = 0; i < q.rows(); ++i)
        for (index_t g = 0; g < q.zeros.cols(); ++g)
            if (q.zeros(i, g) != 1 && q.zeros(i, g) != 2)
                raise<value_error>(concat(function, ": zero point (row ", i, ", group ", g, ") must be 1 or 2, it is ", q.zeros(i, g)));
}

/// Writes a block; its columns begin with `first` of row i.
template <compute_scalar Scalar>
void write_block(const quantized_matrix<Scalar>& q, ggml_type type, const block_layout& layout, index_t i, index_t first, std::uint8_t* block) {
    const index_t g = first / q.group_size;
    const std::uint8_t* codes = q.codes.data() + i * q.cols() + first;
    std::uint8_t changed[64];
    if (const k_quant kind = k_quant_of(type); kind.bits != 0) {
        const auto& shared = q.shared;
        write_half(static_cast<float>(shared.scales(i, first / 256)), block + layout.scale_at);
        if (kind.has_offsets()) write_half(static_cast<float>(shared.offsets(i, first / 256)), block + layout.offset_at);
        for (index_t k = 0; k < kind.groups(); ++k) {
            changed[k] = static_cast<std::uint8_t>(shared.scale_codes(i, g + k) + kind.scale_bias);
            if (kind.has_offsets()) changed[kind.groups() + k] = shared.offset_codes(i, g + k);
        }
        write_fields(layout.scales, changed, block);
    } else {
        auto scale = static_cast<float>(q.scales(i, g));
        if (layout.offset_at >= 0) write_half(static_cast<float>(q.zeros(i, g)), block + layout.offset_at);
        if (type == ggml_type::q8_0) {  // signed
            for (index_t k = 0; k < 32; ++k) changed[k] = codes[k] ^ 0x80;
            codes = changed;
        } else if (type == ggml_type::q2_0 && q.zeros(i, g) == 2) {  // s (c - 2) = -s ((3 - c) - 1)
            for (index_t k = 0; k < 64; ++k) changed[k] = static_cast<std::uint8_t>(3 - codes[k]);
            codes = changed;
            scale = -scale;
        }
        write_half(scale, block + layout.scale_at);
    }
    write_fields(layout.codes, codes, block);
}

/// Reads a block into codes that are 0.
inline void read_block(const std::uint8_t* block, ggml_type type, const block_layout& layout, index_t i, index_t first, quantized_matrix<float>& q) {
    const index_t g = first / q.group_size;
    std::uint8_t* const codes = q.codes.data() + i * q.cols() + first;
    float scale = read_half(block + layout.scale_at);
    const float offset = layout.offset_at >= 0 ? read_half(block + layout.offset_at) : 0;
    if (!std::isfinite(scale) || !std::isfinite(offset))
        raise<value_error>(concat("unpack_gguf: scale and offset (row ", i, ", block ", first / layout.weights, ") must be finite, they are ", scale,
                                  " and ", offset));
    read_fields(layout.codes, block, codes);
    if (const k_quant kind = k_quant_of(type); kind.bits != 0) {
        auto& shared = q.shared;
        std::uint8_t pair[32] = {};
        read_fields(layout.scales, block, pair);
        shared.scales(i, first / 256) = scale;
        if (kind.has_offsets()) shared.offsets(i, first / 256) = offset;
        for (index_t k = 0; k < kind.groups(); ++k) {
            // as a signed byte: the scale codes of q6_k are
            const auto code = static_cast<std::int8_t>(pair[k] - kind.scale_bias);
            shared.scale_codes(i, g + k) = code;
            q.scales(i, g + k) = scale * static_cast<float>(code);
            if (!kind.has_offsets()) continue;
            shared.offset_codes(i, g + k) = pair[kind.groups() + k];
            q.zeros(i, g + k) = shared_offset(offset, pair[kind.groups() + k]);
        }
        return;
    }
    if (layout.offset_at >= 0) q.zeros(i, g) = offset;
    if (type == ggml_type::q8_0)
        for (index_t k = 0; k < 32; ++k) codes[k] ^= 0x80;
    if (type == ggml_type::q2_0) {
        q.zeros(i, g) = 1;
        if (scale < 0) {
            for (index_t k = 0; k < 64; ++k) codes[k] = static_cast<std::uint8_t>(3 - codes[k]);
            q.zeros(i, g) = 2;
            scale = -scale;
        }
    }
    q.scales(i, g) = scale;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// Packs a quantized matrix into blocks of ggml, as GGUF files hold them.
///
///   q4_0, q5_0, q8_0   zero_point none, f16 scales, groups of a multiple of 32 columns
///   q4_1, q5_1         zero_point offset, f16 scales and offsets, groups of a multiple of 32 columns
///   q2_0               zero_point none, or integer with zero points 1 and 2; f16 scales, groups of a multiple of 64 columns
///   q2_k .. q6_k       on the grids of `fit_k_quant_grids`
///
/// @par Shapes    q: rows x cols, cols a multiple of the block, 32, 64 or 256; a group longer than a block has its scale written several
///                times
/// @pre           consecutive groups
/// @par Cost      O(rows * cols)
/// @par Errors    shape_error, option_error; value_error for a code or grid that is none, groups out of order, a scale or offset that is not an
///                f16 number, or grids that are not products of shared scales. Each names where
/// @par Source    ggml `src/ggml-common.h` and `src/ggml-quants.c`
template <compute_scalar Scalar>
[[nodiscard]] gguf_tensor pack_gguf(const quantized_matrix<Scalar>& q, ggml_type type) {
    detail::require_known("pack_gguf", type);
    detail::require_packable("pack_gguf", detail::format_of(type), q);
    detail::require_block_grids("pack_gguf", type, q);
    const detail::block_layout layout = detail::layout_of(type);
    gguf_tensor packed{type, q.rows(), q.cols(), {}};
    packed.data.resize(static_cast<std::size_t>(q.rows() * (q.cols() / layout.weights) * layout.bytes));
    std::uint8_t* block = packed.data.data();
    for (index_t i = 0; i < q.rows(); ++i)
        for (index_t first = 0; first < q.cols(); first += layout.weights, block += layout.bytes)
            detail::write_block(q, type, layout, i, first, block);
    return packed;
}

/// The inverse of `pack_gguf`, with one group per block where a block has one scale.
///
/// Scales that other programs wrote may be 0 or negative; they are returned as they are, and the weights are right all the same.
///
/// @par Errors    shape_error; value_error for a number that is not finite
[[nodiscard]] inline quantized_matrix<float> unpack_gguf(const gguf_tensor& packed) {
    constexpr const char* function = "unpack_gguf";
    const index_t rows = packed.rows, cols = packed.cols;
    const detail::block_layout layout = detail::layout_of(packed.type);
    detail::require_known(function, packed.type);
    const grid_options options = grid_options_for(detail::format_of(packed.type));
    const index_t groups = detail::require_unpackable(function, detail::format_of(packed.type), rows, cols, options);
    const auto size = static_cast<index_t>(packed.data.size()), row_size = cols / layout.weights * layout.bytes;
    if (size % row_size != 0 || size / row_size != rows)
        detail::raise<shape_error>(detail::concat(function, ": data must have ", rows, " rows of ", row_size, " bytes, it has ", size, " bytes"));

    quantized_matrix<float> q{detail::make_weight_grids<float>(rows, cols, options), matrix<std::uint8_t>(rows, cols)};
    if (const detail::k_quant kind = detail::k_quant_of(packed.type); kind.bits != 0) {
        const index_t blocks = cols / layout.weights;
        q.shared = {kind.groups(), matrix<float>(rows, blocks), {}, matrix<std::int8_t>(rows, groups), {}};
        if (kind.has_offsets()) {
            q.shared.offsets = matrix<float>(rows, blocks);
            q.shared.offset_codes = matrix<std::uint8_t>(rows, groups);
        }
    }
    if (q.zero_point == zero_point::none) q.zeros = detail::middle_zeros(rows, groups, q.bits);
    const std::uint8_t* block = packed.data.data();
    for (index_t i = 0; i < rows; ++i)
        for (index_t first = 0; first < cols; first += layout.weights, block += layout.bytes)
            detail::read_block(block, packed.type, layout, i, first, q);
    if (packed.type == ggml_type::q2_0) q.zero_point = zero_point::integer;  // 1 or 2
    return q;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
