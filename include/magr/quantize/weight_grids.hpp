// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include <magr/detail/contract.hpp>
#include <magr/detail/finite.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/quantize/grid.hpp>
#include <magr/quantize/storage.hpp>

namespace magr {

/// Scales that are themselves products, as in the k-quants of GGUF: several groups share two stored numbers.
///
/// scale of group g = scales(i, g / groups) * scale_codes(i, g); offset of group g = -offsets(i, g / groups) * offset_codes(i, g).
template <compute_scalar Scalar>
struct shared_scales {
    index_t groups = 0;                 ///< groups per block that share; 0: nothing is shared
    matrix<Scalar> scales;              ///< rows x blocks, f16 numbers
    matrix<Scalar> offsets;             ///< rows x blocks, f16 numbers; 0 x 0 without offsets
    matrix<std::int8_t> scale_codes;    ///< rows x groups
    matrix<std::uint8_t> offset_codes;  ///< rows x groups; 0 x 0 without offsets
};

/// The grids of a weight matrix: what its codes mean, and everything that is stored besides them.
///
/// Column j of row i has the grid {scales(i, g), zeros(i, g)} with g = group_of_column[j].
template <compute_scalar Scalar>
struct weight_grids {
    int bits = 0;                                       ///< codes lie in 0..2^bits - 1
    magr::zero_point zero_point = zero_point::integer;  ///< what `zeros` are
    storage_type storage = storage_type::native;        ///< the type that can hold all scales, real zero points and offsets
    index_t group_size = 0;                             ///< columns per group; the last group may have fewer
    matrix<Scalar> scales;                              ///< rows x groups, > 0
    matrix<Scalar> zeros;                               ///< rows x groups; 2^(bits-1) without a zero point, 0 with levels
    std::vector<index_t> group_of_column;               ///< cols; j / group_size unless groups were formed in another column order
    std::vector<Scalar> levels;                         ///< if not empty, code c stands for scale * levels[c]
    shared_scales<Scalar> shared;                       ///< what scales and offsets are made of, if they are not stored as they are

    [[nodiscard]] index_t rows() const noexcept { return scales.rows(); }
    [[nodiscard]] index_t cols() const noexcept { return static_cast<index_t>(group_of_column.size()); }
};

/// How many grids sit at the ends of what their storage type can hold.
struct storage_limits {
    index_t largest = 0;    ///< scale, zero point or offset is the largest finite number: larger ones were limited to it
    index_t smallest = 0;   ///< scale is the smallest one used: smaller ones were raised to it
    index_t subnormal = 0;  ///< scale is a subnormal f16 number, which some engines take for 0
};

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// The offset of a group with shared scales, with the sign of a zero always the same.
template <compute_scalar Scalar>
[[nodiscard]] Scalar shared_offset(Scalar shared, std::uint8_t code) noexcept {
    return Scalar(0) - shared * static_cast<Scalar>(code);
}

/// A weight of a grid of this scale and zero point that is beyond the largest number, as a part of it; 0 if there is none.
template <compute_scalar Scalar>
[[nodiscard]] Scalar infinite_weight(const weight_grids<Scalar>& grids, Scalar scale, Scalar zero) noexcept {
    constexpr Scalar part = sizeof(Scalar) == sizeof(float) ? Scalar(0x1p-64) : Scalar(0x1p-512);  // so that nothing overflows here
    constexpr Scalar largest = (std::numeric_limits<Scalar>::max)() * part * part;
    const bool has_levels = !grids.levels.empty(), has_offset = !has_levels && grids.zero_point == zero_point::offset;
    for (const Scalar end : {has_levels ? grids.levels.front() : Scalar(0),
                             has_levels ? grids.levels.back() : static_cast<Scalar>(largest_code(grids.bits))}) {
        const Scalar product = part * scale * (part * (has_levels || has_offset ? end : end - zero));
        const Scalar weight = has_offset ? product + part * zero * part : product;
        if (std::abs(product) > largest) return product;
        if (std::abs(weight) > largest) return weight;
    }
    return 0;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// Refuses grids that weights cannot be rounded onto.
/// @par Errors    shape_error if scales, zeros and group_of_column are not those of a rows x cols matrix; value_error if bits are not in
///                2..8, group_size is less than 1, zero_point or storage is no enumerator, a scale is not > 0 or not finite, a zero point
///                is not finite or (if integer) not a code, levels are not 2 to 2^bits increasing numbers of at most 1e6, or the weight of
///                the lowest or highest code is not finite
template <compute_scalar Scalar>
void require_grids(const char* function, const weight_grids<Scalar>& grids, index_t rows, index_t cols) {
    const auto refuse = [&](const auto&... what) { detail::raise<value_error>(detail::concat(function, ": grids: ", what...)); };
    detail::require_shape(function, "grids.scales", grids.scales.view(), rows, grids.scales.cols());
    detail::require_not_empty(function, "grids.scales", grids.scales.view());
    detail::require_shape(function, "grids.zeros", grids.zeros.view(), rows, grids.scales.cols());
    if (grids.cols() != cols)
        detail::raise<shape_error>(detail::concat(function, ": grids.group_of_column must have ", cols, " entries, it has ", grids.cols()));
    for (const index_t group : grids.group_of_column)
        if (group < 0 || group >= grids.scales.cols())
            refuse("group_of_column must be in 0..", grids.scales.cols() - 1, ", one is ", group);
    if (grids.group_size < 1) refuse("group_size must be at least 1, it is ", grids.group_size);
    const auto require_enumerator = [&](const char* member, auto value) {
        using type = decltype(value);
        if (!detail::is_enumerator(value)) refuse(member, " must be ", detail::enumerators<type>(), ", it is ", static_cast<int>(value));
    };
    require_enumerator("zero_point", grids.zero_point);
    require_enumerator("storage", grids.storage);
    if (grids.bits < 2 || grids.bits > 8) refuse("bits must be in 2..8, it is ", grids.bits);
    const auto& levels = grids.levels;
    if (!levels.empty() &&
        (levels.size() < 2 || levels.size() > std::size_t{1} << grids.bits ||
         std::any_of(levels.begin(), levels.end(),
                     [](Scalar level) { return !detail::is_finite(level) || std::abs(static_cast<double>(level)) > largest_level; }) ||
         std::adjacent_find(levels.begin(), levels.end(), [](Scalar a, Scalar b) { return !(a < b); }) != levels.end()))
        refuse("levels must be 2 to 2^bits increasing numbers of at most 1e6");
    const bool codes = levels.empty() && (grids.zero_point == zero_point::integer || grids.zero_point == zero_point::none);
    for (index_t i = 0; i < rows; ++i)
        for (index_t g = 0; g < grids.scales.cols(); ++g) {
            const Scalar scale = grids.scales(i, g);
            const Scalar zero = grids.zeros(i, g);
            if (!(scale > 0) || !detail::is_finite(scale))
                refuse("scale (row ", i, ", group ", g, ") must be > 0 and finite, it is ", scale);
            if (!detail::is_finite(zero)) refuse("zero point (row ", i, ", group ", g, ") must be finite, it is ", zero);
            if (codes && (zero < 0 || zero > static_cast<Scalar>(largest_code(grids.bits)) || zero != std::nearbyint(zero)))
                refuse("zero point (row ", i, ", group ", g, ") must be a code, it is ", zero);
            const Scalar weight = detail::infinite_weight(grids, scale, zero);
            if (weight != 0) refuse("weights (row ", i, ", group ", g, ") must be finite, one is ", weight > 0 ? "inf" : "-inf");
        }
}

/// Counts the grids at the ends of their storage type.
/// @par Cost      O(rows * groups)
template <compute_scalar Scalar>
[[nodiscard]] storage_limits count_storage_limits(const weight_grids<Scalar>& grids) {
    const double largest = largest_stored<Scalar>(grids.storage);
    const double smallest = smallest_stored_scale<Scalar>(grids.storage);
    const auto largest_scale = static_cast<double>(store_scale<Scalar>(largest, grids.storage, largest_multiple(grids.bits, grids.levels)));
    constexpr double normal_f16 = 0x1p-14;
    storage_limits count;
    for (index_t i = 0; i < grids.scales.rows(); ++i)
        for (index_t g = 0; g < grids.scales.cols(); ++g) {
            const auto scale = static_cast<double>(grids.scales(i, g));
            const auto zero = static_cast<double>(grids.zeros(i, g));
            if (scale >= largest_scale || std::abs(zero) >= largest) ++count.largest;
            if (scale <= smallest) ++count.smallest;
            if (grids.storage == storage_type::f16 && scale < normal_f16) ++count.subnormal;
        }
    return count;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
