// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>

#include <magr/detail/aligned_buffer.hpp>
#include <magr/detail/contract.hpp>
#include <magr/detail/squares.hpp>
#include <magr/transform/butterfly.hpp>
#include <magr/transform/random_hadamard.hpp>
#include <magr/transform/rotation.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

MAGR_CORE std::shared_ptr<const rotation> make_rotation(const char* function, const char* argument, rotation_kind kind, index_t size,
                                                        std::uint64_t seed, std::uint64_t side, executor_ref exec) {
    constexpr index_t largest = index_t{1} << 24;
    require_enumerator(function, "kind", kind);
    if (size < 1 || size > largest) raise<shape_error>(concat(function, ": ", argument, " must be 1..", largest, ", it is ", size));
    if (kind == rotation_kind::orthogonal) return std::make_shared<butterfly>(size, seed, side, exec);
    if (!random_hadamard::has(size))
        raise<option_error>(
            concat(function, ": kind hadamard needs an even number of ", argument, ", there are ", size, "; orthogonal takes any number"));
    return std::make_shared<random_hadamard>(size, seed, side, exec);
}

template <compute_scalar Scalar>
void rotate_rows(const rotation& V, matrix_view<Scalar> M, bool transposed, executor_ref exec) {
    constexpr index_t strip = 32;
    const index_t n = M.cols(), strips = (M.rows() + strip - 1) / strip, widest = (std::min)(strip, M.rows());
    const index_t memory_size = n * widest + V.scratch_size(widest);
    const aligned_buffer<double> memory(memory_size * exec.concurrency());
    exec.parallel_for(strips, [&](index_t task, index_t worker) {
        const index_t first = task * strip, rows = (std::min)(strip, M.rows() - first);
        double* const own = memory.data() + worker * memory_size;
        const matrix_view<double> x(own, n, rows);
        const matrix_view<Scalar> m = M.block(first, 0, rows, n).transposed();
        visit_in_squares(rows, n, [&](index_t i, index_t k) { x(k, i) = static_cast<double>(m(k, i)); });
        V.apply(x, transposed, own + n * rows);
        visit_in_squares(rows, n, [&](index_t i, index_t k) { m(k, i) = static_cast<Scalar>(x(k, i)); });
    });
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
