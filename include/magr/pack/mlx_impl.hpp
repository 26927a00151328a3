// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

#include <magr/grid/quantized_matrix.hpp>
#include <magr/grid/storage.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/pack/format_rules.hpp>
#include <magr/pack/mlx.hpp>
#include <magr/pack/packing.hpp>
#include <magr/pack/stored_numbers.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar Scalar>
mlx_tensors pack_mlx(const quantized_matrix<Scalar>& q) {
    constexpr const char* function = "pack_mlx";
    detail::require_packable(function, packed_format::mlx, q);
    const storage_type type = detail::type_in_file(q.storage);
    detail::require_stored_exactly(function, "scale", q.scales, type);
    matrix<Scalar> biases = q.zeros;
    if (q.zero_point != zero_point::offset)
        for (index_t i = 0; i < biases.rows(); ++i)
            for (index_t g = 0; g < biases.cols(); ++g) {
                // exact in double: a zero point has at most 8 bits, and a stored scale at most 24
                const double bias = -static_cast<double>(q.scales(i, g)) * static_cast<double>(q.zeros(i, g));
                if (round_to_storage<double>(bias, type) != bias)
                    detail::raise<value_error>(detail::concat(function, ": -scale * zero point (row ", i, ", group ", g,
                                                              ") must be a number of type ", to_string(type), ", it is ", bias,
                                                              "; quantize with zero_point::offset"));
                biases(i, g) = static_cast<Scalar>(bias);
            }
    detail::require_stored_exactly(function, "offset", biases, type);
    return {q.bits, q.group_size, detail::pack_rows<std::uint32_t>(q.codes, q.bits), detail::store_matrix(q.scales, type),
            detail::store_matrix(biases, type)};
}

MAGR_CORE quantized_matrix<float> unpack_mlx(const mlx_tensors& packed) {
    constexpr const char* function = "unpack_mlx";
    const index_t rows = packed.scales.rows;
    const index_t cols = packed.weight.cols() * 32 / (std::max)(packed.bits, 1);
    const grid_options options{
        .bits = packed.bits, .zero_point = zero_point::offset, .group_size = packed.group_size, .storage = packed.scales.type};
    const index_t groups = detail::require_unpackable(function, packed_format::mlx, rows, cols, options);
    detail::require_shape(function, "weight", packed.weight.view(), rows, detail::packed_words<std::uint32_t>(cols, packed.bits));
    matrix<float> scales = detail::load_matrix(function, "scales", packed.scales, rows, groups);
    matrix<float> biases = detail::load_matrix(function, "biases", packed.biases, rows, groups);
    return detail::finish_unpacked(function, options, detail::unpack_rows(packed.weight, packed.bits, cols), std::move(scales),
                                   std::move(biases));
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
