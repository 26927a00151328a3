// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <magr/config.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/pack/packed_format.hpp>

namespace magr {

/// Tensor types of GGUF files, with their numbers there.
enum class ggml_type : std::uint32_t {
    q4_0 = 2,
    q4_1 = 3,
    q5_0 = 6,
    q5_1 = 7,
    q8_0 = 8,
    q2_k = 10,
    q3_k = 11,
    q4_k = 12,
    q5_k = 13,
    q6_k = 14,
    q2_0 = 42
};

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(ggml_type type) noexcept {
    switch (type) {
        case ggml_type::q4_0: return "q4_0";
        case ggml_type::q4_1: return "q4_1";
        case ggml_type::q5_0: return "q5_0";
        case ggml_type::q5_1: return "q5_1";
        case ggml_type::q8_0: return "q8_0";
        case ggml_type::q2_k: return "q2_k";
        case ggml_type::q3_k: return "q3_k";
        case ggml_type::q4_k: return "q4_k";
        case ggml_type::q5_k: return "q5_k";
        case ggml_type::q6_k: return "q6_k";
        case ggml_type::q2_0: return "q2_0";
    }
    return "unknown";
}

inline namespace MAGR_ISA_NAMESPACE {

/// The format of a tensor type, for `grid_options_for` and `problems`.
[[nodiscard]] constexpr packed_format format_of(ggml_type type) noexcept {
    switch (type) {
        case ggml_type::q4_0: return packed_format::gguf_q4_0;
        case ggml_type::q4_1: return packed_format::gguf_q4_1;
        case ggml_type::q5_0: return packed_format::gguf_q5_0;
        case ggml_type::q5_1: return packed_format::gguf_q5_1;
        case ggml_type::q8_0: return packed_format::gguf_q8_0;
        case ggml_type::q2_0: return packed_format::gguf_q2_0;
        case ggml_type::q2_k: return packed_format::gguf_q2_k;
        case ggml_type::q3_k: return packed_format::gguf_q3_k;
        case ggml_type::q4_k: return packed_format::gguf_q4_k;
        case ggml_type::q5_k: return packed_format::gguf_q5_k;
        case ggml_type::q6_k: break;
    }
    return packed_format::gguf_q6_k;
}

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Some bits of values `first`, `first + step`, .. in bytes `byte`, `byte + 1`, .. of a block: bits `low` .. `low + width - 1` of the value
/// lie at `shift` of the byte.
struct bit_field {
    index_t first;
    index_t byte;
    index_t count;
    int shift;
    int width;
    int low = 0;
    index_t step = 1;
};

/// Where everything lies in a block.
struct block_layout {
    index_t weights = 0;     ///< in a block
    index_t bytes = 0;       ///< of a block
    index_t scale_at = 0;    ///< byte of the f16 number d
    index_t offset_at = -1;  ///< byte of the f16 number m or dmin; -1 without offsets
    std::vector<bit_field> codes = {};
    std::vector<bit_field> scales = {};  ///< of the groups of a k-quant: first their scale codes, then their offset codes
};

/// The blocks of ggml.
/// @par Source    ggml `src/ggml-common.h` (structs) and `src/ggml-quants.c` (functions dequantize_row_*)
[[nodiscard]] inline block_layout layout_of(ggml_type type) {
    const auto nibbles = [](block_layout& block, index_t at, index_t run) {  // a run of codes low, the next run high
        for (index_t first = 0; first < block.weights; first += 2 * run) {
            block.codes.push_back({first, at + first / 2, run, 0, 4});
            block.codes.push_back({first + run, at + first / 2, run, 4, 4});
        }
    };
    const auto quarters = [](block_layout& block, index_t at, int low) {  // 128 codes in 32 bytes, in four planes
        for (index_t first = 0; first < block.weights; first += 32)
            block.codes.push_back({first, at + first / 128 * 32, 32, static_cast<int>(first % 128 / 32 * 2), 2, low});
    };
    const auto planes = [](block_layout& block, index_t at, int low) {  // the k-th 32 codes in bit k of 32 bytes
        for (index_t first = 0; first < block.weights; first += 32)
            block.codes.push_back({first, at, 32, static_cast<int>(first / 32), 1, low});
    };
    const auto fifth_bits = [](block_layout& block, index_t at) {  // bit k of 4 bytes is that of code k
        for (int k = 0; k < 8; ++k) block.codes.push_back({k, at, 4, k, 1, 4, 8});
    };
    const std::vector<bit_field> six_bit_pairs = {
        // eight scales and eight offsets in 12 bytes: get_scale_min_k4
        {0, 4, 4, 0, 6}, {8, 8, 4, 0, 6}, {4, 12, 4, 0, 4}, {4, 4, 4, 6, 2, 4}, {12, 12, 4, 4, 4}, {12, 8, 4, 6, 2, 4}};
    block_layout block;
    switch (type) {
        case ggml_type::q4_0:
            block = {.weights = 32, .bytes = 18};
            nibbles(block, 2, 16);
            break;
        case ggml_type::q4_1:
            block = {.weights = 32, .bytes = 20, .offset_at = 2};
            nibbles(block, 4, 16);
            break;
        case ggml_type::q5_0:
            block = {.weights = 32, .bytes = 22};
            fifth_bits(block, 2);
            nibbles(block, 6, 16);
            break;
        case ggml_type::q5_1:
            block = {.weights = 32, .bytes = 24, .offset_at = 2};
            fifth_bits(block, 4);
            nibbles(block, 8, 16);
            break;
        case ggml_type::q8_0: block = {.weights = 32, .bytes = 34, .codes = {{0, 2, 32, 0, 8}}}; break;
        case ggml_type::q2_0:
            block = {.weights = 64, .bytes = 18};
            for (int k = 0; k < 4; ++k) block.codes.push_back({k, 2, 16, 2 * k, 2, 0, 4});
            break;
        case ggml_type::q2_k:
            block = {.weights = 256, .bytes = 84, .scale_at = 80, .offset_at = 82, .scales = {{0, 0, 16, 0, 4}, {16, 0, 16, 4, 4}}};
            quarters(block, 16, 0);
            break;
        case ggml_type::q3_k:
            block = {.weights = 256,
                     .bytes = 110,
                     .scale_at = 108,
                     .scales = {{0, 96, 8, 0, 4},
                                {8, 96, 8, 4, 4},
                                {0, 104, 4, 0, 2, 4},
                                {4, 104, 4, 2, 2, 4},
                                {8, 104, 4, 4, 2, 4},
                                {12, 104, 4, 6, 2, 4}}};
            planes(block, 0, 2);
            quarters(block, 32, 0);
            break;
        case ggml_type::q4_k:
            block = {.weights = 256, .bytes = 144, .offset_at = 2, .scales = six_bit_pairs};
            nibbles(block, 16, 32);
            break;
        case ggml_type::q5_k:
            block = {.weights = 256, .bytes = 176, .offset_at = 2, .scales = six_bit_pairs};
            planes(block, 16, 4);
            nibbles(block, 48, 32);
            break;
        case ggml_type::q6_k:
            block = {.weights = 256, .bytes = 210, .scale_at = 208, .scales = {{0, 192, 16, 0, 8}}};
            nibbles(block, 0, 64);
            quarters(block, 128, 4);
            break;
    }
    return block;
}

/// Adds values to a block. Their bytes must be 0 before.
inline void write_fields(std::span<const bit_field> fields, const std::uint8_t* values, std::uint8_t* block) noexcept {
    for (const bit_field& field : fields) {
        const unsigned mask = (1U << field.width) - 1;
        for (index_t k = 0; k < field.count; ++k) {
            const unsigned value = values[field.first + k * field.step];
            block[field.byte + k] = static_cast<std::uint8_t>(block[field.byte + k] | (value >> field.low & mask) << field.shift);
        }
    }
}

/// Adds what a block holds to values, which must be 0 before.
inline void read_fields(std::span<const bit_field> fields, const std::uint8_t* block, std::uint8_t* values) noexcept {
    for (const bit_field& field : fields) {
        const unsigned mask = (1U << field.width) - 1;
        for (index_t k = 0; k < field.count; ++k) {
            std::uint8_t& value = values[field.first + k * field.step];
            value = static_cast<std::uint8_t>(value | (static_cast<unsigned>(block[field.byte + k]) >> field.shift & mask) << field.low);
        }
    }
}

/// The code that stands for 0 in a type without offsets.
[[nodiscard]] constexpr int zero_code_of(ggml_type type, int bits) noexcept { return type == ggml_type::q2_0 ? 1 : 1 << (bits - 1); }

/// How the groups of a k-quant share two numbers.
struct k_quant {
    int bits;
    index_t group_size;
    int largest_scale;   ///< largest integer that multiplies d
    int largest_offset;  ///< largest integer that multiplies dmin; 0 without offsets
    int scale_bias;      ///< added to a scale code when it is stored

    [[nodiscard]] index_t groups() const noexcept { return 256 / group_size; }
    [[nodiscard]] bool has_offsets() const noexcept { return largest_offset > 0; }
};

/// The k-quant of a type; its bits are 0 if the type is not a k-quant.
[[nodiscard]] constexpr k_quant k_quant_of(ggml_type type) noexcept {
    switch (type) {
        case ggml_type::q2_k: return {2, 16, 15, 15, 0};
        case ggml_type::q3_k: return {3, 16, 31, 0, 32};
        case ggml_type::q4_k: return {4, 32, 63, 63, 0};
        case ggml_type::q5_k: return {5, 32, 63, 63, 0};
        case ggml_type::q6_k: return {6, 16, 127, 0, 0};
        default: return {0, 0, 0, 0, 0};
    }
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr
