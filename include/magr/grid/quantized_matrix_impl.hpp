// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>

#include <magr/grid/code_map.hpp>
#include <magr/grid/quantized_matrix.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar Scalar>
matrix<Scalar> dequantize(const quantized_matrix<Scalar>& q) {
    matrix<Scalar> weights(q.codes.rows(), q.codes.cols());
    with_code_map(q, [&](const auto& map_of) {
        for (index_t i = 0; i < q.codes.rows(); ++i)
            for (index_t j = 0; j < q.codes.cols(); ++j) {
                const index_t group = q.group_of_column[static_cast<std::size_t>(j)];
                const auto map = map_of(q.scales(i, group), q.zeros(i, group));
                weights(i, j) = weight_of_code(map, static_cast<Scalar>(q.codes(i, j)));
            }
    });
    return weights;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
