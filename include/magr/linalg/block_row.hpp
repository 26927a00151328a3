// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>

#include <magr/detail/aligned_buffer.hpp>
#include <magr/kernels/panels.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/parallel/executor_ref.hpp>

/// Shared by the blocked factorizations: how a matrix is cut into tasks, and the product that updates it.
namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Consecutive rows or columns.
struct index_range {
    index_t begin = 0;
    index_t size = 0;

    [[nodiscard]] index_t end() const noexcept { return begin + size; }
};

/// The rows (or columns) of a matrix that lie before and after a block of them, in pieces of at most `side`.
///
/// They depend only on the sizes of matrix and block, so tasks, and therefore the bits of results, are the same for every executor.
class pieces_around {
public:
    pieces_around(index_t n, index_range block, index_t side) noexcept
        : n_(n), block_(block), side_(side), before_((block.begin + side - 1) / side) {}

    [[nodiscard]] index_t before() const noexcept { return before_; }
    [[nodiscard]] index_t count() const noexcept { return before_ + (n_ - block_.end() + side_ - 1) / side_; }
    [[nodiscard]] index_range operator[](index_t piece) const noexcept {
        const bool is_before = piece < before_;
        const index_t begin = is_before ? piece * side_ : block_.end() + (piece - before_) * side_;
        return {begin, (std::min)(side_, (is_before ? block_.begin : n_) - begin)};
    }

private:
    index_t n_;
    index_range block_;
    index_t side_;
    index_t before_;
};

/// A block of rows X with as many columns as the matrix, packed once per block as both operands of all products X_i^T X_j.
template <compute_scalar T, class Arch = simd::default_arch>
class block_row {
    using tile = kernels::register_tile<T, Arch>;

public:
    /// Columns that are packed together, a multiple of both sides of a register tile: all ranges of columns begin at multiples of it.
    static constexpr index_t strip = kernels::block_side;
    static_assert(strip % tile::rows == 0 && strip % tile::cols == 0);
    /// Rows and columns of a task of `update`: the part of X that it reads as left operand stays in the second-level cache.
    static constexpr index_t side = 3 * strip;

    /// How many numbers it allocates.
    [[nodiscard]] static constexpr index_t elements(index_t height, index_t n) noexcept { return 2 * kernels::round_up(n, strip) * height; }

    block_row(index_t height, index_t n) : height_(height), right_(elements(height, n) / 2), left_(elements(height, n) / 2) {}

    /// `tile::cols` columns of X from column j on, packed as the right operand: element (k, c) at panel(j)[k * tile::cols + c].
    [[nodiscard]] T* panel(index_t j) const noexcept { return right_.data() + j * height_; }

    /// Packs the columns of a strip, times `factor`, as the left operand. Their panels must be filled.
    void pack_left(index_range columns, index_t depth, T factor) const noexcept {
        kernels::repack_left(panel(columns.begin), height_, columns.size, depth, factor, left_.data() + columns.begin * height_, Arch{});
    }

    /// A <- A + factor X^T X in the lower triangle, in rows and columns of the pieces from number `first` on; tiles in parallel.
    void update(matrix_view<T> A, const pieces_around& pieces, index_t first, index_t depth, executor_ref exec) const {
        const index_t count = pieces.count() - first;
        exec.parallel_for(count * (count + 1) / 2, [&](index_t task, index_t) {
            index_t row = 0, column = task;
            for (; column > row; column -= row) ++row;
            update_piece(A, pieces[first + row], pieces[first + column], depth);
        });
    }

private:
    void update_piece(matrix_view<T> A, index_range rows, index_range columns, index_t depth) const noexcept {
        kernels::multiply_panels(A.block(rows.begin, columns.begin, rows.size, columns.size), depth, left_.data() + rows.begin * height_,
                                 panel(columns.begin), height_, rows.begin - columns.begin, Arch{});
    }

    index_t height_;
    aligned_buffer<T> right_, left_;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
