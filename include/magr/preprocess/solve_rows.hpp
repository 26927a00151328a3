// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include <magr/detail/aligned_buffer.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/preprocess/progress_counter.hpp>
#include <magr/solver/layer_problem.hpp>
#include <magr/solver/row_method.hpp>
#include <magr/solver/row_report.hpp>
#include <magr/solver/row_solver.hpp>
#include <magr/solver/row_tile.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Solves some rows of W, tile by tile, until the observer has enough. Rows that are not reached, and their reports, stay as they are.
/// @param out  may be W
/// @return     whether all rows were reached
template <compute_scalar S>
[[nodiscard]] bool solve_rows(const row_method<S>& method, const layer_problem& problem, const solver_settings& settings, double alpha,
                              const matrix_ref& W, std::span<const index_t> rows, std::span<row_report> reports,
                              const mutable_matrix_ref& out, progress_counter& progress, executor_ref exec) {
    constexpr index_t height = row_tile<S>::capacity;
    const auto total = static_cast<index_t>(rows.size());
    const index_t tiles = (total + height - 1) / height;
    const index_t workers = exec.concurrency();
    std::vector<row_tile<S>> memory;
    memory.reserve(static_cast<std::size_t>(workers));
    for (index_t k = 0; k < workers; ++k) memory.emplace_back(problem.cols(), problem.groups());
    const aligned_buffer<S> diagonal(problem.cols());
    for (index_t j = 0; j < problem.cols(); ++j) diagonal.data()[j] = static_cast<S>(problem.diagonal(j));
    const index_t batch = progress.is_used() ? 4 * workers : tiles;
    for (index_t first = 0; first < tiles; first += batch) {
        const index_t begin = first * height, end = (std::min)((first + batch) * height, total);
        exec.parallel_for((std::min)(batch, tiles - first), [&](index_t task, index_t worker) {
            const index_t row = begin + task * height;
            row_solver<S> solver(method, problem, diagonal.data(), settings, memory[static_cast<std::size_t>(worker)]);
            solver.solve(W, rows.subspan(static_cast<std::size_t>(row), static_cast<std::size_t>((std::min)(height, end - row))), alpha,
                         reports, out);
        });
        const auto batch_rows = rows.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
        const auto done = std::count_if(batch_rows.begin(), batch_rows.end(),
                                        [&](index_t row) { return reports[static_cast<std::size_t>(row)].state != row_state::imprecise; });
        if (!progress.add(static_cast<index_t>(done))) return false;
    }
    return true;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
