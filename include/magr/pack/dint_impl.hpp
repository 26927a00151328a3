// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <utility>

#include <magr/detail/contract.hpp>
#include <magr/grid/storage.hpp>
#include <magr/pack/dint.hpp>
#include <magr/pack/packing.hpp>
#include <magr/pack/stored_numbers.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar Scalar>
dint_tensors pack_dint(const coded_matrix<dint_grids<Scalar>>& q) {
    constexpr const char* function = "pack_dint";
    const index_t rows = q.codes.rows(), cols = q.codes.cols();
    detail::require_not_empty(function, "codes", q.codes.view());
    q.grids.require(function, rows, cols);
    for (index_t i = 0; i < rows; ++i)
        for (index_t j = 0; j < cols; ++j)
            if (q.codes(i, j) > largest_code(q.grids.bits))
                detail::raise<value_error>(detail::concat(function, ": codes must be in 0..", largest_code(q.grids.bits), ", entry (row ",
                                                          i, ", column ", j, ") is ", int{q.codes(i, j)}));
    const storage_type type = detail::type_in_file(q.grids.storage);
    for (index_t i = 0; i < rows; ++i)
        for (index_t g = 0; g < q.grids.scales.cols(); ++g) {
            const Scalar scale = q.grids.scales(i, g);
            if (round_to_storage<Scalar>(static_cast<double>(scale), type) != scale)
                detail::raise<value_error>(detail::concat(function, ": scale (row ", i, ", group ", g, ") must be a number of type ",
                                                          to_string(type), ", it is ", scale,
                                                          "; set dint_options::storage to storage_type::", to_string(type)));
        }
    return {.bits = q.grids.bits,
            .rows = rows,
            .cols = cols,
            .group_size = q.grids.group_size,
            .codes = detail::pack_rows<std::uint8_t>(q.codes, q.grids.bits),
            .scales = detail::store_matrix(q.grids.scales, type),
            .zero_points = detail::pack_rows<std::uint8_t>(q.grids.zeros, q.grids.bits)};
}

MAGR_CORE coded_matrix<dint_grids<float>> unpack_dint(const dint_tensors& packed) {
    constexpr const char* function = "unpack_dint";
    constexpr index_t most = index_t{1} << (sizeof(index_t) == 8 ? 40 : 27);  // so that sizes in bits do not overflow
    detail::require_option(packed.format == dint_tensors::format_name, function, "format", dint_tensors::format_name, packed.format);
    detail::require_option(packed.bits >= 2 && packed.bits <= 8, function, "bits", "in 2..8", packed.bits);
    detail::require_option(packed.group_size >= 1, function, "group_size", "at least 1", packed.group_size);
    if (packed.rows < 1 || packed.cols < 1 || packed.rows > most || packed.cols > most)
        detail::raise<shape_error>(
            detail::concat(function, ": rows and cols must be in 1..", most, ", they are ", packed.rows, " and ", packed.cols));
    const index_t groups = packed.cols / packed.group_size + (packed.cols % packed.group_size > 0 ? 1 : 0);
    detail::require_shape(function, "codes", packed.codes.view(), packed.rows, packed_bytes(packed.cols, packed.bits));
    detail::require_shape(function, "zero_points", packed.zero_points.view(), packed.rows, packed_bytes(groups, packed.bits));

    coded_matrix<dint_grids<float>> q{{.bits = packed.bits,
                                       .storage = packed.scales.type,
                                       .cols = packed.cols,
                                       .group_size = packed.group_size,
                                       .scales = detail::load_matrix(function, "scales", packed.scales, packed.rows, groups),
                                       .zeros = detail::unpack_rows<std::uint8_t>(packed.zero_points, packed.bits, groups)},
                                      detail::unpack_rows<std::uint8_t>(packed.codes, packed.bits, packed.cols)};
    q.grids.require(function, packed.rows, packed.cols);
    return q;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
