// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <magr/detail/contract.hpp>
#include <magr/detail/squares.hpp>
#include <magr/grid/make_weight_grids.hpp>
#include <magr/grid/quantized_matrix.hpp>
#include <magr/grid/weight_grids.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/pack/bit_packing.hpp>
#include <magr/pack/format.hpp>
#include <magr/pack/format_rules.hpp>

/// Shared by the packers of all formats: their checks, and words full of codes.
namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Which columns a format allows in a group.
enum class group_order {
    consecutive,  ///< column j belongs to group j / group_size
    any           ///< the format stores the group of each column
};

inline void refuse(const format_problems& found) {
    std::string message;
    for (const auto* list : {&found.of_shape, &found.of_options})
        for (const auto& problem : *list) message += (message.empty() ? "" : "; ") + problem;
    if (!found.of_shape.empty()) raise<shape_error>(message);
    if (!found.of_options.empty()) raise<option_error>(message);
}

template <compute_scalar Scalar>
[[nodiscard]] bool has_consecutive_groups(const weight_grids<Scalar>& grids) {
    for (index_t j = 0; j < grids.cols(); ++j)
        if (grids.group_of_column[static_cast<std::size_t>(j)] != j / grids.group_size) return false;
    return true;
}

/// Refuses grids with weights that only double can hold: what reads the formats computes in float.
inline void require_float_weights(const char* function, const weight_grids<double>& grids) {
    constexpr auto most = static_cast<double>((std::numeric_limits<float>::max)());
    const bool has_offset = grids.zero_point == zero_point::offset;
    for (index_t i = 0; i < grids.scales.rows(); ++i)
        for (index_t g = 0; g < grids.scales.cols(); ++g)
            for (const int code : {0, largest_code(grids.bits)}) {
                const double zero = grids.zeros(i, g), product = grids.scales(i, g) * (has_offset ? code : code - zero);
                const double weight = has_offset ? product + zero : product;
                if (std::abs(product) > most || std::abs(weight) > most)
                    raise<value_error>(concat(function, ": weights (row ", i, ", group ", g, ") must be finite in float32, one is ",
                                              std::abs(weight) > most ? weight : product));
            }
}

/// Refuses a matrix that cannot be packed in a format, before anything is packed.
/// @par Errors    shape_error, option_error, value_error
template <compute_scalar Scalar>
void require_packable(const char* function, packed_format format, const quantized_matrix<Scalar>& q,
                      group_order order = group_order::consecutive) {
    const index_t rows = q.codes.rows(), cols = q.codes.cols();
    require_not_empty(function, "codes", q.codes.view());
    require_grids(function, q, rows, cols);

    const format_rules rules = rules_of(format);
    grid_options options{.bits = q.bits, .zero_point = q.zero_point, .group_size = q.group_size, .storage = q.storage};
    // the scales themselves decide whether a single type can hold them
    if (!rules.storages.has(q.storage)) options.storage = rules.two_level ? storage_type::f32 : storage_type::f16;
    options.levels.assign(q.levels.begin(), q.levels.end());
    refuse(problems_of(function, format, rows, cols, options));

    const index_t groups = groups_per_row(options, cols);
    require_shape(function, "grids.scales", q.scales.view(), rows, groups);
    if (order == group_order::consecutive && !has_consecutive_groups(q))
        raise<value_error>(concat(function, ": group_of_column must be column / group_size in the format ", to_string(format),
                                  ", it is not: quantize with group_update::fixed or without act_order"));

    if constexpr (std::is_same_v<Scalar, double>) require_float_weights(function, q);

    const auto largest = static_cast<std::uint8_t>(largest_code(q.bits));
    for (index_t i = 0; i < rows; ++i) {
        const std::span<const std::uint8_t> row(q.codes.data() + i * cols, static_cast<std::size_t>(cols));
        std::uint8_t highest = 0;
        for (const std::uint8_t code : row) highest = (std::max)(highest, code);
        if (highest <= largest) continue;
        const auto at = std::find(row.begin(), row.end(), highest) - row.begin();
        raise<value_error>(
            concat(function, ": codes must be in 0..", int{largest}, ", entry (row ", i, ", column ", at, ") is ", int{highest}));
    }
}

/// Refuses shapes and options that a file of this format cannot have, before anything is allocated.
/// @return        the number of groups in a row
/// @par Errors    shape_error, option_error
[[nodiscard]] inline index_t require_unpackable(const char* function, packed_format format, index_t rows, index_t cols,
                                                const grid_options& options) {
    constexpr index_t most = index_t{1} << (sizeof(index_t) == 8 ? 40 : 27);  // so that sizes in bits do not overflow
    for (const index_t size : {rows, cols, options.group_size.value_or(1)})
        if (size > most) raise<shape_error>(concat(function, ": rows, columns and group_size must be at most ", most, ", one is ", size));
    refuse(problems_of(function, format, rows, cols, options));
    return groups_per_row(options, cols);
}

/// Assembles a matrix from the numbers that are stored, and checks it.
[[nodiscard]] inline quantized_matrix<float> finish_unpacked(const char* function, const grid_options& options, matrix<std::uint8_t> codes,
                                                             matrix<float> scales, matrix<float> zeros,
                                                             std::span<const std::int32_t> group_of_column = {}) {
    const index_t rows = codes.rows(), cols = codes.cols();
    quantized_matrix<float> q{make_weight_grids<float>(rows, cols, options), std::move(codes)};
    q.scales = std::move(scales);
    q.zeros = std::move(zeros);
    if (!group_of_column.empty()) q.group_of_column.assign(group_of_column.begin(), group_of_column.end());
    require_grids(function, q, rows, cols);
    return q;
}

template <class T>
[[nodiscard]] matrix<T> transposed(const matrix<T>& m) {
    matrix<T> out(m.cols(), m.rows());
    visit_in_squares(m.cols(), m.rows(), [&](index_t i, index_t j) { out(i, j) = m(j, i); });
    return out;
}

/// Converts numbers that are codes to codes.
template <compute_scalar Scalar>
[[nodiscard]] matrix<std::uint8_t> to_codes(const matrix<Scalar>& values) {
    matrix<std::uint8_t> codes(values.rows(), values.cols());
    for (index_t i = 0; i < values.rows(); ++i)
        for (index_t j = 0; j < values.cols(); ++j) codes(i, j) = static_cast<std::uint8_t>(values(i, j));
    return codes;
}

[[nodiscard]] inline matrix<float> to_numbers(const matrix<std::uint8_t>& codes) {
    matrix<float> values(codes.rows(), codes.cols());
    for (index_t i = 0; i < codes.rows(); ++i)
        for (index_t j = 0; j < codes.cols(); ++j) values(i, j) = static_cast<float>(codes(i, j));
    return values;
}

/// The zero points of grids that store none: the middle code.
[[nodiscard]] inline matrix<float> middle_zeros(index_t rows, index_t groups, int bits) {
    matrix<float> zeros(rows, groups);
    for (index_t i = 0; i < rows; ++i)
        for (index_t g = 0; g < groups; ++g) zeros(i, g) = static_cast<float>(1 << (bits - 1));
    return zeros;
}

/// How many words `count` codes of `bits` bits take without gaps.
template <class Word>
[[nodiscard]] constexpr index_t packed_words(index_t count, int bits) noexcept {
    constexpr auto width = static_cast<index_t>(sizeof(Word));
    return (packed_bytes(count, bits) + width - 1) / width;
}

/// Turns the bytes of little-endian words into words, or back.
template <class Word>
void swap_on_big_endian(matrix<Word>& words) noexcept {
    if constexpr (std::endian::native == std::endian::big) {
        auto* bytes = reinterpret_cast<std::uint8_t*>(words.data());
        for (index_t k = 0; k < words.rows() * words.cols(); ++k)
            std::reverse(bytes + k * index_t{sizeof(Word)}, bytes + (k + 1) * index_t{sizeof(Word)});
    }
}

/// Packs the codes of each row without gaps into words of its own; the bits after the last code are 0.
template <class Word>
[[nodiscard]] matrix<Word> pack_rows(const matrix<std::uint8_t>& codes, int bits) {
    matrix<Word> words(codes.rows(), packed_words<Word>(codes.cols(), bits));
    const auto count = static_cast<std::size_t>(codes.cols());
    const auto size = static_cast<std::size_t>(packed_bytes(codes.cols(), bits));
    for (index_t i = 0; i < codes.rows(); ++i)
        pack_bits({codes.data() + i * codes.cols(), count}, bits, {reinterpret_cast<std::uint8_t*>(words.data() + i * words.cols()), size});
    swap_on_big_endian(words);
    return words;
}

/// The inverse of `pack_rows`, with `cols` codes in each row.
template <class Word>
[[nodiscard]] matrix<std::uint8_t> unpack_rows(matrix<Word> words, int bits, index_t cols) {
    swap_on_big_endian(words);
    matrix<std::uint8_t> codes(words.rows(), cols);
    const auto count = static_cast<std::size_t>(cols);
    const auto size = static_cast<std::size_t>(packed_bytes(cols, bits));
    for (index_t i = 0; i < words.rows(); ++i)
        unpack_bits({reinterpret_cast<const std::uint8_t*>(words.data() + i * words.cols()), size}, bits, {codes.data() + i * cols, count});
    return codes;
}

/// The group of each column, as engines store it.
[[nodiscard]] inline std::vector<std::int32_t> to_group_index(const std::vector<index_t>& group_of_column) {
    std::vector<std::int32_t> index;
    for (const index_t group : group_of_column) index.push_back(static_cast<std::int32_t>(group));
    return index;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
