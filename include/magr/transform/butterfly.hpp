// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <magr/detail/random_stream.hpp>
#include <magr/kernels/multiply_add.hpp>
#include <magr/linalg/haar.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/transform/rotation.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// The streams of random numbers of a rotation. The highest bit tells them from the counters of `stochastic_rounding`, which are columns.
enum class rotation_part : std::uint64_t { first_permutation, last_permutation, first_block, last_block, signs };

[[nodiscard]] inline random_stream stream_of(std::uint64_t seed, std::uint64_t side, rotation_part part, index_t block = 0) noexcept {
    return {seed, std::uint64_t{1} << 63 | side << 56 | static_cast<std::uint64_t>(part) << 48 | static_cast<std::uint64_t>(block)};
}

/// C <- A B for a square A, where the rows of B and C are contiguous but may lie apart.
inline void multiply_block(matrix_view<const double> A, matrix_view<const double> B, matrix_view<double> C, double* scratch) noexcept {
    for (index_t i = 0; i < C.rows(); ++i) std::fill_n(C.data() + i * C.row_stride(), C.cols(), 0.0);
    kernels::multiply_add(C, 1.0, A, B, scratch);
}

using product_scratch = kernels::product_blocks<double, simd::default_arch>;

/// Two factors of blocks between random permutations, the `rotation_kind::orthogonal` of QuIP (arXiv 2307.13304):
///
///   x <- x[first permutation] as a p x q matrix by rows;  column j <- A_j column j;  row i <- B_i row i;  x[last permutation]
class butterfly final : public rotation {
public:
    butterfly(index_t size, std::uint64_t seed, std::uint64_t side, executor_ref exec)
        : size_(size),
          first_(stream_of(seed, side, rotation_part::first_permutation).permutation(size)),
          last_(stream_of(seed, side, rotation_part::last_permutation).permutation(size)) {
        bool even = true;
        for (index_t rest = size, d = 2; rest > 1; ++d) {
            if (d > rest / d) d = rest;
            for (; rest % d == 0; rest /= d, even = !even) (even ? p_ : q_) *= d;
        }
        const auto fill = [&](matrix<double>& blocks, index_t count, index_t side_length, rotation_part part) {
            blocks = matrix<double>(count * side_length, side_length);
            exec.parallel_for(count, [&](index_t block, index_t) {
                random_stream random = stream_of(seed, side, part, block);
                linalg::fill_haar(blocks.view().block(block * side_length, 0, side_length, side_length), random);
            });
        };
        fill(a_, q_, p_, rotation_part::first_block);
        fill(b_, p_, q_, rotation_part::last_block);
    }

    [[nodiscard]] index_t size() const noexcept override { return size_; }
    [[nodiscard]] index_t scratch_size(index_t columns) const noexcept override { return size_ * columns + product_scratch::scratch; }

    void apply(matrix_view<double> x, bool transposed, double* scratch) const noexcept override {
        const index_t columns = x.cols();
        const matrix_view<double> y(scratch, size_, columns);
        double* const rest = scratch + size_ * columns;
        const auto row = [&](const matrix_view<double>& m, index_t k) { return m.data() + k * m.row_stride(); };
        const auto gather = [&](const std::vector<index_t>& p, const auto& from, const auto& to) {  // to_k <- from_p(k)
            for (index_t k = 0; k < size_; ++k) std::copy_n(row(from, p[static_cast<std::size_t>(k)]), columns, row(to, k));
        };
        const auto scatter = [&](const std::vector<index_t>& p, const auto& from, const auto& to) {
            for (index_t k = 0; k < size_; ++k) std::copy_n(row(from, k), columns, row(to, p[static_cast<std::size_t>(k)]));
        };
        const auto on_columns = [&](const auto& from, const auto& to) {
            for (index_t j = 0; j < q_; ++j) multiply_block(block(a_, j, transposed), nth_column(from, j), nth_column(to, j), rest);
        };
        const auto on_rows = [&](const auto& from, const auto& to) {
            for (index_t i = 0; i < p_; ++i)
                multiply_block(block(b_, i, transposed), from.block(i * q_, 0, q_, columns), to.block(i * q_, 0, q_, columns), rest);
        };
        if (!transposed) {
            gather(first_, x, y);
            on_columns(y, x);
            on_rows(x, y);
            gather(last_, y, x);
        } else {
            scatter(last_, x, y);
            on_rows(y, x);
            on_columns(x, y);
            scatter(first_, y, x);
        }
    }

private:
    [[nodiscard]] static matrix_view<const double> block(const matrix<double>& blocks, index_t k, bool transposed) noexcept {
        const auto own = blocks.view().block(k * blocks.cols(), 0, blocks.cols(), blocks.cols());
        return transposed ? own.transposed() : own;
    }
    /// Column j of the p x q matrix of rows of m.
    [[nodiscard]] matrix_view<double> nth_column(const matrix_view<double>& m, index_t j) const noexcept {
        return matrix_view<double>::with_strides(m.data() + j * m.row_stride(), p_, m.cols(), q_ * m.row_stride(), 1);
    }

    index_t size_;
    std::vector<index_t> first_, last_;
    index_t p_ = 1, q_ = 1;
    matrix<double> a_, b_;  // q blocks p x p, and p blocks q x q, one below the other
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
