// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include <magr/calibration/hessian.hpp>
#include <magr/detail/aligned_buffer.hpp>
#include <magr/detail/convert.hpp>
#include <magr/kernels/packed_product.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// H + damping * mean(diag H) I with its columns in another order, in double. Dead columns stay zero and do not enter the mean.
/// @param H       of a `live_gram`
[[nodiscard]] inline row_major_matrix<double> load_damped(const matrix_ref& H, std::span<const index_t> order, double damping,
                                                          executor_ref exec) {
    const index_t n = H.cols();
    row_major_matrix<double> out(n, n);
    const double added = damping * find_live_columns(H, 0).mean;
    std::vector<index_t> position(static_cast<std::size_t>(n));
    const auto column = [&](index_t k) { return order[static_cast<std::size_t>(k)]; };
    for (index_t k = 0; k < n; ++k) position[static_cast<std::size_t>(column(k))] = k;
    constexpr index_t side = 32;
    const index_t strips = (n + side - 1) / side;
    // Row by row what the lower triangle of H has, then the other half in squares that stay in the cache.
    exec.parallel_for(strips, [&](index_t strip, index_t) {
        std::vector<double> row(static_cast<std::size_t>(n));
        for (index_t k = strip * side; k < (std::min)((strip + 1) * side, n); ++k) {
            const index_t a = column(k);
            H.load_row(a, 0, a + 1, row.data());
            for (index_t b = 0; b <= a; ++b) out(k, position[static_cast<std::size_t>(b)]) = row[static_cast<std::size_t>(b)];
            if (out(k, k) > 0) out(k, k) += added;
        }
    });
    exec.parallel_for(strips, [&](index_t strip, index_t) {
        for (index_t l0 = 0; l0 <= strip * side; l0 += side)
            for (index_t k = strip * side; k < (std::min)((strip + 1) * side, n); ++k)
                for (index_t l = l0; l < (std::min)(l0 + side, k); ++l) {
                    if (column(k) > column(l))
                        out(l, k) = out(k, l);
                    else
                        out(k, l) = out(l, k);
                }
    });
    return out;
}

/// A symmetric matrix, packed once as the left operand H^T of products for many rows: (E H)^T = H E^T. It also keeps an unpacked copy of
/// the squares on its diagonal.
class packed_gram {
    using tile = kernels::register_tile<double, simd::default_arch>;
    static constexpr index_t depth = kernels::product_blocks<double, simd::default_arch>::depth;

public:
    static constexpr index_t square = 64;  ///< side of the squares on the diagonal

    /// Bytes that it allocates.
    [[nodiscard]] static constexpr std::size_t bytes(index_t n) noexcept {
        return static_cast<std::size_t>((kernels::round_up(n, tile::rows) + square) * n) * sizeof(double);
    }

    packed_gram(const row_major_matrix<double>& H, executor_ref exec)
        : columns_(H.rows()), rows_(kernels::round_up(H.rows(), tile::rows)), packed_(rows_ * H.cols()), squares_(square, H.rows()) {
        exec.parallel_for(rows_ / tile::rows, [&](index_t task, index_t) {
            const index_t first = task * tile::rows;
            const auto rows = as_const_view(H).block(first, 0, (std::min)(tile::rows, H.rows() - first), H.cols());
            kernels::pack_left(rows, rows_, first, packed_.data());
        });
        for (index_t first = 0; first < columns_; first += square) {
            const index_t size = (std::min)(square, columns_ - first);
            squares_.block(0, first, size, size) = H.block(first, first, size, size);
        }
    }

    [[nodiscard]] index_t cols() const noexcept { return columns_; }
    [[nodiscard]] double diagonal(index_t k) const noexcept { return squares_(k % square, k); }
    /// Column k of its square on the diagonal: the elements from row k - k % square on.
    [[nodiscard]] const double* own_column(index_t k) const noexcept { return squares_.data() + k * square; }

    /// The number of elements of scratch memory that a product of this many rows needs.
    [[nodiscard]] static constexpr index_t scratch_size(index_t rows) noexcept { return kernels::round_up(rows, tile::cols) * depth; }

    /// G <- G + E H', where H' are as many rows of H as E has columns, beginning with `first`.
    void add_product(matrix_view<const double> E, index_t first, col_major_matrix<double>& G, double* scratch) const noexcept {
        add_product(E, first, 0, G, scratch);
    }

    /// The product of E with as many rows and columns of H as E has columns, beginning with `first`.
    [[nodiscard]] col_major_matrix<double> own_product(matrix_view<const double> E, index_t first, double* scratch) const {
        const index_t begin = first - first % tile::rows;  // the first row of its tile
        col_major_matrix<double> product = col_major_matrix<double>::Zero(E.rows(), first + E.cols() - begin);
        add_product(E, first, begin, product, scratch);
        return product.rightCols(E.cols());
    }

private:
    /// The same for as many columns of H as G has, beginning with `begin`, a multiple of tile::rows.
    void add_product(matrix_view<const double> E, index_t first, index_t begin, col_major_matrix<double>& G,
                     double* scratch) const noexcept {
        const matrix_view<double> transposed(G.data(), G.cols(), G.rows(), G.rows());
        for (index_t done = 0; done < E.cols();) {
            const index_t k = first + done, k0 = k - k % depth, d = (std::min)(depth, columns_ - k0);
            const index_t width = (std::min)(E.cols() - done, k0 + d - k);
            for (index_t j = 0; j < E.rows(); j += tile::cols)
                kernels::pack_panel<tile::cols>(E.block(j, done, (std::min)(tile::cols, E.rows() - j), width), 1.0, scratch + j * d);
            kernels::multiply_panels(transposed, width, packed_.data() + k0 * rows_ + begin * d + (k - k0) * tile::rows, scratch, d);
            done += width;
        }
    }

    index_t columns_;
    index_t rows_;  // rounded up to whole tiles
    aligned_buffer<double> packed_;
    col_major_matrix<double> squares_;
};

/// H + damping mean(diag H) I in this order. H remembers it.
template <int Instance = 0>  // compiled only where it is called
[[nodiscard]] const packed_gram& damped_gram(const hessian& H, std::span<const index_t> order, double damping, executor_ref exec) {
    std::vector<double> key{damping};
    if (!std::is_sorted(order.begin(), order.end())) key.insert(key.end(), order.begin(), order.end());
    return H.remember<packed_gram>(key, [&] { return packed_gram(load_damped(H.live().view(), order, damping, exec), exec); });
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
