// SPDX-License-Identifier: MIT
#pragma once

#include <magr/config.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Calls f(first, last) for strips of rows first..last - 1 that together are all rows. Workers share the strips, which do not depend on
/// them.
template <class F>
void share_rows(index_t rows, executor_ref exec, const F& f) {
    constexpr index_t strip = 64;
    const index_t strips = rows > 0 ? (rows - 1) / strip + 1 : 0;
    exec.parallel_for(strips, [&](index_t task, index_t) {
        const index_t first = task * strip;
        f(first, rows - first < strip ? rows : first + strip);
    });
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
