// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include <magr/grid/quantized_matrix.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/pack/format_rules.hpp>
#include <magr/pack/gptq.hpp>
#include <magr/pack/packing.hpp>
#include <magr/pack/stored_numbers.hpp>

namespace magr {
namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

[[nodiscard]] constexpr packed_format format_of(gptq_version version) noexcept {
    return version == gptq_version::v1 ? packed_format::gptq_v1 : packed_format::gptq_v2;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar Scalar>
gptq_tensors pack_gptq(const quantized_matrix<Scalar>& q, gptq_version version) {
    detail::require_enumerator("pack_gptq", "version", version);
    detail::require_packable("pack_gptq", detail::format_of(version), q, detail::group_order::any);
    detail::require_stored_exactly("pack_gptq", "scale", q.scales, storage_type::f16);
    matrix<std::uint8_t> zeros = detail::to_codes(q.zeros);
    if (version == gptq_version::v1)
        for (index_t i = 0; i < zeros.rows(); ++i)
            for (index_t g = 0; g < zeros.cols(); ++g) {
                if (zeros(i, g) == 0)
                    detail::raise<value_error>(detail::concat("pack_gptq: zero point (row ", i, ", group ", g,
                                                              ") must be at least 1 in version v1, which stores it less one, it is 0; "
                                                              "use gptq_version::v2 or zero_point::none"));
                --zeros(i, g);
            }
    return {version,
            q.bits,
            q.group_size,
            detail::transposed(detail::pack_rows<std::int32_t>(q.codes, q.bits)),
            detail::pack_rows<std::int32_t>(detail::transposed(zeros), q.bits),
            detail::transposed(detail::half_bits(q.scales)),
            detail::to_group_index(q.group_of_column)};
}

MAGR_CORE quantized_matrix<float> unpack_gptq(const gptq_tensors& packed) {
    constexpr const char* function = "unpack_gptq";
    detail::require_enumerator(function, "version", packed.version);
    const auto cols = static_cast<index_t>(packed.g_idx.size());
    const index_t rows = packed.scales.cols();
    const grid_options options{.bits = packed.bits, .group_size = packed.group_size, .storage = storage_type::f16};
    const index_t groups = detail::require_unpackable(function, detail::format_of(packed.version), rows, cols, options);
    detail::require_shape(function, "qweight", packed.qweight.view(), cols * packed.bits / 32, rows);
    detail::require_shape(function, "qzeros", packed.qzeros.view(), groups, rows * packed.bits / 32);
    detail::require_shape(function, "scales", packed.scales.view(), groups, rows);

    matrix<float> zeros = detail::to_numbers(detail::transposed(detail::unpack_rows(packed.qzeros, packed.bits, rows)));
    if (packed.version == gptq_version::v1)
        for (index_t i = 0; i < rows; ++i)
            for (index_t g = 0; g < groups; ++g) ++zeros(i, g);
    return detail::finish_unpacked(function, options, detail::unpack_rows(detail::transposed(packed.qweight), packed.bits, cols),
                                   detail::half_values(detail::transposed(packed.scales)), std::move(zeros), packed.g_idx);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
