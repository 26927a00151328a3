// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include <magr/grid/quantized_matrix.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/pack/compressed_tensors.hpp>
#include <magr/pack/format_rules.hpp>
#include <magr/pack/packing.hpp>
#include <magr/pack/stored_numbers.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar Scalar>
compressed_tensors_weight pack_compressed_tensors(const quantized_matrix<Scalar>& q) {
    constexpr const char* function = "pack_compressed_tensors";
    detail::require_packable(function, packed_format::compressed_tensors, q, detail::group_order::any);
    const storage_type type = detail::type_in_file(q.storage);
    detail::require_stored_exactly(function, "scale", q.scales, type);
    compressed_tensors_weight packed{.bits = q.bits,
                                     .group_size = q.group_size,
                                     .weight_packed = detail::pack_rows<std::int32_t>(q.codes, q.bits),
                                     .weight_scale = detail::store_matrix(q.scales, type),
                                     .weight_zero_point = {},
                                     .weight_shape = {q.rows(), q.cols()},
                                     .weight_g_idx = {}};
    if (q.zero_point == zero_point::integer)
        packed.weight_zero_point =
            detail::transposed(detail::pack_rows<std::int32_t>(detail::transposed(detail::to_codes(q.zeros)), q.bits));
    if (!detail::has_consecutive_groups(q)) packed.weight_g_idx = detail::to_group_index(q.group_of_column);
    return packed;
}

MAGR_CORE quantized_matrix<float> unpack_compressed_tensors(const compressed_tensors_weight& packed) {
    constexpr const char* function = "unpack_compressed_tensors";
    const auto rows = static_cast<index_t>(packed.weight_shape[0]);
    const auto cols = static_cast<index_t>(packed.weight_shape[1]);
    const bool symmetric = packed.weight_zero_point.empty();
    const grid_options options{.bits = packed.bits,
                               .zero_point = symmetric ? zero_point::none : zero_point::integer,
                               .group_size = packed.group_size,
                               .storage = packed.weight_scale.type};
    const index_t groups = detail::require_unpackable(function, packed_format::compressed_tensors, rows, cols, options);
    detail::require_shape(function, "weight_packed", packed.weight_packed.view(), rows,
                          detail::packed_words<std::int32_t>(cols, packed.bits));
    if (!symmetric)
        detail::require_shape(function, "weight_zero_point", packed.weight_zero_point.view(),
                              detail::packed_words<std::int32_t>(rows, packed.bits), groups);
    matrix<float> scales = detail::load_matrix(function, "weight_scale", packed.weight_scale, rows, groups);
    matrix<float> zeros =
        symmetric
            ? detail::middle_zeros(rows, groups, packed.bits)
            : detail::to_numbers(detail::transposed(detail::unpack_rows(detail::transposed(packed.weight_zero_point), packed.bits, rows)));
    return detail::finish_unpacked(function, options, detail::unpack_rows(packed.weight_packed, packed.bits, cols), std::move(scales),
                                   std::move(zeros), packed.weight_g_idx);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
