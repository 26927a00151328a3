// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <memory>
#include <vector>

#include <magr/kernels/multiply_add.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/simd/pack.hpp>

/// What the blocked factorizations share: the factor of a block on the diagonal, and how the rest of the matrix is cut into tasks.
namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Memory that is written before it is read: pages of it that are never written cost nothing.
template <class T>
[[nodiscard]] std::unique_ptr<T[]> uninitialized(index_t size) {
    return std::unique_ptr<T[]>(new T[static_cast<std::size_t>(size)]);
}

/// Consecutive rows or columns.
struct index_range {
    index_t begin = 0;
    index_t size = 0;
};

/// The rows (or columns) of a matrix that lie before and behind a block of them, in pieces of at most `side`.
///
/// The pieces depend on the sizes of matrix and block alone, so that tasks, and with them the bits of results, are the same for every
/// executor.
class pieces_around {
public:
    pieces_around(index_t n, index_range block, index_t side) noexcept
        : n_(n), block_(block), side_(side), before_((block.begin + side - 1) / side) {}

    [[nodiscard]] index_t before() const noexcept { return before_; }
    [[nodiscard]] index_t count() const noexcept { return before_ + (n_ - behind() + side_ - 1) / side_; }
    [[nodiscard]] index_range operator[](index_t piece) const noexcept {
        const bool is_before = piece < before_;
        const index_t begin = is_before ? piece * side_ : behind() + (piece - before_) * side_;
        return {begin, std::min(side_, (is_before ? block_.begin : n_) - begin)};
    }

private:
    [[nodiscard]] index_t behind() const noexcept { return block_.begin + block_.size; }

    index_t n_;
    index_range block_;
    index_t side_;
    index_t before_;
};

/// A block of at most `side` rows and columns on the diagonal, factored: A = L L^T. It solves systems with L and L^T for many right-hand
/// sides at once, laid out as the right operand of `kernels::multiply_tile`: element (k, c) of a panel at panel[k * cols + c].
///
/// Only products of register tiles and triangles of one tile's height remain of it: with S = -(L + L^T) off the diagonal, packed for the
/// tiles, one row of tiles of S serves both directions, its part before the diagonal for L and the part behind it for L^T.
///
/// @par Cost      factor: side^3 / 6 multiply-adds; forward, backward: side^2 / 2 for each right-hand side; allocates 2 side^2 numbers once
/// @par Numerics  substitution, by rows: as stable as the textbook's, with the reciprocals of the diagonal
template <compute_scalar T, class Arch = simd::default_arch>
class cholesky_block {
    using tile = kernels::register_tile<T, Arch>;

public:
    static constexpr index_t side = 192;
    static constexpr index_t cols = tile::cols;
    static constexpr index_t panel_size = side * cols;
    static_assert(side % tile::rows == 0 && side % cols == 0);

    cholesky_block() : packed_(uninitialized<T>(side * side)), upper_(uninitialized<T>(side * side)), diagonal_(uninitialized<T>(side)) {}

    /// Factors A, of which the lower triangle is read; false if a pivot is not positive or not finite.
    [[nodiscard]] bool factor(matrix_view<const T> A) noexcept {
        MAGR_ASSERT(A.rows() == A.cols() && A.cols() <= side);
        size_ = A.cols();
        const index_t panels = (size_ + cols - 1) / cols;
        std::fill_n(upper_.get(), panels * panel_size, T(0));
        for (index_t i = 0; i < size_; ++i)
            for (index_t j = 0; j <= i; ++j) upper(i, j) = upper(j, i) = A(i, j);

        for (index_t first = 0; first < size_; first += tile::rows) {
            T* const row = packed_.get() + first * side;
            const index_t high = std::min(tile::rows, size_ - first);
            for (index_t k = 0; k < first; ++k)
                for (index_t r = 0; r < tile::rows; ++r) row[k * tile::rows + r] = r < high ? -upper(k, first + r) : T(0);
            for (index_t p = first / cols; p < panels; ++p) {
                T* const panel = upper_.get() + p * panel_size;
                kernels::multiply_tile(first, row, panel, panel + first * cols, cols, Arch{});
            }
            if (!factor_tile(first, high)) return false;
            for (index_t p = first / cols; p < panels; ++p) substitute<1>(first, upper_.get() + p * panel_size);
        }
        for (index_t first = 0; first < size_; first += tile::rows)
            for (index_t k = first + tile::rows; k < padded(); ++k)
                for (index_t r = 0; r < tile::rows; ++r)
                    packed_[static_cast<std::size_t>(first * side + k * tile::rows + r)] = k < size_ ? -upper(first + r, k) : T(0);
        return true;
    }

    /// The factor into the lower triangle of A.
    void store(matrix_view<T> A) const noexcept {
        for (index_t i = 0; i < size_; ++i) {
            const T* const row = packed_.get() + (i - i % tile::rows) * side + i % tile::rows;
            for (index_t j = 0; j < i; ++j) A(i, j) = -row[j * tile::rows];
            A(i, i) = diagonal_[static_cast<std::size_t>(i)];
        }
    }

    /// Rows of a panel: those of the block and zeros up to the height of a register tile.
    [[nodiscard]] index_t padded() const noexcept { return (size_ + tile::rows - 1) / tile::rows * tile::rows; }

    /// B, as many rows as the block and at most `cols` columns, into a panel.
    void load(matrix_view<const T> B, T* panel) const noexcept {
        kernels::pack_panel<cols>(B.transposed(), T(1), panel);
        std::fill(panel + size_ * cols, panel + padded() * cols, T(0));
    }

    /// panel <- L^-1 panel
    void forward(T* panel) const noexcept {
        for (index_t first = 0; first < size_; first += tile::rows) {
            kernels::multiply_tile(first, packed_.get() + first * side, panel, panel + first * cols, cols, Arch{});
            substitute<1>(first, panel);
        }
    }

    /// panel <- L^-T panel
    void backward(T* panel) const noexcept {
        for (index_t first = padded() - tile::rows; first >= 0; first -= tile::rows) {
            const index_t behind = first + tile::rows;
            kernels::multiply_tile(padded() - behind, packed_.get() + first * side + behind * tile::rows, panel + behind * cols,
                                   panel + first * cols, cols, Arch{});
            substitute<-1>(first, panel);
        }
    }

private:
    [[nodiscard]] T& upper(index_t i, index_t j) noexcept {
        return upper_[static_cast<std::size_t>(j / cols * panel_size + i * cols + j % cols)];
    }

    /// The tile of S on the diagonal, with the reciprocals of L's diagonal on its own.
    [[nodiscard]] bool factor_tile(index_t first, index_t high) noexcept {
        T* const s = packed_.get() + first * side + first * tile::rows;
        std::fill_n(s, tile::rows * tile::rows, T(0));
        T lower[tile::rows][tile::rows];
        for (index_t r = 0; r < high; ++r)
            for (index_t q = 0; q <= r; ++q) {
                T sum = upper(first + r, first + q);
                for (index_t k = 0; k < q; ++k) sum -= lower[r][k] * lower[q][k];
                if (q == r) {
                    if (!(sum > 0 && sum <= std::numeric_limits<T>::max())) return false;
                    lower[r][r] = std::sqrt(sum);
                    diagonal_[static_cast<std::size_t>(first + r)] = lower[r][r];
                    s[r * tile::rows + r] = 1 / lower[r][r];
                } else {
                    lower[r][q] = sum * s[q * tile::rows + q];
                    s[q * tile::rows + r] = s[r * tile::rows + q] = -lower[r][q];
                }
            }
        return true;
    }

    /// Solves with the tile of L (Step 1) or L^T (Step -1) on the diagonal, whose rows start at `first`, in place in those rows of a panel.
    template <index_t Step>
    void substitute(index_t first, T* panel) const noexcept {
        using traits = simd::pack_traits<T, Arch>;
        const T* const s = packed_.get() + first * side + first * tile::rows;
        T* const x = panel + first * cols;
        constexpr index_t start = Step > 0 ? 0 : tile::rows - 1;
        for (index_t r = start; r >= 0 && r < tile::rows; r += Step) {
            auto left = traits::load(x + r * cols), right = traits::load(x + r * cols + tile::lanes);
            for (index_t q = start; q != r; q += Step) {
                const auto f = traits::broadcast(s[q * tile::rows + r]);
                left = simd::fma(f, traits::load(x + q * cols), left);
                right = simd::fma(f, traits::load(x + q * cols + tile::lanes), right);
            }
            const auto reciprocal = traits::broadcast(s[r * tile::rows + r]);
            simd::store(x + r * cols, left * reciprocal);
            simd::store(x + r * cols + tile::lanes, right * reciprocal);
        }
    }

    index_t size_ = 0;
    std::unique_ptr<T[]> packed_;    // S, in rows of tiles: element (first + r, k) at first * side + k * tile::rows + r
    std::unique_ptr<T[]> upper_;     // the block while it is factored: its columns in panels, L^T in the end
    std::unique_ptr<T[]> diagonal_;  // of L
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
