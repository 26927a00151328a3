// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include <magr/detail/finite.hpp>
#include <magr/grid/code_map.hpp>
#include <magr/grid/quantized_matrix.hpp>
#include <magr/grid/storage.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/refine/error_state.hpp>
#include <magr/refine/packed_gram.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// gradient <- gradient + change H. The columns of `change` are those of H from `first` on. Rows without a change, which are most of them
/// after the first pass, are left out; that does not change the bits of the others.
inline void update_gradient(error_state& state, matrix_view<const double> change, const packed_gram& H, index_t first) {
    std::vector<index_t> changed;
    for (index_t i = 0; i < change.rows(); ++i) {
        index_t k = 0;
        while (k < change.cols() && change(i, k) == 0) ++k;
        if (k < change.cols()) changed.push_back(i);
    }
    const auto count = static_cast<index_t>(changed.size());
    if (4 * count > 3 * change.rows()) return H.add_product(change, first, state.gradient, state.scratch.data());
    const auto row = [&](index_t i) { return changed[static_cast<std::size_t>(i)]; };
    col_major_matrix<double> some(count, change.cols()), gradient(count, H.cols());
    for (index_t k = 0; k < change.cols(); ++k)
        for (index_t i = 0; i < count; ++i) some(i, k) = change(row(i), k);
    for (index_t k = 0; k < H.cols(); ++k)
        for (index_t i = 0; i < count; ++i) gradient(i, k) = state.gradient(row(i), k);
    H.add_product(as_const_view(some), first, gradient, state.scratch.data());
    for (index_t k = 0; k < H.cols(); ++k)
        for (index_t i = 0; i < count; ++i) state.gradient(row(i), k) = gradient(i, k);
}

/// Runs one pass of coordinate descent over some rows and returns how many codes changed.
template <compute_scalar Scalar>
[[nodiscard]] index_t descend(quantized_matrix<Scalar>& q, const packed_gram& gram, std::span<const index_t> order,
                              double denominator_offset, error_state& state) {
    constexpr index_t block = packed_gram::square;
    const index_t n = gram.cols();
    col_major_matrix<double> memory(state.rows(), block + 1);
    auto change = memory.leftCols(block);
    auto gradient = memory.col(block);
    index_t changes = 0;
    for (index_t begin = 0; begin < n; begin += block) {
        const index_t width = (std::min)(block, n - begin);
        const index_t changes_before = changes;
        change.setZero();
        for (index_t k = begin; k < begin + width; ++k) {
            const double curvature = gram.diagonal(k);
            if (curvature <= 0) continue;  // a dead column: every code is equally good
            gradient = state.gradient.col(k);
            gradient.noalias() += change.leftCols(k - begin) * Eigen::Map<const Eigen::VectorXd>(gram.own_column(k), k - begin);
            const index_t j = order[static_cast<std::size_t>(k)];
            const index_t group = q.group_of_column[static_cast<std::size_t>(j)];
            const double denominator = curvature + denominator_offset;
            with_code_map(q, [&](const auto& map_of) {
                for (index_t i = 0; i < state.rows(); ++i) {
                    const index_t row = state.first_row + i;
                    const auto map = map_of(q.scales(row, group), q.zeros(row, group));
                    // Most codes stay: the best weight is less than half the way to the next grid point.
                    if (std::abs(gradient[i]) < 0.49 * static_cast<double>(map.least_distance()) * denominator) continue;
                    const Scalar now = weight_of_code(map, static_cast<Scalar>(q.codes(row, j)));
                    const double wanted = static_cast<double>(now) - gradient[i] / denominator;
                    const Scalar steps = steps_on_grid(map, limited_to<Scalar>(wanted), row, j);
                    const double step = static_cast<double>(map.weight(steps)) - static_cast<double>(now);
                    const double gain = step * (0.5 * curvature * step + gradient[i]);
                    // a smaller gain could be rounding, and would let codes oscillate
                    if (!(gain < -1e-12 * std::abs(step * gradient[i])) || !is_finite(gain)) continue;
                    const auto code = static_cast<std::uint8_t>(map.code(steps));
                    if (code == q.codes(row, j)) continue;  // with fused multiply-adds its step is a rounding error, not zero
                    q.codes(row, j) = code;
                    change(i, k - begin) = step;
                    state.error(i, k) += step;
                    ++changes;
                }
            });
        }
        if (changes > changes_before) update_gradient(state, as_const_view(change.leftCols(width)), gram, begin);
    }
    return changes;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
