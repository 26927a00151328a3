// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include <magr/detail/aligned_buffer.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/kernels/multiply_add.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Calls f(first, turned, scratch) for 96 rows of M at a time, in parallel. `turned` holds them as columns, in double, for f to change:
/// products and triangular solves run along its rows.
///
/// @param order    row k of `turned` is column order[k] of M
/// @param scratch  what `kernels::multiply_add` needs
template <class F>
void for_each_row_panel(const matrix_ref& M, std::span<const index_t> order, executor_ref exec, const F& f) {
    constexpr index_t width = kernels::block_side;
    constexpr index_t scratch_size = kernels::product_blocks<double, simd::default_arch>::scratch;
    const aligned_buffer<double> memory(exec.concurrency() * scratch_size);
    exec.parallel_for((M.rows() + width - 1) / width, [&](index_t task, index_t worker) {
        const index_t first = task * width, count = (std::min)(width, M.rows() - first);
        matrix<double> turned(M.cols(), count);
        std::vector<double> row(static_cast<std::size_t>(M.cols()));
        for (index_t i = 0; i < count; ++i) {
            M.load_row(first + i, 0, M.cols(), row.data());
            for (index_t k = 0; k < M.cols(); ++k) turned(k, i) = row[static_cast<std::size_t>(order[static_cast<std::size_t>(k)])];
        }
        f(first, turned.view(), memory.data() + worker * scratch_size);
    });
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
