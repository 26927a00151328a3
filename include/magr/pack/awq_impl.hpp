// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>

#include <magr/grid/quantized_matrix.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/pack/awq.hpp>
#include <magr/pack/format_rules.hpp>
#include <magr/pack/packing.hpp>
#include <magr/pack/stored_numbers.hpp>

namespace magr {
namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Which of eight neighbours lies at place k of a word, counted from its lowest bits.
inline constexpr index_t awq_order[] = {0, 2, 4, 6, 1, 3, 5, 7};

/// Puts each row's codes into that order or back, eight at a time.
template <bool Back>
[[nodiscard]] matrix<std::uint8_t> awq_interleaved(matrix<std::uint8_t> codes) {
    std::uint8_t eight[8];
    std::uint8_t* const end = codes.data() + codes.rows() * codes.cols();
    for (std::uint8_t* at = codes.data(); at != end; at += 8) {
        for (index_t k = 0; k < 8; ++k) eight[k] = at[k];
        for (index_t k = 0; k < 8; ++k) at[Back ? awq_order[k] : k] = eight[Back ? k : awq_order[k]];
    }
    return codes;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar Scalar>
awq_tensors pack_awq(const quantized_matrix<Scalar>& q) {
    detail::require_packable("pack_awq", packed_format::awq, q);
    detail::require_stored_exactly("pack_awq", "scale", q.scales, storage_type::f16);
    const auto words = [](const matrix<std::uint8_t>& codes) {
        return detail::pack_rows<std::int32_t>(detail::awq_interleaved<false>(detail::transposed(codes)), 4);
    };
    return {q.group_size, words(q.codes), words(detail::to_codes(q.zeros)), detail::transposed(detail::half_bits(q.scales))};
}

MAGR_CORE quantized_matrix<float> unpack_awq(const awq_tensors& packed) {
    constexpr const char* function = "unpack_awq";
    const index_t cols = packed.qweight.rows();
    const index_t rows = packed.scales.cols();
    const grid_options options{.group_size = packed.group_size, .storage = storage_type::f16};
    const index_t groups = detail::require_unpackable(function, packed_format::awq, rows, cols, options);
    detail::require_shape(function, "qweight", packed.qweight.view(), cols, rows / 8);
    detail::require_shape(function, "qzeros", packed.qzeros.view(), groups, rows / 8);
    detail::require_shape(function, "scales", packed.scales.view(), groups, rows);
    const auto codes = [rows](const matrix<std::int32_t>& words) {
        return detail::transposed(detail::awq_interleaved<true>(detail::unpack_rows(words, 4, rows)));
    };
    return detail::finish_unpacked(function, options, codes(packed.qweight), detail::half_values(detail::transposed(packed.scales)),
                                   detail::to_numbers(codes(packed.qzeros)));
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
