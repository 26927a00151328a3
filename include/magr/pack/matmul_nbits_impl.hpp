// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>

#include <magr/grid/quantized_matrix.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/pack/format_rules.hpp>
#include <magr/pack/matmul_nbits.hpp>
#include <magr/pack/packing.hpp>
#include <magr/pack/stored_numbers.hpp>

namespace magr {
namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// The size of the block that holds a group. A group that is the whole row need not be a power of 2.
[[nodiscard]] constexpr index_t block_size_of(index_t group_size) noexcept {
    return static_cast<index_t>(std::bit_ceil(static_cast<std::size_t>(std::max<index_t>(group_size, 16))));
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar Scalar>
matmul_nbits_tensors pack_matmul_nbits(const quantized_matrix<Scalar>& q) {
    constexpr const char* function = "pack_matmul_nbits";
    detail::require_packable(function, packed_format::matmul_nbits, q);
    const storage_type type = detail::type_in_file(q.storage);
    detail::require_stored_exactly(function, "scale", q.scales, type);
    if (q.zero_point == zero_point::real) detail::require_stored_exactly(function, "zero point", q.zeros, type);

    matmul_nbits_tensors packed{.bits = q.bits,
                                .N = q.rows(),
                                .K = q.cols(),
                                .block_size = detail::block_size_of(q.group_size),
                                .B = {},
                                .scales = detail::store_matrix(q.scales, type),
                                .zero_points = {},
                                .real_zero_points = {}};
    packed.B = matrix<std::uint8_t>(q.rows(), q.scales.cols() * packed.block_size * q.bits / 8);
    const auto codes = static_cast<std::size_t>(q.cols());
    const auto bytes = static_cast<std::size_t>(packed_bytes(q.cols(), q.bits));
    for (index_t i = 0; i < q.rows(); ++i)
        pack_bits({q.codes.data() + i * q.cols(), codes}, q.bits, {packed.B.data() + i * packed.B.cols(), bytes});
    if (q.zero_point == zero_point::integer) packed.zero_points = detail::pack_rows<std::uint8_t>(detail::to_codes(q.zeros), q.bits);
    if (q.zero_point == zero_point::real) packed.real_zero_points = detail::store_matrix(q.zeros, type);
    return packed;
}

MAGR_CORE quantized_matrix<float> unpack_matmul_nbits(const matmul_nbits_tensors& packed) {
    constexpr const char* function = "unpack_matmul_nbits";
    const zero_point zero = !packed.zero_points.empty()        ? zero_point::integer
                            : !packed.real_zero_points.empty() ? zero_point::real
                                                               : zero_point::none;
    const grid_options options{.bits = packed.bits, .zero_point = zero, .group_size = packed.block_size, .storage = packed.scales.type};
    const index_t rows = packed.N, cols = packed.K;
    const index_t block = packed.block_size;
    detail::require_option(block >= 16 && block <= 256 && std::has_single_bit(static_cast<std::size_t>(block)), function, "block_size",
                           "16, 32, 64, 128 or 256", block);
    const index_t groups = detail::require_unpackable(function, packed_format::matmul_nbits, rows, cols, options);
    detail::require_shape(function, "B", packed.B.view(), rows, groups * packed.block_size * packed.bits / 8);
    if (zero == zero_point::integer)
        detail::require_shape(function, "zero_points", packed.zero_points.view(), rows, packed_bytes(groups, packed.bits));
    matrix<float> scales = detail::load_matrix(function, "scales", packed.scales, rows, groups);
    matrix<float> zeros = zero == zero_point::integer ? detail::to_numbers(detail::unpack_rows(packed.zero_points, packed.bits, groups))
                          : zero == zero_point::real
                              ? detail::load_matrix(function, "real_zero_points", packed.real_zero_points, rows, groups)
                              : detail::middle_zeros(rows, groups, packed.bits);
    return detail::finish_unpacked(function, options, detail::unpack_rows(packed.B, packed.bits, cols), std::move(scales),
                                   std::move(zeros));
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
