// SPDX-License-Identifier: MIT
#pragma once

#include <magr/grid/quantized_matrix.hpp>

/// What quantized weights take on the disk, in bits. Formats pad and add headers; this counts what has to be there in any of them.
namespace examples {

/// Of one stored scale.
[[nodiscard]] constexpr double bits_of(magr::storage_type storage) {
    return storage == magr::storage_type::f16 || storage == magr::storage_type::bf16 ? 16 : 32;
}

/// Of what is stored besides the scale of a grid.
[[nodiscard]] constexpr double bits_of_zero(magr::zero_point zero, int bits, magr::storage_type storage) {
    switch (zero) {
        case magr::zero_point::none:
        case magr::zero_point::middle: return 0;  // the sign of the scale
        case magr::zero_point::integer: return bits;
        case magr::zero_point::real:
        case magr::zero_point::offset: break;
    }
    return bits_of(storage);
}

/// Codes, scales and zero points; and the group of each column, where groups are not runs of neighbouring columns.
[[nodiscard]] inline double stored_bits(const magr::quantized_matrix<float>& q) {
    const auto weights = static_cast<double>(q.codes.rows() * q.codes.cols());
    const auto grids = static_cast<double>(q.scales.rows() * q.scales.cols());
    double bits = weights * q.bits + grids * (bits_of(q.storage) + bits_of_zero(q.zero_point, q.bits, q.storage));
    bool in_runs = true;
    for (std::size_t j = 0; j < q.group_of_column.size(); ++j)
        in_runs = in_runs && q.group_of_column[j] == static_cast<magr::index_t>(j) / q.group_size;
    if (!in_runs) bits += 32.0 * static_cast<double>(q.group_of_column.size());
    return bits;
}

}  // namespace examples
