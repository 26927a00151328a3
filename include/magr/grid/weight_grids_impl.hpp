// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include <magr/detail/contract.hpp>
#include <magr/detail/finite.hpp>
#include <magr/grid/grid_weights.hpp>
#include <magr/grid/storage.hpp>
#include <magr/grid/weight_grids.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

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
    const bool middle = levels.empty() && grids.zero_point == zero_point::middle;
    const bool codes = middle || (levels.empty() && (grids.zero_point == zero_point::integer || grids.zero_point == zero_point::none));
    const int upper = 1 << (grids.bits - 1);  // of the two middle codes
    for (index_t i = 0; i < rows; ++i)
        for (index_t g = 0; g < grids.scales.cols(); ++g) {
            const Scalar scale = grids.scales(i, g);
            const Scalar zero = grids.zeros(i, g);
            if (!(scale > 0) || !detail::is_finite(scale))
                refuse("scale (row ", i, ", group ", g, ") must be > 0 and finite, it is ", scale);
            if (!detail::is_finite(zero)) refuse("zero point (row ", i, ", group ", g, ") must be finite, it is ", zero);
            if (codes && (zero < 0 || zero > static_cast<Scalar>(largest_code(grids.bits)) || zero != std::nearbyint(zero)))
                refuse("zero point (row ", i, ", group ", g, ") must be a code, it is ", zero);
            if (middle && zero != static_cast<Scalar>(upper) && zero != static_cast<Scalar>(upper - 1))
                refuse("zero point (row ", i, ", group ", g, ") must be ", upper - 1, " or ", upper, ", it is ", zero);
            const Scalar weight = detail::infinite_weight(grids, scale, zero);
            if (weight != 0) refuse("weights (row ", i, ", group ", g, ") must be finite, one is ", weight > 0 ? "inf" : "-inf");
        }
}

template <compute_scalar Scalar>
storage_limits count_storage_limits(const weight_grids<Scalar>& grids) {
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
