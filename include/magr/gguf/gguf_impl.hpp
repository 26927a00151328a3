// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <magr/detail/finite.hpp>
#include <magr/gguf/gguf.hpp>
#include <magr/gguf/gguf_block.hpp>
#include <magr/grid/grid_weights.hpp>
#include <magr/grid/quantized_matrix.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/pack/format_rules.hpp>
#include <magr/pack/packing.hpp>
#include <magr/pack/stored_numbers.hpp>

namespace magr {
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

/// Refuses an unknown type.
inline void require_known(const char* function, ggml_type type) {
    require_option(layout_of(type).weights > 0, function, "type", "an enumerator of ggml_type", static_cast<std::uint32_t>(type));
}

/// Refuses grids that are inconsistent with their shared scales.
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
            const auto refuse_group = [&](const char* what, const auto&... problem) {
                raise<value_error>(concat(function, ": ", what, " (row ", i, ", group ", g, ") must be ", problem...));
            };
            const int code = shared.scale_codes(i, g);
            if (code < 1 || code > kind.largest_scale) refuse_group("scale code", "in 1..", kind.largest_scale, ", it is ", code);
            const Scalar scale = shared.scales(i, g / kind.groups()) * static_cast<Scalar>(code);
            if (grids.scales(i, g) != scale) refuse_group("scale", "shared scale * scale code, ", scale, ", it is ", grids.scales(i, g));
            if (!kind.has_offsets()) continue;
            const std::uint8_t offset_code = shared.offset_codes(i, g);
            if (offset_code > kind.largest_offset) refuse_group("offset code", "in 0..", kind.largest_offset, ", it is ", int{offset_code});
            const Scalar offset = shared_offset(shared.offsets(i, g / kind.groups()), offset_code);
            if (grids.zeros(i, g) != offset)
                refuse_group("offset", "-shared offset * offset code, ", offset, ", it is ", grids.zeros(i, g));
        }
}

/// Refuses grids that a block cannot hold.
template <compute_scalar Scalar>
void require_block_grids(const char* function, ggml_type type, const quantized_matrix<Scalar>& q) {
    if (const k_quant kind = k_quant_of(type); kind.bits != 0) {
        require_shared(function, q, kind);
    } else {
        require_stored_exactly(function, "scale", q.scales, storage_type::f16);
        if (q.zero_point == zero_point::offset) require_stored_exactly(function, "offset", q.zeros, storage_type::f16);
    }
    if (q.zero_point == zero_point::offset) return;
    const int zero = zero_code_of(type, q.bits), mirrored = largest_code(q.bits) - zero;
    for (index_t i = 0; i < q.rows(); ++i)
        for (index_t g = 0; g < q.zeros.cols(); ++g)
            if (q.zeros(i, g) != static_cast<Scalar>(zero) && q.zeros(i, g) != static_cast<Scalar>(mirrored))
                raise<value_error>(concat(function, ": zero point (row ", i, ", group ", g, ") must be ", (std::min)(zero, mirrored),
                                          " or ", (std::max)(zero, mirrored), ", it is ", q.zeros(i, g)));
}

/// Codes for the opposite scale: s (c - z) = -s ((L - c) - (L - z)).
inline void mirror(std::uint8_t* codes, index_t count, int bits) noexcept {
    for (index_t k = 0; k < count; ++k) codes[k] = static_cast<std::uint8_t>(largest_code(bits) - codes[k]);
}

/// Writes the block of row i that begins with column `first`. A type has one zero point; a negative scale stands for the other middle
/// code.
template <compute_scalar Scalar>
void write_block(const quantized_matrix<Scalar>& q, ggml_type type, const block_layout& layout, index_t i, index_t first,
                 std::uint8_t* block) {
    const index_t g = first / q.group_size;
    const auto zero = static_cast<Scalar>(zero_code_of(type, q.bits));
    const auto is_mirrored = [&](index_t group) { return q.zero_point != zero_point::offset && q.zeros(i, group) != zero; };
    std::array<std::uint8_t, 256> codes;
    std::copy_n(q.codes.data() + i * q.cols() + first, layout.weights, codes.begin());
    if (const k_quant kind = k_quant_of(type); kind.bits != 0) {
        std::array<std::uint8_t, 32> pairs;
        for (index_t k = 0; k < kind.groups(); ++k) {
            const auto at = static_cast<std::size_t>(k);
            const int code = q.shared.scale_codes(i, g + k);
            pairs[at] = static_cast<std::uint8_t>((is_mirrored(g + k) ? -code : code) + kind.scale_bias);
            if (is_mirrored(g + k)) mirror(codes.data() + k * kind.group_size, kind.group_size, q.bits);
            if (kind.has_offsets()) pairs[at + static_cast<std::size_t>(kind.groups())] = q.shared.offset_codes(i, g + k);
        }
        write_fields(layout.scales, pairs.data(), block);
        write_half(static_cast<float>(q.shared.scales(i, first / 256)), block + layout.scale_at);
        if (kind.has_offsets()) write_half(static_cast<float>(q.shared.offsets(i, first / 256)), block + layout.offset_at);
    } else {
        const auto scale = static_cast<float>(q.scales(i, g));
        if (is_mirrored(g)) mirror(codes.data(), layout.weights, q.bits);
        if (type == ggml_type::q8_0)  // signed
            for (std::uint8_t& code : codes) code ^= 0x80;
        write_half(is_mirrored(g) ? -scale : scale, block + layout.scale_at);
        if (layout.offset_at >= 0) write_half(static_cast<float>(q.zeros(i, g)), block + layout.offset_at);
    }
    write_fields(layout.codes, codes.data(), block);
}

/// Reads a block. Its codes in q must be 0 before.
inline void read_block(const std::uint8_t* block, ggml_type type, const block_layout& layout, index_t i, index_t first,
                       quantized_matrix<float>& q) {
    const index_t g = first / q.group_size;
    std::uint8_t* const codes = q.codes.data() + i * q.cols() + first;
    const float scale = read_half(block + layout.scale_at);
    const float offset = layout.offset_at >= 0 ? read_half(block + layout.offset_at) : 0;
    if (!is_finite(scale) || !is_finite(offset))
        raise<value_error>(concat("unpack_gguf: scale and offset (row ", i, ", block ", first / layout.weights,
                                  ") must be finite, they are ", scale, " and ", offset));
    read_fields(layout.codes, block, codes);
    if (type == ggml_type::q8_0)
        for (index_t k = 0; k < layout.weights; ++k) codes[k] ^= 0x80;

    const bool can_mirror = q.zero_point != zero_point::offset;
    const auto zero = static_cast<float>(zero_code_of(type, q.bits));
    const auto set_zero = [&](index_t group, index_t first_code, bool mirrored) {
        if (mirrored) mirror(codes + first_code, q.group_size, q.bits);
        q.zeros(i, group) = mirrored ? static_cast<float>(largest_code(q.bits)) - zero : zero;
    };
    const float sign = can_mirror && scale < 0 ? -1.0F : 1.0F;
    const k_quant kind = k_quant_of(type);
    if (kind.bits == 0) {
        q.scales(i, g) = sign * scale;
        if (can_mirror)
            set_zero(g, 0, sign < 0);
        else
            q.zeros(i, g) = offset;
        return;
    }
    auto& shared = q.shared;
    std::array<std::uint8_t, 32> pairs = {};
    read_fields(layout.scales, block, pairs.data());
    shared.scales(i, first / 256) = sign * scale;
    if (kind.has_offsets()) shared.offsets(i, first / 256) = offset;
    for (index_t k = 0; k < kind.groups(); ++k) {
        const auto at = static_cast<std::size_t>(k);
        // through a signed byte, which is what the scale codes of q6_k are
        int code = static_cast<std::int8_t>(pairs[at] - kind.scale_bias) * static_cast<int>(sign);
        if (can_mirror) {
            const bool mirrored = code < 0 && code > -128;  // the opposite of -128 does not fit a signed byte
            if (mirrored) code = -code;
            set_zero(g + k, k * kind.group_size, mirrored);
        } else {
            shared.offset_codes(i, g + k) = pairs[at + static_cast<std::size_t>(kind.groups())];
            q.zeros(i, g + k) = shared_offset(offset, shared.offset_codes(i, g + k));
        }
        shared.scale_codes(i, g + k) = static_cast<std::int8_t>(code);
        q.scales(i, g + k) = shared.scales(i, first / 256) * static_cast<float>(code);
    }
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar Scalar>
gguf_tensor pack_gguf(const quantized_matrix<Scalar>& q, ggml_type type) {
    detail::require_known("pack_gguf", type);
    detail::require_packable("pack_gguf", format_of(type), q);
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

MAGR_CORE quantized_matrix<float> unpack_gguf(const gguf_tensor& packed) {
    constexpr const char* function = "unpack_gguf";
    const index_t rows = packed.rows, cols = packed.cols;
    const detail::block_layout layout = detail::layout_of(packed.type);
    detail::require_known(function, packed.type);
    const grid_options options = grid_options_for(format_of(packed.type));
    const index_t groups = detail::require_unpackable(function, format_of(packed.type), rows, cols, options);
    const auto size = static_cast<index_t>(packed.data.size()), row_size = cols / layout.weights * layout.bytes;
    if (size % row_size != 0 || size / row_size != rows)
        detail::raise<shape_error>(
            detail::concat(function, ": data must have ", rows, " rows of ", row_size, " bytes, it has ", size, " bytes"));

    quantized_matrix<float> q{detail::make_weight_grids<float>(rows, cols, options), matrix<std::uint8_t>(rows, cols)};
    if (const detail::k_quant kind = detail::k_quant_of(packed.type); kind.bits != 0) {
        const index_t blocks = cols / layout.weights;
        q.shared = {kind.groups(), matrix<float>(rows, blocks), {}, matrix<std::int8_t>(rows, groups), {}};
        if (kind.has_offsets()) {
            q.shared.offsets = matrix<float>(rows, blocks);
            q.shared.offset_codes = matrix<std::uint8_t>(rows, groups);
        }
    }
    const std::uint8_t* block = packed.data.data();
    for (index_t i = 0; i < rows; ++i)
        for (index_t first = 0; first < cols; first += layout.weights, block += layout.bytes)
            detail::read_block(block, packed.type, layout, i, first, q);
    return q;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
