// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include <magr/detail/share_rows.hpp>
#include <magr/grid/code_map.hpp>
#include <magr/grid/quantized_matrix.hpp>
#include <magr/grid/rounding.hpp>
#include <magr/grid/weight_grids.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar Scalar, rounding_policy<Scalar> Rounding>
[[nodiscard]] quantized_matrix<Scalar> round_onto_grids(std::type_identity_t<matrix_view<const Scalar>> w, weight_grids<Scalar> grids,
                                                        const Rounding& rounding, executor_ref exec) {
    quantized_matrix<Scalar> q{std::move(grids), matrix<std::uint8_t>(w.rows(), w.cols())};
    with_code_map(q, [&](const auto& map_of) {
        share_rows(w.rows(), exec, [&](index_t first, index_t last) {
            for (index_t i = first; i < last; ++i) {
                std::uint8_t* const codes = q.codes.data() + i * w.cols();
                for (index_t j = 0, end; j < w.cols(); j = end) {
                    const index_t group = q.group_of_column[static_cast<std::size_t>(j)];
                    for (end = j + 1; end < w.cols() && q.group_of_column[static_cast<std::size_t>(end)] == group;) ++end;
                    const auto map = map_of(q.scales(i, group), q.zeros(i, group));
                    for (index_t k = j; k < end; ++k)
                        codes[k] = static_cast<std::uint8_t>(map.code(steps_on_grid(map, w(i, k), i, k, rounding)));
                }
            }
        });
    });
    return q;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
