// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>

#include <magr/detail/share_rows.hpp>
#include <magr/grid/code_map.hpp>
#include <magr/grid/quantized_matrix.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar Scalar>
matrix<Scalar> dequantize(const quantized_matrix<Scalar>& q, executor_ref exec) {
    matrix<Scalar> weights(q.codes.rows(), q.codes.cols());
    with_code_map(q, [&](const auto& map_of) {
        share_rows(q.codes.rows(), exec, [&](index_t first, index_t last) {
            for (index_t i = first; i < last; ++i) {
                const std::uint8_t* const codes = q.codes.data() + i * q.codes.cols();
                Scalar* const row = weights.data() + i * q.codes.cols();
                for (index_t j = 0; j < q.codes.cols(); ++j) {
                    const index_t group = q.group_of_column[static_cast<std::size_t>(j)];
                    const auto map = map_of(q.scales(i, group), q.zeros(i, group));
                    row[j] = weight_of_code(map, static_cast<Scalar>(codes[j]));
                }
            }
        });
    });
    return weights;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
