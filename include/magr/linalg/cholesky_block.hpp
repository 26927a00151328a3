// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>

#include <magr/detail/finite.hpp>
#include <magr/kernels/register_tile.hpp>
#include <magr/linalg/block_row.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/simd/pack.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// A block of at most side() rows and columns on the diagonal, factored: A = L L^T. It solves systems with L and L^T for many right-hand
/// sides at once, laid out as the right operand of `kernels::multiply_tile`: element (k, c) of a panel at panel[k * cols + c].
///
/// It reduces both to products of register tiles and to triangles of one tile's height. S = -(L + L^T) off the diagonal is packed for the
/// tiles, so one row of tiles of S works in both directions: its part before the diagonal for L, the part after it for L^T.
///
/// @par Cost      factor: side^3 / 6 multiply-adds; forward, backward: side^2 / 2 for each right-hand side; allocates 2 side^2 numbers once
/// @par Numerics  substitution, by rows: as stable as the textbook's, with the reciprocals of the diagonal
template <compute_scalar T, class Arch = simd::default_arch>
class cholesky_block {
    using tile = kernels::register_tile<T, Arch>;

public:
    static constexpr index_t cols = tile::cols;

    /// Rows of the largest block of an n x n matrix: large blocks make the products efficient, small ones leave most work to the products.
    [[nodiscard]] static constexpr index_t side_for(index_t n) noexcept {
        const index_t strips = n < 1024 ? 1 : n < 2048 ? 2 : 4;
        return (std::min)(strips * block_row<T, Arch>::strip, kernels::round_up(n, tile::rows));
    }

    /// How many numbers it allocates.
    [[nodiscard]] static constexpr index_t elements(index_t n) noexcept {
        const index_t side = side_for(n);
        return side * side + kernels::round_up(side, cols) * side + side;
    }

    explicit cholesky_block(index_t n)
        : side_(side_for(n)), packed_(side_ * side_), upper_(kernels::round_up(side_, cols) * side_), diagonal_(side_) {}

    [[nodiscard]] index_t side() const noexcept { return side_; }
    /// How many numbers a panel has.
    [[nodiscard]] index_t panel_size() const noexcept { return side_ * cols; }

    /// Factors A, reading its lower triangle; false if a pivot is not positive or not finite.
    [[nodiscard]] bool factor(matrix_view<const T> A) noexcept {
        MAGR_ASSERT(A.rows() == A.cols() && A.cols() <= side_);
        size_ = A.cols();
        const index_t panels = kernels::round_up(size_, cols) / cols;
        std::fill_n(upper_.data(), panels * panel_size(), T(0));
        for (index_t i = 0; i < size_; ++i)
            for (index_t j = 0; j <= i; ++j) upper(i, j) = upper(j, i) = A(i, j);

        for (index_t first = 0; first < size_; first += tile::rows) {
            T* const row = packed_.data() + first * side_;
            const index_t high = (std::min)(tile::rows, size_ - first);
            for (index_t k = 0; k < first; ++k)
                for (index_t r = 0; r < tile::rows; ++r) row[k * tile::rows + r] = r < high ? -upper(k, first + r) : T(0);
            for (index_t p = first / cols; p < panels; ++p) {
                T* const panel = upper_.data() + p * panel_size();
                kernels::multiply_tile(first, row, panel, panel + first * cols, cols, Arch{});
            }
            if (!factor_tile(first, high)) return false;
            for (index_t p = first / cols; p < panels; ++p) substitute<false>(first, upper_.data() + p * panel_size());
        }
        for (index_t first = 0; first < size_; first += tile::rows)
            for (index_t k = first + tile::rows; k < padded(); ++k)
                for (index_t r = 0; r < tile::rows; ++r)
                    packed_.data()[first * side_ + k * tile::rows + r] = k < size_ ? -upper(first + r, k) : T(0);
        return true;
    }

    /// Whether the squares of the reciprocals of L's diagonal, lower bounds of the diagonal of the inverse, are finite.
    [[nodiscard]] bool has_finite_inverse() const noexcept {
        constexpr T least = T(1) / (std::numeric_limits<T>::max)();
        return std::all_of(diagonal_.data(), diagonal_.data() + size_, [](T pivot) { return pivot * pivot > least; });
    }

    /// Writes the factor into the lower triangle of A.
    void store(matrix_view<T> A) const noexcept {
        for (index_t i = 0; i < size_; ++i) {
            const T* const row = packed_.data() + (i - i % tile::rows) * side_ + i % tile::rows;
            for (index_t j = 0; j < i; ++j) A(i, j) = -row[j * tile::rows];
            A(i, i) = diagonal_.data()[i];
        }
    }

    /// Rows of a panel: those of the block and zeros up to the height of a register tile.
    [[nodiscard]] index_t padded() const noexcept { return kernels::round_up(size_, tile::rows); }

    /// Copies B, with as many rows as the block and at most `cols` columns, into a panel.
    void load(matrix_view<const T> B, T* panel) const noexcept {
        const index_t wide = B.cols();
        if (wide < cols || padded() > size_) std::fill_n(panel, padded() * cols, T(0));
        if (B.col_stride() == 1) {
            for (index_t k = 0; k < size_; ++k)
                for (index_t c = 0; c < wide; ++c) panel[k * cols + c] = B(k, c);
        } else {
            for (index_t c = 0; c < wide; ++c)
                for (index_t k = 0; k < size_; ++k) panel[k * cols + c] = B(k, c);
        }
    }

    /// B <- factor * panel
    void store(const T* panel, T factor, matrix_view<T> B) const noexcept {
        if (B.col_stride() == 1) {
            for (index_t k = 0; k < size_; ++k)
                for (index_t c = 0; c < B.cols(); ++c) B(k, c) = factor * panel[k * cols + c];
        } else {
            for (index_t c = 0; c < B.cols(); ++c)
                for (index_t k = 0; k < size_; ++k) B(k, c) = factor * panel[k * cols + c];
        }
    }

    /// panel <- L^-1 panel
    void forward(T* panel) const noexcept {
        for (index_t first = 0; first < size_; first += tile::rows) {
            kernels::multiply_tile(first, packed_.data() + first * side_, panel, panel + first * cols, cols, Arch{});
            substitute<false>(first, panel);
        }
    }

    /// panel <- L^-T panel
    void backward(T* panel) const noexcept {
        for (index_t first = padded() - tile::rows; first >= 0; first -= tile::rows) {
            const index_t after = first + tile::rows;
            kernels::multiply_tile(padded() - after, packed_.data() + first * side_ + after * tile::rows, panel + after * cols,
                                   panel + first * cols, cols, Arch{});
            substitute<true>(first, panel);
        }
    }

    /// panel <- columns first, .., first + cols - 1 of A^-1
    void inverse(index_t first, T* panel) const noexcept {
        std::fill_n(panel, padded() * cols, T(0));
        for (index_t c = 0; c < (std::min)(cols, size_ - first); ++c) panel[(first + c) * cols + c] = 1;
        forward(panel);
        backward(panel);
    }

private:
    [[nodiscard]] T& upper(index_t i, index_t j) noexcept { return upper_.data()[j / cols * panel_size() + i * cols + j % cols]; }

    /// Computes the diagonal tile of S, whose own diagonal holds the reciprocals of L's.
    [[nodiscard]] bool factor_tile(index_t first, index_t high) noexcept {
        T* const s = packed_.data() + first * side_ + first * tile::rows;
        std::fill_n(s, tile::rows * tile::rows, T(0));
        T lower[tile::rows][tile::rows];
        for (index_t r = 0; r < high; ++r)
            for (index_t q = 0; q <= r; ++q) {
                T sum = upper(first + r, first + q);
                for (index_t k = 0; k < q; ++k) sum -= lower[r][k] * lower[q][k];
                if (q == r) {
                    if (!(sum > 0 && is_finite(sum))) return false;
                    lower[r][r] = std::sqrt(sum);
                    diagonal_.data()[first + r] = lower[r][r];
                    s[r * tile::rows + r] = 1 / lower[r][r];
                } else {
                    lower[r][q] = sum * s[q * tile::rows + q];
                    s[q * tile::rows + r] = s[r * tile::rows + q] = -lower[r][q];
                }
            }
        return true;
    }

    /// Solves with the diagonal tile of L or L^T whose rows start at `first`, in place in the same rows of a panel.
    template <bool Transposed>
    void substitute(index_t first, T* panel) const noexcept {
        using traits = simd::pack_traits<T, Arch>;
        const T* const s = packed_.data() + first * side_ + first * tile::rows;
        T* const x = panel + first * cols;
        constexpr index_t start = Transposed ? tile::rows - 1 : 0, step = Transposed ? -1 : 1;
        for (index_t r = start; r >= 0 && r < tile::rows; r += step) {
            auto left = traits::load(x + r * cols), right = traits::load(x + r * cols + tile::lanes);
            for (index_t q = start; q != r; q += step) {
                const auto f = traits::broadcast(s[q * tile::rows + r]);
                left = simd::fma(f, traits::load(x + q * cols), left);
                right = simd::fma(f, traits::load(x + q * cols + tile::lanes), right);
            }
            const auto reciprocal = traits::broadcast(s[r * tile::rows + r]);
            simd::store(x + r * cols, left * reciprocal);
            simd::store(x + r * cols + tile::lanes, right * reciprocal);
        }
    }

    index_t side_;
    index_t size_ = 0;
    aligned_buffer<T> packed_;    // S, in rows of tiles: element (first + r, k) at first * side_ + k * tile::rows + r
    aligned_buffer<T> upper_;     // the block while it is factored: its columns in panels, at the end L^T
    aligned_buffer<T> diagonal_;  // of L
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
