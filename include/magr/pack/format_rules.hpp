// SPDX-License-Identifier: MIT
#pragma once

#include <bit>
#include <cstddef>
#include <string>
#include <type_traits>
#include <vector>

#include <magr/detail/contract.hpp>
#include <magr/grid/grid.hpp>
#include <magr/grid/storage_type.hpp>
#include <magr/pack/packed_format.hpp>

namespace magr {
namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// A set of small numbers or enumerators.
template <class T>
struct choice {
    template <class... Values>
    constexpr explicit choice(Values... values) : members(((1U << static_cast<unsigned>(values)) | ...)) {}

    [[nodiscard]] constexpr bool has(T value) const noexcept {
        const auto index = static_cast<int>(value);
        return index >= 0 && index < 32 && (members >> index & 1U) != 0;
    }

    [[nodiscard]] std::string in_words() const {
        std::string text;
        unsigned rest = members;
        while (rest != 0) {
            const auto value = static_cast<T>(std::countr_zero(rest));
            rest &= rest - 1;
            if (!text.empty()) text += rest == 0 ? " or " : ", ";
            if constexpr (std::is_enum_v<T>)
                text += to_string(value);
            else
                text += std::to_string(value);
        }
        return text;
    }

    unsigned members;
};

/// Which columns a group of a format may have.
enum class group_rule {
    any,      ///< also a last group with fewer columns
    divides,  ///< all groups equally long
    divides_32_64_128,
    /// 16, 32, 64, 128 or 256, and the last group may have fewer; or the whole row, if it fits into such a block. These are the blocks that
    /// ONNX Runtime has kernels for (core/mlas/lib/q4_dq.cpp): its CPU provider returned zeros for larger ones
    power_of_two,
    multiple  ///< of the columns that share a scale in the format; a larger group is written several times
};

/// What a format can hold.
struct format_rules {
    choice<int> bits;
    choice<zero_point> zeros;
    choice<storage_type> storages;
    group_rule groups;
    index_t row_multiple;
    index_t column_multiple;
    index_t group_size;  ///< default; for `multiple` the size that the format prescribes
    bool two_level;      ///< scales are products, see `shared_scales`
};

/// The rules of a format's layout and of the kernels that read it:
///
///   gptq                 packs along inputs and outputs in words of 32 bits: both multiples of 32; 2, 3, 4, 8 bits, f16 (AutoGPTQ,
///                        qlinear_cuda.py). 5 to 7 bits have another layout, gptq_p
///   awq                  4 bits, 8 outputs a word, equal groups (AutoAWQ, modules/linear/gemm.py)
///   compressed_tensors   dense packing from version 0.18 on, equal groups (compressors/pack_quantized/helpers.py)
///   matmul_nbits         2, 4, 8 bits, see `group_rule::power_of_two` (ONNX Runtime, core/mlas/lib/q4_dq.cpp)
///   mlx                  2 to 6 and 8 bits, equal groups of 32, 64 or 128 (MLX, python/src/ops.cpp)
///   gguf                 rows of whole blocks, f16 scales (ggml, src/ggml-common.h); otherwise llama.cpp silently takes another type
[[nodiscard]] constexpr format_rules rules_of(packed_format format) noexcept {
    using zero = zero_point;
    using type = storage_type;
    constexpr choice<zero> codes{zero::none, zero::integer}, middle{zero::none, zero::middle, zero::integer}, offset{zero::offset};
    constexpr choice<type> half{type::f16}, any{type::native, type::f32, type::f16, type::bf16};
    constexpr auto block = [](int bits, choice<zero> zeros, index_t columns) {
        return format_rules{choice<int>{bits}, zeros, choice<type>{type::f16}, group_rule::multiple, 1, columns, columns, false};
    };
    constexpr auto super_block = [](int bits, choice<zero> zeros, index_t columns) {
        const choice<type> products{type::native, type::f32};
        return format_rules{choice<int>{bits}, zeros, products, group_rule::multiple, 1, 256, columns, true};
    };
    switch (format) {
        case packed_format::gptq_v1:
        case packed_format::gptq_v2: return {choice<int>{2, 3, 4, 8}, codes, half, group_rule::any, 32, 32, 128, false};
        case packed_format::awq: return {choice<int>{4}, codes, half, group_rule::divides, 8, 1, 128, false};
        case packed_format::compressed_tensors:
            return {choice<int>{2, 3, 4, 5, 6, 7, 8}, codes, any, group_rule::divides, 1, 1, 128, false};
        case packed_format::matmul_nbits:
            return {
                choice<int>{2, 4, 8}, choice<zero>{zero::none, zero::integer, zero::real}, any, group_rule::power_of_two, 1, 1, 32, false};
        case packed_format::mlx:
            return {choice<int>{2, 3, 4, 5, 6, 8},
                    choice<zero>{zero::none, zero::integer, zero::offset},
                    any,
                    group_rule::divides_32_64_128,
                    1,
                    32,
                    64,
                    false};
        case packed_format::gguf_q4_0: return block(4, middle, 32);
        case packed_format::gguf_q4_1: return block(4, offset, 32);
        case packed_format::gguf_q5_0: return block(5, middle, 32);
        case packed_format::gguf_q5_1: return block(5, offset, 32);
        case packed_format::gguf_q8_0: return block(8, middle, 32);
        case packed_format::gguf_q2_0: return block(2, middle, 64);
        case packed_format::gguf_q2_k: return super_block(2, offset, 16);
        case packed_format::gguf_q3_k: return super_block(3, middle, 16);
        case packed_format::gguf_q4_k: return super_block(4, offset, 32);
        case packed_format::gguf_q5_k: return super_block(5, offset, 32);
        case packed_format::gguf_q6_k: break;
    }
    return super_block(6, middle, 16);
}

/// Reasons why something cannot be packed. Those that concern its shape are separate.
struct format_problems {
    std::vector<std::string> of_shape;
    std::vector<std::string> of_options;
};

/// @param name  of the function or format, for the messages
[[nodiscard]] inline format_problems problems_of(const char* name, packed_format format, index_t rows, index_t cols,
                                                 const grid_options& options) {
    format_problems found;
    if (!is_enumerator(format)) {
        found.of_options.push_back(concat("packed_format must be ", enumerators<packed_format>(), ", it is ", static_cast<int>(format)));
        return found;
    }
    const format_rules rules = rules_of(format);
    const auto shape = [&](bool holds, const char* what, const std::string& allowed, index_t actual) {
        if (!holds) found.of_shape.push_back(concat(name, ": ", what, " must be ", allowed, ", there are ", actual));
    };
    const auto option = [&](bool holds, const char* what, const std::string& allowed, const auto& actual) {
        if (!holds) found.of_options.push_back(concat(name, ": ", what, " must be ", allowed, ", it is ", actual));
    };
    shape(rows >= 1 && rows % rules.row_multiple == 0, "rows",
          rules.row_multiple == 1 ? "at least 1" : concat("a multiple of ", rules.row_multiple), rows);
    shape(cols >= 1 && cols % rules.column_multiple == 0, "columns",
          rules.column_multiple == 1 ? "at least 1" : concat("a multiple of ", rules.column_multiple), cols);
    option(rules.bits.has(options.bits), "bits", rules.bits.in_words(), options.bits);
    option(rules.zeros.has(options.zero_point), "zero_point", rules.zeros.in_words(), to_string(options.zero_point));
    option(rules.storages.has(options.storage), "storage", rules.storages.in_words(), to_string(options.storage));
    option(options.levels.empty(), "levels", "empty", "not");
    if (options.group_size && *options.group_size < 1) {
        option(false, "group_size", "at least 1", *options.group_size);
        return found;
    }
    if (cols < 1) return found;
    const index_t width = columns_per_group(options, cols);
    switch (rules.groups) {
        case group_rule::any: break;
        case group_rule::divides: option(cols % width == 0, "group_size", concat("a divisor of the columns, ", cols), width); break;
        case group_rule::divides_32_64_128:
            option((width == 32 || width == 64 || width == 128) && cols % width == 0, "group_size",
                   concat("32, 64 or 128 and a divisor of the columns, ", cols), width);
            break;
        case group_rule::power_of_two:
            option(width <= 256 && (width == cols || (width >= 16 && std::has_single_bit(static_cast<std::size_t>(width)))), "group_size",
                   "16, 32, 64, 128 or 256, or the whole row of at most 256", width);
            break;
        case group_rule::multiple:
            if (rules.two_level)
                option(width == rules.group_size, "group_size", concat(rules.group_size), width);
            else
                option(width % rules.group_size == 0, "group_size", concat("a multiple of ", rules.group_size), width);
            break;
    }
    return found;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

}  // namespace magr
